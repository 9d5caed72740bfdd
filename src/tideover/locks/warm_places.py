"""Keys that are kept for a moment after their lock was let go, in case this process wants it again.

A place that is warm has no holder and no host lock. It is given up after a tenth of a second, and at once when a
waiter elsewhere is seen, or the coordinator is closed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import anyio

from tideover.home import Home

# Seconds: who wanted a lock again within them may want it a third time within them.
WARM_FOR = 0.1


class WarmPlaces:
    """Ends the waits for locks that are not wanted again: one task for all of them."""

    def __init__(self, home: Home, monotonic: Callable[[], float]) -> None:
        self._home = home
        self._monotonic = monotonic
        # All wait for the same time: the first one is due first.
        self._due: deque[tuple[float, Callable[[], object]]] = deque()
        self._runs = False

    def keep(self, cool: Callable[[], object]) -> None:
        """Call something when the time is over."""
        self._due.append((self._monotonic() + WARM_FOR, cool))
        if not self._runs:
            self._runs = self._home.start("lock: cool", self._run)

    async def _run(self) -> None:
        try:
            while self._due:
                left = self._due[0][0] - self._monotonic()
                if left > 0:
                    await anyio.sleep(left)
                else:
                    self._due.popleft()[1]()
        finally:
            self._runs = False
