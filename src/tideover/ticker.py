"""One task that looks at the clock for all who have to: a process that idles wakes up once, not once for each.

Looks that are due within the same tenth of a second are taken at one wake-up. A look is a plain call that returns
at once; what takes longer is started by it elsewhere. There are tens of them, not thousands: who watches over a
thousand things takes one look at all of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import anyio

from tideover import telemetry
from tideover.broadcast import Broadcast

# Seconds: wake-ups fall on multiples of it.
GRAIN = 0.1


class Tick:
    """A look that is taken again and again; made by `Ticker.every`."""

    def __init__(self, ticker: Ticker, period: float, look: Callable[[], object], slack: float) -> None:
        self._ticker = ticker
        self._look = look
        self._period = period
        self.slack = slack
        self.due = -math.inf

    @property
    def period(self) -> float:
        """Seconds between two looks, at the most; infinity takes none. Setting it counts from now."""
        return self._period

    @period.setter
    def period(self, seconds: float) -> None:
        if seconds != self._period:
            self._period = seconds
            self._ticker.schedule(self)

    def soon(self) -> None:
        """Take the look at the next turn of the ticker's task."""
        self.due = -math.inf
        self._ticker.wake()

    def take(self) -> None:
        """Take the look now; one that fails is told, and the next one is taken all the same."""
        try:
            self._look()
        except Exception as exc:  # noqa: BLE001 - the others are looked at all the same
            telemetry.task_failed("ticker", exc)

    def stop(self) -> None:
        """Take no look any more."""
        self._ticker.forget(self)


class Ticker:
    """Takes the looks of one coordinator."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._ticks: dict[Tick, None] = {}
        self._beats: dict[float, Broadcast] = {}
        self._sooner = Broadcast()

    def every(self, period: float, look: Callable[[], object], *, slack: float = 0.0) -> Tick:
        """Take a look again and again, for the first time one period from now.

        Args:
            period: Seconds between two looks, at the most; up to 0.1 s fewer, and never below 0.1 s.
            look: Called in the ticker's task; must not wait.
            slack: Seconds by which it may be taken sooner still, where others are looked at anyway: who does not
                need the moment costs no wake-up of its own then.
        """
        tick = Tick(self, period, look, slack)
        self._ticks[tick] = None
        self.schedule(tick)
        return tick

    async def pause(self, period: float) -> None:
        """Wait for the next of the moments that all who pause for the same period have in common."""
        beat = self._beats.get(period)
        if beat is None:
            beat = self._beats[period] = Broadcast()
            self.every(period, beat.fire, slack=period / 4)
        await beat.wait()

    def schedule(self, tick: Tick) -> None:
        """Take the next look one period from now."""
        tick.due = self._next(tick.period)
        self.wake()

    def _next(self, period: float) -> float:
        if math.isinf(period):
            return math.inf
        # A timer may be a hair early; and a look that is late does not move the later ones.
        grains = math.floor(self._monotonic() / GRAIN + 1e-6)
        return (grains + max(1, math.floor(period / GRAIN + 1e-6))) * GRAIN

    def forget(self, tick: Tick) -> None:
        """Take a look no more."""
        self._ticks.pop(tick, None)

    def wake(self) -> None:
        """Look again at what is due."""
        self._sooner.fire()

    def _due(self) -> list[Tick]:
        """Return the looks that are due, and with them those that may be taken sooner; none if none is due."""
        now = self._monotonic()
        if not any(tick.due <= now for tick in self._ticks):
            return []
        return [tick for tick in self._ticks if tick.due - tick.slack <= now]

    async def run(self) -> None:
        """Take the looks that are due, until cancelled."""
        while True:
            sooner = self._sooner.next()
            for tick in self._due():
                if tick in self._ticks:
                    tick.due = self._next(tick.period)
                    tick.take()
            left = min((tick.due for tick in self._ticks), default=math.inf) - self._monotonic()
            with anyio.move_on_after(max(0.0, left)):
                await sooner.wait()
