"""How long what is closed may try to let etcd know.

Resigning, taking an endpoint out of etcd and revoking a lease have 2 s each while etcd answers, and
need milliseconds. Where no member answers, a service that holds one of each would take the sum of them.
So all that the coordinator closes shares one budget, and in a declared outage so does all that is closed in a row.
"""

from __future__ import annotations

import math
from collections.abc import Callable

# Seconds for letting etcd know. What it cannot be told ends by itself: see each of them.
CLOSE_TIMEOUT = 2.0
# Seconds after the end of a budget in which what is closed still belongs to it.
_IN_A_ROW = 1.0


class ClosingBudget:
    """The seconds that closing has."""

    def __init__(self, now: Callable[[], float], outage_declared: Callable[[], bool]) -> None:
        self._now = now
        self._outage_declared = outage_declared
        self._until = -math.inf
        self._all = False

    def begin(self) -> None:
        """Let all that is closed from now on share a budget: the coordinator closes."""
        self._all = True
        self.seconds()

    def seconds(self) -> float:
        """Return how long what is closed now may try."""
        if not (self._all or self._outage_declared()):
            return CLOSE_TIMEOUT
        now = self._now()
        if now >= self._until + _IN_A_ROW:
            self._until = now + CLOSE_TIMEOUT
        return max(0.0, self._until - now)
