"""`tide.session(...)`: a body that runs only as long as its session may be relied upon."""

from __future__ import annotations

from types import TracebackType
from typing import Literal

import anyio

from tideover.errors import Closed, SessionLost
from tideover.sessions.pool import SessionPool
from tideover.sessions.rules import LeaseRules
from tideover.sessions.session import Session

OnOutage = Literal["lose", "wait"]


class SessionBlock:
    """A session for the length of an `async with` block; made by `Coordinator.session`, which documents it.

    Args:
        pool: Where to open it.
        ttl: Seconds that etcd waits for a renewal.
        on_outage: What passing the deadline means.

    Raises:
        TypeError: `ttl` is not a whole number.
        ValueError: `ttl` is too short, or `on_outage` is none of the two words.
    """

    def __init__(self, pool: SessionPool, ttl: int, *, on_outage: OnOutage) -> None:
        if on_outage not in ("lose", "wait"):
            raise ValueError(f"on_outage must be 'lose' or 'wait', not {on_outage!r}")
        LeaseRules(ttl)
        self._pool = pool
        self._ttl = ttl
        self._strict = on_outage == "lose"
        self._session: Session | None = None
        self._entered = False

    def __repr__(self) -> str:
        """Show the session."""
        return f"<SessionBlock {self._session!r}>" if self._session else f"<SessionBlock of {self._ttl} s>"

    async def __aenter__(self) -> Session:
        """Open the session."""
        self._pool.home.check(self)
        if self._entered:
            raise Closed("a session is entered only once: call session() again")
        self._entered = True
        session = self._session = await self._pool.open(self._ttl, strict=self._strict)
        self._scope = anyio.CancelScope()
        self._scope.__enter__()
        session.bind(self._scope, at_deadline=self._strict)
        return session

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        """Close the session, and say so if it was not to be relied upon when the body ended."""
        self._pool.home.check(self)
        session = self._session
        if session is None:  # pragma: no cover - the language enters before it leaves
            raise Closed("not entered")
        try:
            loss = None if session.orphaned else session.loss()
        except BaseException:
            self._scope.__exit__(exc_type, exc, traceback)
            raise
        session.unbind(self._scope)
        try:
            swallowed = self._scope.__exit__(exc_type, exc, traceback)
        finally:
            await self._pool.close(session)
        if loss is None and exc is not None and swallowed:
            # Cancelled at the deadline, which a renewal has moved since.
            loss = SessionLost(f"{session!r}: its deadline passed while the body ran", definite=False)
        if loss is None:
            return swallowed
        if exc is None or swallowed:
            raise loss
        if isinstance(exc, Exception) and not isinstance(exc, SessionLost):
            exc.add_note(str(loss))
        return swallowed
