"""`tide.session(...)`: a body that runs only as long as its session may be relied upon."""

from __future__ import annotations

from types import TracebackType
from typing import Literal

import anyio.lowlevel

from tideover.body_scope import BodyScope, raise_loss
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
        self._body: BodyScope | None = None
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
        body = self._body = BodyScope(lambda why: session.lose(f"counts as lost: {why}"))
        body.enter()
        session.bind(body.cancel_scope, at_deadline=self._strict)
        return session

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the session, and say so if it was not to be relied upon when the body ended."""
        self._pool.home.check(self)
        session, body = self._session, self._body
        if session is None or body is None:  # pragma: no cover - the language enters before it leaves
            raise Closed("not entered")
        ended = body.leave(exc)
        if ended:
            # Others may end at this moment: their bodies first, and only then what closing takes.
            await anyio.lowlevel.cancel_shielded_checkpoint()
        loss = None if session.orphaned else session.loss()
        session.unbind(body.cancel_scope)
        await self._pool.close(session)
        if loss is None and ended:
            # Cancelled at the deadline, which a renewal has moved since.
            loss = SessionLost(f"{session!r}: its deadline passed while the body ran", definite=False)
        if loss is not None:
            raise_loss(loss, exc, ended=ended)
