"""`tide.health`: the state of etcd as this process sees it, without a round trip."""

from __future__ import annotations

from collections import deque
from datetime import UTC, datetime

import anyio

from tideover.broadcast import Broadcast
from tideover.cluster.state import ClusterState
from tideover.home import Home
from tideover.status import duration
from tideover.types import Diagnosis, HealthChange, HealthState

# How many changes of the state are kept for readers.
_KEPT = 100


class ClusterHealth:
    """How much of etcd can be used, since when, and why.

    Args:
        cluster: Where the monitor writes its verdict.
        home: The event loop it belongs to.
    """

    def __init__(self, cluster: ClusterState, *, home: Home) -> None:
        self._cluster = cluster
        self._home = home
        self._clock = cluster.clock
        self._history = History()
        self.record(None, outage_id="")

    def __repr__(self) -> str:
        """Show the state, the diagnosis and how long it has lasted."""
        return f"<ClusterHealth {self.state} ({self.diagnosis}) for {duration(self.seconds)}>"

    @property
    def state(self) -> HealthState:
        """One of the three states; before the first answer it is UNAVAILABLE."""
        return self._cluster.health.state

    @property
    def diagnosis(self) -> Diagnosis:
        """What the last round of probes found; LEADER_CHANGE may show while the state is AVAILABLE."""
        return self._cluster.health.diagnosis

    @property
    def seconds(self) -> float:
        """Seconds for which the state has lasted."""
        health = self._cluster.health
        return max(0.0, self._clock.monotonic() - health.since) if health.decided else 0.0

    @property
    def since(self) -> datetime:
        """When the state began, in UTC."""
        return datetime.fromtimestamp(self._clock.wall() - self.seconds, UTC)

    @property
    def outage_id(self) -> str:
        """The present outage's id, as events and spans have it; empty if there is none."""
        return "" if self.state is HealthState.AVAILABLE else self._history[self._history.count - 1].outage_id

    @property
    def next_probe(self) -> float:
        """Seconds until etcd is asked again; 0 while it is being asked."""
        return max(0.0, self._cluster.breakers.retry_at - self._clock.monotonic())

    @property
    def brief(self) -> str:
        """What is wrong, in words that name no member and no address."""
        return self._cluster.health.brief

    @property
    def sentence(self) -> str:
        """The situation in words: what is wrong, and for how long."""
        if self.diagnosis is Diagnosis.STARTING:
            return self._cluster.sentence
        began = self.since.isoformat(timespec="seconds").replace("+00:00", "Z")
        return f"{self._cluster.sentence}; {self.state} for {duration(self.seconds)}, since {began}"

    async def wait_for(self, state: HealthState, *, timeout: float | None = None) -> None:
        """Wait until the state is `state`.

        Args:
            state: The state to wait for.
            timeout: Seconds to wait at the most; None waits without limit.

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
            await self._cluster.breakers.wait_for(wanted)

    def changes(self) -> HealthChanges:
        """Return the health as a stream: `async for change in tide.health.changes()`. No I/O.

        The present state comes first, as it was when it began; then each one that follows, in order, also for a
        reader that is slow. A diagnosis that changes alone is no change of the state: see `diagnosis`.

        Returns:
            An asynchronous iterator. It holds 100 changes for its reader; beyond that the oldest is dropped, and
            counted in its `missed`. It ends when the coordinator is closed.

        When degraded:
            The same; this is how to hear of it.
        """
        return HealthChanges(self._history, self._home)

    def record(self, previous: HealthState | None, *, outage_id: str) -> None:
        """Tell all who follow the changes that the present state has begun.

        Args:
            previous: The state before; None if there was none.
            outage_id: The outage it belongs to; empty if there is none.
        """
        self._history.add(HealthChange(self.state, previous, self.diagnosis, self.since, outage_id))

    def close(self) -> None:
        """End all iterations once their readers have had what waits for them."""
        self._history.close()


class History:
    """The last changes of the health state: kept once for all readers."""

    def __init__(self) -> None:
        self.count = 0
        self.closed = False
        self.added = Broadcast()
        self._kept: deque[HealthChange] = deque(maxlen=_KEPT)

    @property
    def oldest(self) -> int:
        """The number of the oldest change that is kept, counted from 0."""
        return self.count - len(self._kept)

    def add(self, change: HealthChange) -> None:
        """Keep a change, and drop the oldest if there are too many."""
        self._kept.append(change)
        self.count += 1
        self.added.fire()

    def close(self) -> None:
        """Let no more come."""
        self.closed = True
        self.added.fire()

    def __getitem__(self, number: int) -> HealthChange:
        """Return a change by its number."""
        return self._kept[number - self.oldest]


class HealthChanges:
    """The changes of the health state, the present one first; made by `ClusterHealth.changes`."""

    def __init__(self, history: History, home: Home) -> None:
        self._history = history
        self._home = home
        self._next = history.count - 1
        self._missed = 0

    def __repr__(self) -> str:
        """Show how much is waiting, and how much was missed."""
        waiting = self._history.count - max(self._next, self._history.oldest)
        return f"<HealthChanges {waiting} waiting, {self.missed} missed>"

    @property
    def missed(self) -> int:
        """How many changes were dropped because this reader was too slow."""
        return self._missed + max(0, self._history.oldest - self._next)

    def __aiter__(self) -> HealthChanges:
        """Return itself."""
        return self

    async def __anext__(self) -> HealthChange:
        """Return the next change.

        Raises:
            StopAsyncIteration: The coordinator was closed.
            WrongLoop: This is another event loop than the coordinator's.

        When degraded:
            The same.
        """
        self._home.check(self)
        history = self._history
        while self._next == history.count:
            if history.closed:
                raise StopAsyncIteration
            await history.added.wait()
        self._missed, self._next = self.missed, max(self._next, history.oldest)
        change = history[self._next]
        self._next += 1
        return change
