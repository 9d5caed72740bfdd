"""Has holders look when their session may not be relied upon: one task for each session, not one for each hold."""

from __future__ import annotations

from collections.abc import Callable

import anyio

from tideover.home import Home
from tideover.sessions.session import Session

Look = Callable[[], object]


class Watchdog:
    """Watches the sessions on which locks are held."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._watched: dict[Session, _Watched] = {}

    def begin(self, session: Session) -> None:
        """Follow a session from now on, until it is lost; called in a task, because it starts one."""
        if session not in self._watched:
            watched = self._watched[session] = _Watched(session)
            self._home.start("lock: watchdog", self._follow, watched)

    def watch(self, session: Session, look: Look) -> None:
        """Call something at each doubt of a session, until `forget`; of its loss the key of each hold tells."""
        if not session.lost:
            self.begin(session)
            self._watched[session].add(look)

    def forget(self, session: Session, look: Look) -> None:
        """Call it no more."""
        watched = self._watched.get(session)
        if watched is not None:
            watched.remove(look)

    async def _follow(self, watched: _Watched) -> None:
        await watched.follow()
        self._watched.pop(watched.session, None)


class _Watched:
    def __init__(self, session: Session) -> None:
        self.session = session
        self._looks: set[Look] = set()
        # What ends the wait: bound to the session only while a lock is held on it, because a session on which
        # nothing relies takes fewer looks at the clock.
        self._scope: anyio.CancelScope | None = None

    def add(self, look: Look) -> None:
        if not self._looks and self._scope is not None:
            self.session.bind(self._scope)
        self._looks.add(look)

    def remove(self, look: Look) -> None:
        self._looks.discard(look)
        if not self._looks and self._scope is not None:
            self.session.unbind(self._scope)

    async def follow(self) -> None:
        """Have all look at each doubt, until the session is lost: of that the key of each hold tells."""
        session = self.session
        while not session.lost:
            with anyio.CancelScope() as self._scope:
                if self._looks:
                    session.bind(self._scope)
                try:
                    await session.lost
                finally:
                    session.unbind(self._scope)
                    self._scope = None
            while session.loss() is not None and not session.lost:
                self._look()
                await session.tenure.changed.wait()
                # A proof may have been followed by a new hold, and its deadline have passed, before this turn.

    def _look(self) -> None:
        for look in list(self._looks):
            look()
