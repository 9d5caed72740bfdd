"""The sessions of registrations: one for each ttl, opened for the first registration and closed with the last."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

import anyio

from tideover.client.client import Client
from tideover.errors import Closed, TideoverError
from tideover.registration.publisher import Publisher, Stage
from tideover.registration.shared import SharedSession
from tideover.sessions.pool import SessionPool

# The ttl of the registrations that share a session, or the registration that is alone.
Key = int | Publisher
Shared = SharedSession[Publisher]


@dataclass(slots=True)
class _Opening:
    """A session that is being opened, and the registrations that wait for it."""

    waiting: dict[Publisher, None] = field(default_factory=dict)
    scope: anyio.CancelScope | None = None
    stopped: anyio.Event = field(default_factory=anyio.Event)


class RegistrationSessions:
    """Opens and closes the sessions.

    Args:
        opened: Called with a session, or None where that has failed, and the registrations that waited for it.
        lost: Called with a session whose lease has ended.

    Attributes:
        all: All sessions, those that are being left or closed too.
    """

    def __init__(
        self,
        client: Client,
        pool: SessionPool,
        *,
        opened: Callable[[Shared | None, Sequence[Publisher]], None],
        lost: Callable[[Shared], None],
    ) -> None:
        self.all: dict[Shared, None] = {}
        self._pool = pool
        self._home = client.home
        self._report_opened = opened
        self._report_lost = lost
        self._current: dict[Key, Shared] = {}
        self._opening: dict[Key, _Opening] = {}

    def current(self, publisher: Publisher) -> Shared | None:
        """Return the session for new keys of a registration; None if one must be opened."""
        return self._current.get(_key_of(publisher))

    def open(self, publisher: Publisher) -> None:
        """Open a session for a registration, or let it wait for the one that is being opened."""
        key = _key_of(publisher)
        opening = self._opening.get(key)
        if opening is None:
            opening = self._opening[key] = _Opening()
            if not self._home.start("open a session of registrations", self._open, key, publisher.ttl, opening):
                opening.stopped.set()
        opening.waiting[publisher] = None

    async def _open(self, key: Key, ttl: int, opening: _Opening) -> None:
        """Open a session for the waiting registrations, or record for each why there is none."""
        failure: TideoverError | None = None
        shared: Shared | None = None
        with anyio.CancelScope() as opening.scope:
            if not opening.waiting:
                opening.scope.cancel()
            for other in list(self.all):
                if other.lost:
                    await other.closed.wait()
            try:
                shared = SharedSession(await self._pool.open(ttl, component="discovery"))
            except TideoverError as exc:
                failure = exc
        if self._opening.get(key) is opening:
            del self._opening[key]
        opening.stopped.set()
        waiting = list(opening.waiting)
        for publisher in waiting:
            publisher.stage = Stage.RESTING
        if shared is not None:
            self._current[key] = shared
            self.all[shared] = None
            self._report_opened(shared, waiting)
            shared.session.lost.then(partial(self._report_lost, shared))
            if not shared.tenants:
                self.retire(shared)
        elif not isinstance(failure, Closed):
            for publisher in waiting:
                if failure is not None:
                    publisher.record_error(failure)
            self._report_opened(None, waiting)

    def retire(self, shared: Shared) -> None:
        """Close a session without registrations, in the background."""
        self.withdraw(shared)
        shared.closing = True
        self._home.start("close a session of registrations", self.close, shared)

    def withdraw(self, shared: Shared) -> None:
        """Add no registrations to a session any more."""
        for key, current in list(self._current.items()):
            if current is shared:
                del self._current[key]

    async def close(self, shared: Shared) -> str | None:
        """Close a session; return why its keys may still be in etcd, None if they are gone."""
        self.withdraw(shared)
        shared.closing = True
        try:
            return await self._pool.close(shared.session)
        finally:
            shared.closed.set()
            self.all.pop(shared, None)

    def stop_waiting(self, publishers: Iterable[Publisher]) -> list[anyio.Event]:
        """Open no session for ended registrations; return what is set once the openings have stopped."""
        stopped = []
        for opening in self._opening.values():
            for publisher in publishers:
                opening.waiting.pop(publisher, None)
            if not opening.waiting:
                stopped.append(opening.stopped)
                if opening.scope is not None:
                    opening.scope.cancel()
        return stopped


def _key_of(publisher: Publisher) -> Key:
    return publisher if publisher.alone else publisher.ttl
