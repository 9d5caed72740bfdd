"""Many watches of one stream that have one reader: no task, event or deque for each."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import anyio.lowlevel

from tideover.etcd.watch_stream import StreamWatch, WatchStream
from tideover.store.faults import StoreFault
from tideover.store.protocol import WatchBatch
from tideover.types import Header


class StreamGroup:
    """Watches of a stream with one reader; see `WatchGroup`."""

    def __init__(self, stream: WatchStream) -> None:
        self._stream = stream
        self._watches: dict[Any, GroupWatch] = {}
        self._news: dict[GroupWatch, None] = {}
        self._progress: Header | None = None
        self._woken = asyncio.Event()

    def add(self, tag: Any, key: bytes, end: bytes | None, *, start_revision: int) -> None:
        """Open one more watch; see `WatchGroup.add`."""
        watch = GroupWatch(self, tag, self._stream, start_revision)
        self._stream.begin(watch, key, end, start_revision)
        self._watches[tag] = watch

    def drop(self, tag: Any) -> None:
        """Close a watch; see `WatchGroup.drop`."""
        watch = self._watches.pop(tag, None)
        if watch is not None:
            watch.left = True
            self._stream.leave(watch)

    def request_progress(self) -> None:
        """Ask for a sign of life; see `WatchGroup.request_progress`."""
        if self._stream.ended is not None:
            raise self._stream.ended
        self._stream.request_progress(self)

    def apply_progress(self, header: Header) -> None:
        """Pass on a progress reply for the whole stream."""
        self._progress = header
        self._woken.set()

    def report(self, watch: GroupWatch) -> None:
        """Record that a watch has frames or has ended."""
        self._news[watch] = None
        self._woken.set()

    async def receive(self) -> Sequence[tuple[Any, WatchBatch | StoreFault]]:
        """Return the frames that have arrived; see `WatchGroup.receive`."""
        await anyio.lowlevel.checkpoint()
        while True:
            frames = self._arrived()
            if frames:
                return frames
            if self._stream.ended is not None:
                raise self._stream.ended
            self._woken.clear()
            await self._woken.wait()

    def _arrived(self) -> list[tuple[Any, WatchBatch | StoreFault]]:
        """Return what waits, the progress reply last: etcd sent it after the watches' frames."""
        frames: list[tuple[Any, WatchBatch | StoreFault]] = []
        news, self._news = self._news, {}
        for watch in news:
            frames += watch.frames()
            if watch.ended is not None and self._watches.get(watch.tag) is watch and self._stream.ended is None:
                del self._watches[watch.tag]
                frames.append((watch.tag, watch.fault))
        if self._progress is not None:
            frames.append((None, WatchBatch(self._progress)))
            self._progress = None
        return frames

    def close(self) -> None:
        """Close all watches."""
        self._stream.dismiss(self)
        for tag in list(self._watches):
            self.drop(tag)


class GroupWatch(StreamWatch):
    """One watch of a group; a watch that has `left` was dropped: its later frames are not passed on."""

    __slots__ = ("_group", "left", "tag")

    def __init__(self, group: StreamGroup, tag: Any, stream: WatchStream, start_revision: int) -> None:
        super().__init__(stream, start_revision)
        self._group = group
        self.tag = tag
        self.left = False

    def begin(self, number: int, header: Header) -> None:
        """Record the creation, as the watch's first frame."""
        self._inbox.add_progress(header)
        super().begin(number, header)

    def wake(self) -> None:
        """Wake the reader of the group."""
        if not self.left:
            self._group.report(self)

    def frames(self) -> list[tuple[Any, WatchBatch | StoreFault]]:
        """Return the frames that have arrived, unless the watch was dropped."""
        frames: list[tuple[Any, WatchBatch | StoreFault]] = []
        while not self.left and (batch := self._inbox.pop()) is not None:
            frames.append((self.tag, batch))
        return frames

    @property
    def fault(self) -> StoreFault:
        """Why the watch has ended."""
        return cast("StoreFault", self.ended)
