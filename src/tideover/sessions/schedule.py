"""When which renewal is due: in batches, so that they are sent and proven together, and no batch too large."""

from __future__ import annotations

import math
from collections.abc import Hashable
from typing import Generic, TypeVar

from tideover.store.operations import MOST_READS
from tideover.ticker import GRAIN

H = TypeVar("H", bound=Hashable)

# By how many grains a renewal may come earlier to be sent with others.
_EARLIER = 3


class Schedule(Generic[H]):
    """What is due when, to a tenth of a second.

    What comes joins those that are due a moment earlier, so that batches grow together; what finds them full goes
    before them, so that thousands that came at one moment are spread from their next time on.
    """

    __slots__ = ("_batches", "_slots")

    def __init__(self) -> None:
        self._batches: dict[int, dict[H, None]] = {}
        self._slots: dict[H, int] = {}

    @property
    def next(self) -> float:
        """When the first batch is due; infinite if none is."""
        return min(self._batches, default=math.inf) * GRAIN

    def put(self, what: H, by: float) -> None:
        """Let something be due at a time, or a little earlier together with others, instead of when it was due."""
        latest = math.floor(by / GRAIN)
        for slot in range(latest, latest - _EARLIER, -1):
            if 0 < len(self._batches.get(slot, ())) < MOST_READS:
                break
        else:
            slot = latest
            while len(self._batches.get(slot, ())) >= MOST_READS:
                slot -= 1
        self._keep(what, slot)

    def put_alone(self, what: H, at: float) -> None:
        """Let something be due at a time and not before it, whatever else is due earlier."""
        self._keep(what, math.ceil(at / GRAIN))

    def _keep(self, what: H, slot: int) -> None:
        self.drop(what)
        self._slots[what] = slot
        self._batches.setdefault(slot, {})[what] = None

    def drop(self, what: H) -> bool:
        """Let something not be due any more; return whether it was."""
        slot = self._slots.pop(what, None)
        if slot is None:
            return False
        batch = self._batches[slot]
        del batch[what]
        if not batch:
            del self._batches[slot]
        return True

    def take(self, now: float) -> list[H]:
        """Return what is due, which it is not any more."""
        due: list[H] = []
        for slot in sorted(slot for slot in self._batches if slot * GRAIN <= now + 1e-6):
            due += self._batches.pop(slot)
        for what in due:
            del self._slots[what]
        return due
