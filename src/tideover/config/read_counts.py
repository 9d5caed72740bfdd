"""How many reads there were."""

from __future__ import annotations

import threading
from collections import Counter

from tideover.types import Source


class ReadCounts:
    """Counts reads by source, and by whether they were degraded.

    The warm path counts in attributes of the reader, since a dict would take too long; those are moved here later.
    `moving` is held while counts move: the exporter's thread reads the metrics.
    """

    def __init__(self) -> None:
        self.moving = threading.Lock()
        self._counts: dict[tuple[str, bool], int] = {}

    def add(self, source: Source, times: int = 1, *, degraded: bool = False) -> None:
        """Count reads."""
        if times:
            what = source.value, degraded
            self._counts[what] = self._counts.get(what, 0) + times

    def copy(self) -> Counter[tuple[str, bool]]:
        """Return the counts so far."""
        return Counter(self._counts.copy())
