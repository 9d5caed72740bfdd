"""Watches on a `MemoryStore`, single or many with one reader."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import anyio.lowlevel

from tideover.store.faults import StoreFault
from tideover.store.operations import within
from tideover.store.protocol import Compacted, WatchBatch
from tideover.testing.memory_keys import MemoryKeys
from tideover.types import Header

T = TypeVar("T")


class WatchedCluster(Protocol):
    """What watches need of a `MemoryStore`."""

    proxies: set[str]
    watched: int
    _keys: MemoryKeys

    def touch(self) -> None: ...

    def _header(self, member: str, revision: int) -> Header: ...

    async def _frame(self, member: str, found: Callable[[], T | None]) -> T: ...


class MemoryWatch:
    """A watch on a `MemoryStore`."""

    def __init__(
        self, store: WatchedCluster, member: str, key: bytes, end: bytes | None, start_revision: int
    ) -> None:
        self._store = store
        self._member = member
        self.key, self._end = key, end
        self._next = start_revision or store._keys.revision + 1
        self.opened_at = store._keys.revision
        self._progress_requests = 0

    async def receive(self) -> WatchBatch:
        """Return the next frame; see `Watch.receive`."""
        return await self._store._frame(self._member, self._batch)

    def _batch(self) -> WatchBatch | None:
        batch = self.events()
        if batch is None and self._progress_requests:
            self._progress_requests = 0
            return WatchBatch(self._store._header(self._member, self._store._keys.revision))
        return batch

    def events(self) -> WatchBatch | None:
        """Return the events since the last call; None if there are none."""
        store, since = self._store, self._next
        self._next = max(since, store._keys.revision + 1)
        events = tuple(e for e in store._keys.since(since) if within(e.key, self.key, self._end))
        return WatchBatch(store._header(self._member, store._keys.revision), events) if events else None

    async def request_progress(self) -> None:
        """Ask for a progress frame; see `Watch.request_progress`."""
        await anyio.lowlevel.checkpoint()
        if self._member not in self._store.proxies:
            self._progress_requests += 1
        self._store.touch()


class MemoryGroup:
    """Watches on a `MemoryStore` with one reader; see `WatchGroup`."""

    def __init__(self, store: WatchedCluster, member: str) -> None:
        self._store = store
        self._member = member
        self._watches: dict[Any, MemoryWatch] = {}
        self._fresh: dict[Any, int] = {}
        self._of_key: defaultdict[bytes, dict[Any, None]] = defaultdict(dict)
        self._ranges: dict[Any, None] = {}
        self._seen = 0
        self._asked = False

    def add(self, tag: Any, key: bytes, end: bytes | None, *, start_revision: int) -> None:
        """Open one more watch; see `WatchGroup.add`."""
        self._watches[tag] = MemoryWatch(self._store, self._member, key, end, start_revision)
        self._fresh[tag] = start_revision
        if end is None:
            self._of_key[key][tag] = None
        else:
            self._ranges[tag] = None
        self._store.watched += 1
        self._store.touch()

    def drop(self, tag: Any) -> None:
        """Close a watch; see `WatchGroup.drop`."""
        watch = self._watches.pop(tag, None)
        self._fresh.pop(tag, None)
        self._ranges.pop(tag, None)
        if watch is not None:
            self._of_key[watch.key].pop(tag, None)

    def request_progress(self) -> None:
        """Ask for a sign of life; see `WatchGroup.request_progress`."""
        self._asked = self._member not in self._store.proxies
        self._store.touch()

    async def receive(self) -> Sequence[tuple[Any, WatchBatch | StoreFault]]:
        """Return what has come; see `WatchGroup.receive`."""
        return await self._store._frame(self._member, self._frames)

    def _frames(self) -> list[tuple[Any, WatchBatch | StoreFault]] | None:
        store = self._store
        header = store._header(self._member, store._keys.revision)
        frames: list[tuple[Any, WatchBatch | StoreFault]] = []
        for tag, start_revision in list(self._fresh.items()):
            if start_revision and start_revision < store._keys.compacted:
                self.drop(tag)
                frames.append((tag, Compacted(store._keys.compacted)))
            else:
                frames.append((tag, WatchBatch(header)))
        changed = {event.key for event in store._keys.since(self._seen + 1)}
        of_changed = [tag for key in changed for tag in self._of_key.get(key, ())]
        for tag in dict.fromkeys([*self._fresh, *of_changed, *self._ranges]):
            watch = self._watches.get(tag)
            batch = None if watch is None else watch.events()
            if batch is not None:
                frames.append((tag, batch))
        self._fresh.clear()
        self._seen = store._keys.revision
        if self._asked:
            self._asked = False
            frames.append((None, WatchBatch(header)))
        return frames or None
