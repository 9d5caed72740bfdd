"""All open watches are doubted together: one look at each when etcd was heard of, and now and then.

A watch that is silent may be quiet, or dead. Its follower tells by what the quorum says, and has a task for that
only while there is something to ask: two hundred quiet prefixes cost one look at each a second.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tideover import telemetry
from tideover.cluster.state import ClusterState
from tideover.ticker import Ticker

# Seconds between two looks at a watch, at the most.
TICK = 1.0


class Doubts:
    """The open watches of one coordinator."""

    def __init__(self, cluster: ClusterState, ticker: Ticker) -> None:
        self._cluster = cluster
        self._ticker = ticker
        self._looks: dict[Callable[[], object], None] = {}

    @contextmanager
    def looking(self, look: Callable[[], object]) -> Iterator[None]:
        """Look at a watch now, and again and again while the body runs; `look` must not wait."""
        look()
        self._looks[look] = None
        try:
            yield
        finally:
            del self._looks[look]

    def _look(self) -> None:
        for look in list(self._looks):
            try:
                look()
            except Exception as exc:  # noqa: BLE001 - the others are looked at all the same
                telemetry.task_failed("doubts", exc)

    async def run(self) -> None:
        """Look at all of them until cancelled."""
        tick = self._ticker.every(TICK, self._look, slack=TICK / 4)
        try:
            while True:
                changed = self._cluster.changed.next()
                self._look()
                await changed.wait()
        finally:
            tick.stop()
