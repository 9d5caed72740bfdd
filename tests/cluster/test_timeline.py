"""What has happened lately: transitions, outages, and leader changes that were none."""

from __future__ import annotations

from dataclasses import dataclass

import anyio
import pytest

from tests.support import connected
from tideover.clock import Clock
from tideover.cluster.timeline import WINDOW, Timeline
from tideover.testing import MemoryStore
from tideover.types import Diagnosis, HealthState

S, D = HealthState, Diagnosis


@dataclass
class Hands:
    """A clock that is set by hand."""

    now: float = 100.0
    ahead: float = 1_000_000_000.0

    def clock(self) -> Clock:
        """Return the clocks that follow."""
        return Clock(monotonic=lambda: self.now, wall=lambda: self.now + self.ahead)


def enter(timeline: Timeline, state: HealthState, outage_id: str = "") -> None:
    """Record that a state begins."""
    diagnosis = D.HEALTHY if state is S.AVAILABLE else D.QUORUM_LOST
    timeline.transition(state, diagnosis, why="1 of 3 members answered", outage_id=outage_id)


def test_an_outage_from_beginning_to_end() -> None:
    """Two bad states are one outage, which is the present one until etcd is available, and then the last one."""
    hands = Hands()
    timeline = Timeline(hands.clock())
    enter(timeline, S.AVAILABLE)
    hands.now = 150.0
    enter(timeline, S.DEGRADED, "a")
    hands.now = 160.0
    enter(timeline, S.UNAVAILABLE, "a")
    hands.now = 170.0
    outage = timeline.outage
    assert outage is not None
    assert (outage.outage_id, outage.seconds, outage.ended) == ("a", 20.0, None)
    assert outage.trace_query == '{span.tideover.outage_id="a"}'
    assert timeline.last_outage is None
    enter(timeline, S.AVAILABLE, "a")
    hands.now = 175.0
    last = timeline.last_outage
    assert timeline.outage is None
    assert last is not None
    assert (last.outage_id, last.seconds, last.began) == ("a", 20.0, outage.began)
    assert last.ended is not None
    assert (last.ended - last.began).total_seconds() == 20.0
    shown = [(t.state, t.ago, t.seconds, t.present, t.outage_id) for t in timeline.transitions()]
    assert shown == [
        (S.AVAILABLE, 5.0, 5.0, True, ""),
        (S.UNAVAILABLE, 15.0, 10.0, False, "a"),
        (S.DEGRADED, 25.0, 10.0, False, "a"),
        (S.AVAILABLE, 75.0, 50.0, False, ""),
    ]


def test_what_is_older_than_an_hour_is_forgotten() -> None:
    """But not the state with which the hour began, nor the last outage."""
    hands = Hands()
    timeline = Timeline(hands.clock())
    for state in (S.AVAILABLE, S.DEGRADED, S.AVAILABLE):
        enter(timeline, state, "a")
        hands.now += 10.0
    timeline.leader_changed(7, since=None)
    hands.now += WINDOW
    assert [(t.state, t.ago) for t in timeline.transitions()] == [(S.AVAILABLE, WINDOW + 10.0)]
    assert timeline.leader_changes() == ()
    assert timeline.last_outage is not None
    assert timeline.missed == 0


def test_a_flapping_etcd_does_not_fill_the_memory() -> None:
    """A thousand entries of each kind are kept at the most; how many were dropped is counted."""
    hands = Hands()
    timeline = Timeline(hands.clock())
    for n in range(1500):
        hands.now += 0.1
        enter(timeline, (S.AVAILABLE, S.DEGRADED)[n % 2], f"{n}")
        timeline.leader_changed(n, since=None)
    assert len(timeline.transitions()) == len(timeline.leader_changes()) == 1000
    assert timeline.missed == 1000


def test_a_wall_clock_that_is_set_moves_all_moments() -> None:
    """Moments are kept by the monotonic clock: the order and the distances stay, whatever the wall clock says."""
    hands = Hands()
    timeline = Timeline(hands.clock())
    enter(timeline, S.AVAILABLE)
    hands.now, hands.ahead = 200.0, hands.ahead - 86_400.0
    enter(timeline, S.DEGRADED, "a")
    newest, oldest = timeline.transitions()
    assert (newest.at - oldest.at).total_seconds() == 100.0


@pytest.mark.anyio
async def test_a_leader_change_that_is_no_outage() -> None:
    """Another term is noted once, with how long no call was answered if one failed; an outage's term is not."""
    store = MemoryStore()
    async with connected(store) as tide:
        await anyio.sleep(60)
        store.raft_term += 1
        await anyio.sleep(60)
        (noticed_by_nobody,) = tide.status().history.leader_changes
        assert (noticed_by_nobody.seconds, noticed_by_nobody.raft_term) == (None, store.raft_term)
        store.frozen = set(store.members)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(tide.config.fetch, "k")
            await anyio.sleep(1.5)
            store.raft_term += 1
            store.frozen = set()
            store.touch()
        newest = tide.status().history.leader_changes[0]
        assert newest.raft_term == store.raft_term
        assert newest.seconds is not None
        assert 0.5 < newest.seconds < 3.0
        store.down = set(store.members)
        store.touch()
        await tide.health.wait_for(S.UNAVAILABLE, timeout=9)
        store.raft_term += 1
        store.down = set()
        store.touch()
        await tide.health.wait_for(S.AVAILABLE, timeout=9)
        await anyio.sleep(60)
        assert len(tide.status().history.leader_changes) == 2
