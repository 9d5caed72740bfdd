"""`tide.health`: the state of etcd as this process sees it, without a round trip."""

from __future__ import annotations

from datetime import UTC, datetime

import anyio

from tideover.clock import Clock
from tideover.cluster.state import Lanes
from tideover.home import Home
from tideover.status import duration
from tideover.types import Diagnosis, HealthState


class ClusterHealth:
    """How much of etcd can be used, since when, and why.

    Args:
        lanes: Where the monitor writes its verdict.
        home: The event loop it belongs to.
        clock: The clocks.
    """

    def __init__(self, lanes: Lanes, *, home: Home, clock: Clock) -> None:
        self._lanes = lanes
        self._home = home
        self._clock = clock

    def __repr__(self) -> str:
        """Show the state, the diagnosis and how long it has lasted."""
        return f"<ClusterHealth {self.state} ({self.diagnosis}) for {duration(self.seconds)}>"

    @property
    def state(self) -> HealthState:
        """One of the three states; before the first answer it is UNAVAILABLE."""
        return self._lanes.health.state

    @property
    def diagnosis(self) -> Diagnosis:
        """What the last round of probes found; LEADER_CHANGE may show while the state is AVAILABLE."""
        return self._lanes.health.diagnosis

    @property
    def seconds(self) -> float:
        """Seconds for which the state has lasted."""
        health = self._lanes.health
        return max(0.0, self._clock.monotonic() - health.since) if health.decided else 0.0

    @property
    def since(self) -> datetime:
        """When the state began, in UTC."""
        return datetime.fromtimestamp(self._clock.wall() - self.seconds, UTC)

    @property
    def sentence(self) -> str:
        """The situation in words: what is wrong, and for how long."""
        if self.diagnosis is Diagnosis.STARTING:
            return self._lanes.sentence
        began = self.since.isoformat(timespec="seconds").replace("+00:00", "Z")
        return f"{self._lanes.sentence}; {self.state} for {duration(self.seconds)}, since {began}"

    async def wait_for(self, state: HealthState, *, timeout: float | None = None) -> None:
        """Wait until the state is `state`.

        Args:
            state: The state to wait for.
            timeout: Seconds to wait at the most; None waits for ever.

        Raises:
            TimeoutError: It did not come to be.
            ValueError: There is no such state.
            WrongLoop: This is another event loop than the coordinator's.

        When degraded:
            Waits; this is how to wait for the end of an outage.
        """
        self._home.check(self)
        wanted = HealthState(state)
        with anyio.fail_after(timeout):
            await self._lanes.wait_for(wanted)
