"""One look at the clock for all sessions of a coordinator.

Timers stand still while a machine is suspended, and the clock of a deadline does not. So while any body relies
on a session the clock is looked at ten times a second. A look costs a comparison with the nearest deadline:
sessions are gone through only when that comes near, and one of them when something has changed for it.
"""

from __future__ import annotations

import math
from typing import Protocol

from tideover.clock import Clock
from tideover.ticker import GRAIN, Ticker

# Seconds between two looks while no body relies on any session: a task may wait for the notice.
_IDLE_LOOK = 1.0


class Watched(Protocol):
    """What has a deadline."""

    def cut(self) -> bool:
        """End what may not go on now, and do nothing that takes longer; return whether there was any."""
        ...

    def look(self) -> None:
        """Do what else is due now."""
        ...

    @property
    def next_look(self) -> float:
        """When there is something to do, unless something changes; in boot-time seconds."""
        ...


class Lookout:
    """Looks at the clock for what has deadlines."""

    def __init__(self, ticker: Ticker, clock: Clock) -> None:
        self._clock = clock
        self._watched: dict[Watched, None] = {}
        self._changed: dict[Watched, None] = {}
        self._next = math.inf
        self.bound = 0  # how many bodies rely on what is watched
        self._tick = ticker.every(math.inf, self._look)

    def add(self, watched: Watched) -> None:
        """Look after something from now on."""
        self._watched[watched] = None
        self.changed(watched)

    def remove(self, watched: Watched) -> None:
        """Look after it no more."""
        self._watched.pop(watched, None)

    def changed(self, watched: Watched) -> None:
        """Look at the next turn of the event loop; in any thread."""
        self._changed[watched] = None
        self._tick.soon()

    def expect(self, at: float) -> None:
        """Look at a time, in boot-time seconds, if not before."""
        self._next = min(self._next, at)
        if self._tick.period > GRAIN:
            self._tick.period = GRAIN

    def _look(self) -> None:
        changed, self._changed = self._changed, {}
        near = self._clock.boot() >= self._next
        due = [watched for watched in (self._watched if near else changed) if watched in self._watched]
        if sum(watched.cut() for watched in due):
            # After a process stood still all deadlines have passed: hundreds of bodies end before the first line
            # is logged.
            self._changed = dict.fromkeys((*due, *self._changed))
            self._tick.soon()
            return
        for watched in due:
            watched.look()
        if near:
            self._next = min((watched.next_look for watched in self._watched), default=math.inf)
        else:
            self._next = min([self._next, *(watched.next_look for watched in changed)])
        self._tick.period = GRAIN if self.bound else _IDLE_LOOK if self._watched else math.inf
