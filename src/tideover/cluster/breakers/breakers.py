"""The breakers of both lanes, shared by all calls, and how a refused or failed call waits.

Guarantee. In a declared outage a call is refused without a packet, and told when etcd is probed next. Calls that
go past the breaker ask in turn: the members see about one question a second of this process, however many wait.

Not guaranteed. That a call which is let through succeeds: until an outage is declared, calls are evidence.

Prior art: Michael Nygard, "Release It!" (2007); `breaker` says how this kind differs. The turns are those of GCRA
(ITU-T I.371): each waiter moves the theoretical arrival time of the next one ahead.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import anyio
import anyio.lowlevel

from tideover.broadcast import Broadcast
from tideover.clock import Clock
from tideover.cluster.breakers.state_machine import Health
from tideover.cluster.members import Members
from tideover.errors import AuthenticationFailed, CircuitOpen
from tideover.types import HealthState

# Seconds before all members are asked once more, full jitter above a half; at the most while the monitor has not
# decided, and at the most where nothing comes of it although it finds all well.
_ROUND = 0.4
_VERDICT = 1.5
_FRUITLESS = 4.0
# In a declared outage: seconds between two questions of all who ask beside the monitor, full jitter above 0.6; and
# the longest that one of them waits for its turn.
_TURN = 1.05
_LONGEST_TURN = 6.0


class Breakers:
    """Whether calls are let through, and what speaks against it; set by the monitor.

    Attributes:
        retry_at: When the next probe is due, in monotonic seconds.
        suspected: Whether something failed and the monitor has not yet said that all is well.
        suspected_at: When that began, in monotonic seconds; of no meaning while nothing is suspected.
        suspicions: How often something failed; `evidence` fires each time.
        returned: Fires when a declared outage of the quorum is over.
    """

    def __init__(self, roll: Members, *, clock: Clock, random: Callable[[], float], changed: Broadcast) -> None:
        self._roll = roll
        self._clock = clock
        self._random = random
        self._changed = changed
        self._turn_at = -math.inf
        self.health = Health()
        self.retry_at = 0.0
        self.suspected = False
        self.suspected_at = 0.0
        self.suspicions = 0
        self.evidence = Broadcast()
        self.returned = Broadcast()

    def refuse(self, why: str) -> None:
        """Refuse a call whose breaker is open: `CircuitOpen`; `AuthenticationFailed` for refused credentials."""
        retry_after = max(0.0, self.retry_at - self._clock.monotonic())
        probed = f"next probe in {retry_after:.1f} s" if retry_after >= 0.05 else "it is being probed now"
        text = f"{why}; {probed}"
        if self.health.unauthorized:
            raise AuthenticationFailed(text)
        raise CircuitOpen(text, retry_after=retry_after)

    def suspect(self) -> None:
        """Ask for a probe now: something failed."""
        if not self.suspected:
            self.suspected, self.suspected_at = True, self._clock.monotonic()
        self.suspicions += 1
        self.evidence.fire()

    async def settled(self, timeout: float) -> None:
        """Wait until the monitor has cleared the suspicion or declared an outage, or for `timeout` seconds."""
        with anyio.move_on_after(timeout):
            while self.suspected and self.health.quorum.closed:
                await self._changed.wait()

    async def back_off(
        self, tried: set[str], *, factor: float = 1.0, rounds: int = 0, everybody: bool = False
    ) -> None:
        """Go on at once while there are members left; else wait a moment, and begin again with all of them.

        While the monitor suspects something it asks them already, so that the moment is as long as it takes to
        say more. In a declared outage a moment follows each member, and ends with the outage; calls rest one after
        the other, for the members have all of them to refuse.

        Args:
            tried: The members asked without success; emptied when all have been.
            factor: How many times longer to wait, as long as no outage is declared.
            rounds: How often all of them have been asked without success before; each time doubles the moment.
            everybody: Whether one has spoken for all of them: a quorum has refused.
        """
        declared = not self.health.quorum.closed
        everybody = everybody or len(tried) >= len(self._roll.members)
        if not everybody and not declared:
            await anyio.lowlevel.checkpoint()
            return
        if everybody:
            tried.clear()
        chance = self._random()
        if declared:
            now = self._clock.monotonic()
            turn_at = max(self._turn_at, now) + _TURN * (0.6 + 0.4 * chance)
            self._turn_at = min(turn_at, now + _LONGEST_TURN)
            await self.returned.wait(self._turn_at - now)
            return
        jitter = 0.5 + 0.5 * chance
        await anyio.sleep(min(_ROUND * factor * 2.0 ** min(rounds, 10), _FRUITLESS) * jitter)
        await self.settled(_VERDICT * jitter)

    async def outage_over(self) -> None:
        """Wait until no outage of the quorum is declared."""
        while not self.health.quorum.closed:
            await self.returned.wait()

    async def wait_for(self, state: HealthState) -> None:
        """Wait until the health state is `state`."""
        while self.health.state is not state:
            await self._changed.wait()
