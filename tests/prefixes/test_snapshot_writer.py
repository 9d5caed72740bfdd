"""One task writes all snapshots of a coordinator: what changed soon, what only confirms one after the other."""

from __future__ import annotations

import asyncio
import math
from contextlib import AsyncExitStack, ExitStack
from itertools import pairwise
from pathlib import Path
from typing import cast

import anyio
import pytest
import trio

from tests.support import mock_clock
from tideover import Coordinator
from tideover.broadcast import Broadcast
from tideover.home import Home
from tideover.options import Options
from tideover.prefixes.snapshot_writer import SnapshotWriter
from tideover.prefixes.snapshotter import Snapshotter
from tideover.testing import MemoryStore

pytestmark = pytest.mark.anyio


class Snapshot:
    """A snapshot that is confirmed every ten seconds.

    Attributes:
        written: When it was written.
        takes: Seconds for a write.
    """

    def __init__(self) -> None:
        self.view = self
        self.changed = Broadcast()
        self.is_as_saved = True
        self.restored = False
        self.saved_at = 0.0
        self.written: list[float] = []
        self.takes = 0.0

    def change(self) -> None:
        """Let there be something new."""
        self.is_as_saved = False
        self.changed.fire()

    def due_in(self, turn: float) -> float:
        """Return when it is to be written."""
        if not self.restored:
            return math.inf
        return max(turn, self.saved_at + 10 - trio.current_time()) if self.is_as_saved else 0.0

    async def restore(self) -> None:
        """Read it."""
        await anyio.sleep(0.5)
        self.restored = True
        self.changed.fire()

    async def save(self) -> None:
        """Write it."""
        await anyio.sleep(self.takes)
        self.is_as_saved, self.saved_at = True, trio.current_time()
        self.written.append(self.saved_at)


class Kept:
    """Snapshots that are kept."""

    def __init__(self, count: int, stack: AsyncExitStack) -> None:
        clock = mock_clock()
        self.home = Home(chance=lambda: 0.5, monotonic=clock.monotonic)
        self.writer = SnapshotWriter(clock, self.home)
        self.snapshots = [Snapshot() for _ in range(count)]
        self._stack = stack

    async def begin(self) -> None:
        """Keep them, and write."""
        tasks = await self._stack.enter_async_context(anyio.create_task_group())
        self._stack.callback(tasks.cancel_scope.cancel)
        self.home.open(tasks)
        keeping = self._stack.enter_context(ExitStack())
        for snapshot in self.snapshots:
            keeping.enter_context(self.writer.keeping(cast("Snapshotter", snapshot)))
        tasks.start_soon(self.writer.run)
        await anyio.sleep(1)


async def test_confirmations_take_turns() -> None:
    """Of two hundred snapshots that only confirm what they hold no two are written within a quarter of a second,
    each comes before any comes twice; one that changes meanwhile is written within it."""
    async with AsyncExitStack() as stack:
        kept = Kept(200, stack)
        await kept.begin()
        await anyio.sleep(100)
        first = kept.snapshots[0]
        first.change()
        began = trio.current_time()
        await anyio.sleep(0.25)
        assert began < first.written[-1]
        times = sorted(at for snapshot in kept.snapshots[1:] for at in snapshot.written)
        assert min(later - at for at, later in pairwise(times)) >= 0.249
        counts = {len(snapshot.written) for snapshot in kept.snapshots[1:]}
        assert max(counts) - min(counts) <= 1 <= min(counts)


async def test_a_slow_write_holds_no_other_up() -> None:
    """While one write lasts others are written; it is not begun a second time, and what changes joins the next."""
    async with AsyncExitStack() as stack:
        kept = Kept(3, stack)
        await kept.begin()
        slow, other, _ = kept.snapshots
        slow.takes = 5.0
        for _ in range(30):
            slow.change()
            await anyio.sleep(0.1)
        other.change()
        await anyio.sleep(0.3)
        assert other.written
        assert not slow.written
        await anyio.sleep(20)
        assert 1 <= len(slow.written) <= 3


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_a_followed_prefix_takes_one_task(tmp_path: Path) -> None:
    """Forty more prefixes that are kept on disk take forty more tasks, no more."""
    store, counts = MemoryStore(), []
    for number in (1, 41):
        follow = tuple(f"{name}/" for name in range(number))
        options = Options(tuple(store.members), cache_dir=tmp_path, follow=follow)
        async with Coordinator(options, store=store) as tide:
            while any(keeper.saved_at < 0 for keeper in tide._parts.snapshotters()):
                await anyio.sleep(0.02)
            await anyio.wait_all_tasks_blocked()
            counts.append(len(asyncio.all_tasks()))
    assert counts[1] - counts[0] == 40
