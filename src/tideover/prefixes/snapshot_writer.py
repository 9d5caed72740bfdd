"""The task that writes the snapshots of one coordinator, whatever their number.

What has changed is written a moment later. That content is still in sync is written for one snapshot after the
other: two hundred of them are no more work at one time than one is.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import anyio
from anyio.abc import TaskGroup

from tideover.broadcast import Broadcast
from tideover.clock import Clock
from tideover.home import Home
from tideover.prefixes.snapshotter import Snapshotter

# Seconds in which further changes join a write.
_DEBOUNCE = 0.2
# Seconds from one write that says no more than "still in sync" to the next one, of any snapshot.
_APART = 0.25


class SnapshotWriter:
    """Restores and writes the snapshots that are kept."""

    def __init__(self, clock: Clock, home: Home) -> None:
        self._clock = clock
        self._home = home
        self._kept: dict[Snapshotter, None] = {}
        self._writing: set[Snapshotter] = set()
        self._changed = Broadcast()
        self._confirmed_at = -math.inf

    @contextmanager
    def keeping(self, snapshotter: Snapshotter) -> Iterator[None]:
        """Restore what an earlier process has left, and write what is due while the body runs."""
        snapshotter.view.changed.join(self._changed)
        self._kept[snapshotter] = None
        self._home.start(f"restore {snapshotter!r}", snapshotter.restore)
        try:
            yield
        finally:
            del self._kept[snapshotter]

    async def run(self) -> None:
        """Write until cancelled."""
        self._writing.clear()
        async with anyio.create_task_group() as tasks:
            while True:
                changed = self._changed.next()
                turn = self._turn
                wait = min((each.due_in(turn) for each in self._idle), default=math.inf)
                if wait < _DEBOUNCE:
                    await anyio.sleep(_DEBOUNCE)
                    self._begin(tasks)
                else:
                    with anyio.move_on_after(wait):
                        await changed.wait()

    @property
    def _turn(self) -> float:
        """Seconds until the next write may be one that only confirms."""
        return max(0.0, self._confirmed_at + _APART - self._clock.monotonic())

    @property
    def _idle(self) -> Iterator[Snapshotter]:
        return (each for each in self._kept if each not in self._writing)

    def _begin(self, tasks: TaskGroup) -> None:
        """Write what is due; of those that only confirm, the one whose last write is the longest ago."""
        for snapshotter in sorted(self._idle, key=lambda each: each.saved_at):
            if snapshotter.due_in(self._turn) < _DEBOUNCE:
                if snapshotter.is_as_saved:
                    self._confirmed_at = self._clock.monotonic()
                self._writing.add(snapshotter)
                tasks.start_soon(self._write, snapshotter)

    async def _write(self, snapshotter: Snapshotter) -> None:
        try:
            await snapshotter.save()
        finally:
            self._writing.discard(snapshotter)
        self._changed.fire()
