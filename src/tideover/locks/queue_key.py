"""Our place in etcd's line for one lock: a key under the session that all locks of a ttl share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

import anyio

from tideover.errors import SessionLost
from tideover.fencing.guard import Pending
from tideover.locks.etcd_queue import Ahead, EtcdQueue
from tideover.sessions.key import LeasedKey
from tideover.sessions.session import Session


class Holder(Protocol):
    """Whoever runs a body on a place."""

    def assess(self) -> object:
        """Work out how it stands, now."""
        ...


class QueueKey:
    """A key in the line, from the moment it is made until it is given back.

    Args:
        own: The key.
        session: What it stands under.
        now: The monotonic clock.

    Attributes:
        first: Whether it is known to have come first: then the lock is this process's.
        hosted: Whether the host lock is held along with it.
        handovers: How often it was handed on.
        issued: How many tokens were made of it.
        holder: Whose body runs on it; None between two.
        ahead: Who stood before it in the line.
        pending: Guarded writes that may still be applied.
        rival_after: `handovers` when somebody elsewhere was first seen to wait; None if nobody was.
    """

    def __init__(self, own: LeasedKey, session: Session, *, now: Callable[[], float]) -> None:
        self.own = own
        self.session = session
        self.first = False
        self.hosted = False
        self.handovers = 0
        self.issued = 0
        self.holder: Holder | None = None
        self.ahead = Ahead()
        self.pending = Pending()
        self.rival_after: int | None = None
        self._rival_at = 0.0
        self._now = now
        self._keeping: anyio.CancelScope | None = None
        self._scouting: anyio.CancelScope | None = None
        self._dropped = False
        self._kept = False

    def __repr__(self) -> str:
        """Show the key and how far it has come."""
        return f"<QueueKey {self.own!r} {'first' if self.first else 'waiting'}>"

    def loss(self) -> SessionLost | None:
        """Return why it is not to be believed in right now; None if it is."""
        if self.own.gone:
            return SessionLost(f"its key {self.own.key!r} is gone: {self.own.gone.reason}", definite=True)
        return self.session.loss()

    @property
    def rival_for(self) -> float:
        """Seconds since somebody elsewhere was first seen to wait."""
        return 0.0 if self.rival_after is None else self._now() - self._rival_at

    def keep(self, start: Callable[[Callable[[], Awaitable[object]]], object]) -> None:
        """See to it that the holder is told when the place is not to be believed in any more.

        Args:
            start: Does something in the background.
        """
        if not self._kept:
            self._kept = True
            start(self._keep)

    async def _keep(self) -> None:
        """Tell, until the place is given back, or is not believed in: whoever has it after that begins again."""
        try:
            await self._tell()
        finally:
            self._kept = False

    async def _tell(self) -> None:
        while not self._dropped:
            with anyio.CancelScope() as scope:
                self._keeping = scope
                self.session.bind(scope)
                try:
                    await self.own.gone.wait()
                finally:
                    self.session.unbind(scope)
            if self._dropped:
                return
            if self.holder is not None:
                self.holder.assess()
            loss = self.loss()
            if loss is not None:
                return

    async def scout(self, queue: EtcdQueue) -> None:
        """Look out for waiters elsewhere, from the first handover on."""
        if self._scouting is not None or self._dropped:
            return
        with anyio.CancelScope() as scope:
            self._scouting = scope
            await queue.rival(self.own)
            if not self._dropped:
                self.rival_after, self._rival_at = self.handovers, self._now()

    def drop(self) -> None:
        """Take in that it is given back: nobody is told anything any more."""
        self._dropped = True
        for scope in (self._keeping, self._scouting):
            if scope is not None:
                scope.cancel()
