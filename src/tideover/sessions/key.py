"""A key that ends with its session, and the notice that it has."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any

import anyio

from tideover.home import EventLoop
from tideover.store.operations import RangeResult
from tideover.types import Entry


def anchors(base: str) -> bytes:
    """Return what the keys of sessions themselves begin with, each followed by its lease in hexadecimal digits."""
    return f"{base}tideover/sessions/".encode()


class Notice:
    """Something that happens once, for a reason: `why = await notice`, or `if notice:`.

    Given in any thread, awaited in the event loop where it was made.
    """

    __slots__ = ("_calls", "_event", "_loop", "_reason")

    def __init__(self) -> None:
        self._loop = EventLoop.here()
        # Made for the first waiter: of the notices of thousands of sessions few have one.
        self._event: anyio.Event | None = None
        self._reason: str | None = None
        self._calls: list[Callable[[], object]] = []

    def __repr__(self) -> str:
        """Say whether it has happened, and why."""
        return f"<Notice {'not given' if self._reason is None else repr(self._reason)}>"

    def __bool__(self) -> bool:
        """Whether it has happened."""
        return self._reason is not None

    def __await__(self) -> Generator[object, None, str]:
        """Wait until it happens; return why."""
        return self.wait().__await__()

    @property
    def reason(self) -> str | None:
        """Why it has happened; None if it has not."""
        return self._reason

    async def wait(self) -> str:
        """Wait until it happens; return why. Raises `WrongLoop`: this is not the coordinator's event loop."""
        self._loop.check(self)
        if self._event is None:
            self._event = anyio.Event()
            if self._reason is not None:
                self._event.set()
        await self._event.wait()
        return self._reason or ""

    def give(self, reason: str) -> None:
        """Let it happen; the first reason counts."""
        if self._reason is None:
            self._reason = reason
            self._loop.soon(self._announce)

    def _announce(self) -> None:
        if self._event is not None:
            self._event.set()
        for call in list(self._calls):
            call()

    def then(self, call: Callable[[], object]) -> None:
        """Call something in the event loop when it happens, or soon if it has: takes no task that waits.

        `call` must not wait, and must not raise.
        """
        if self._reason is None:
            self._calls.append(call)
        else:
            self._loop.soon(call)

    @contextmanager
    def ending(self, scope: anyio.CancelScope) -> Iterator[None]:
        """Cancel a scope when it happens within the block, or has happened before: takes no task that waits."""
        if self._reason is not None:
            scope.cancel()
        self._calls.append(scope.cancel)
        try:
            yield
        finally:
            self._calls.remove(scope.cancel)


class Unwatched:
    """Keys that are not watched yet, each with something that its watcher needs."""

    def __init__(self) -> None:
        self.keys: list[tuple[LeasedKey, Any]] = []  # in the order in which they were made
        self.came = anyio.Event()  # set when there is a key; its reader replaces it before looking

    def put(self, own: LeasedKey, watch: object) -> None:
        """Have a key watched soon."""
        self.keys.append((own, watch))
        self.came.set()


class LeasedKey:
    """A key of a session.

    Attributes:
        key: The key as `put` was given it.
        full: The key in etcd.
        create_revision: The revision at which it came to be: grows from owner to owner, and so fences.
        mod_revision: The revision at which this session wrote it last.
        gone: Given when it is no longer this session's: deleted by whomever, or gone with its session.
        reads: What was read in the transaction that wrote it, if that was asked for.
    """

    def __init__(self, key: str, full: bytes, entry: Entry, reads: tuple[RangeResult, ...] = ()) -> None:
        self.key = key
        self.full = full
        self.create_revision = entry.create_revision
        self.mod_revision = entry.mod_revision
        self.value = entry.value
        self.gone = Notice()
        self.reads = reads

    def __repr__(self) -> str:
        """Show the key, its revisions, and whether it is gone."""
        gone = f", gone: {self.gone.reason}" if self.gone else ""
        return f"<LeasedKey {self.key!r} created {self.create_revision}, written {self.mod_revision}{gone}>"

    def take(self, entry: Entry, reads: tuple[RangeResult, ...] = ()) -> None:
        """Record that this session has written the key again."""
        self.mod_revision, self.value, self.reads = entry.mod_revision, entry.value, reads
