"""The health as a stream: the present state, and then every other."""

from __future__ import annotations

from datetime import UTC, datetime

import anyio
import pytest

from tests.support import connected
from tideover import Coordinator
from tideover.testing import MemoryStore
from tideover.types import Diagnosis, HealthState

pytestmark = pytest.mark.anyio

AVAILABLE, DEGRADED, UNAVAILABLE = HealthState


async def flap(tide: Coordinator, store: MemoryStore) -> str:
    """Let all members die and come back; return the outage's id."""
    store.down = set(store.members)
    store.touch()
    await tide.health.wait_for(UNAVAILABLE, timeout=9)
    outage_id = tide.status().outage_id
    store.down = set()
    store.touch()
    await tide.health.wait_for(AVAILABLE, timeout=9)
    return outage_id


async def test_the_present_state_comes_first() -> None:
    """Who asks is told the present state at once, since when, and out of which outage."""
    store = MemoryStore()
    async with connected(store) as tide:
        first = await anext(tide.health.changes())
        assert (first.state, first.previous, first.diagnosis) == (AVAILABLE, UNAVAILABLE, Diagnosis.HEALTHY)
        assert first.outage_id == ""
        began = datetime.fromtimestamp(1_000_000_000 + anyio.current_time(), UTC)
        store.down = set(store.members)
        store.touch()
        await tide.health.wait_for(UNAVAILABLE)
        await anyio.sleep(60)
        change = await anext(tide.health.changes())
        assert (change.state, change.previous, change.diagnosis) == (UNAVAILABLE, AVAILABLE, Diagnosis.CUT_OFF)
        assert change.outage_id == tide.status().outage_id != ""
        assert 3 <= (change.since - began).total_seconds() <= 5
        assert change.since == tide.health.since
        assert change.to_dict()["since"] == change.since.isoformat()


async def test_every_state_is_told_in_order() -> None:
    """A slow reader is told of each state that was, a recovery with the outage that it ends."""
    store = MemoryStore()
    async with connected(store) as tide:
        changes = tide.health.changes()
        outages = [await flap(tide, store) for _ in range(3)]
        told = [await anext(changes) for _ in range(7)]
        assert [each.state for each in told] == [AVAILABLE, *[UNAVAILABLE, AVAILABLE] * 3]
        assert [each.previous for each in told[1:]] == [each.state for each in told[:-1]]
        assert [each.outage_id for each in told] == ["", *(id_ for id_ in outages for _ in range(2))]
        assert [each.since for each in told] == sorted(each.since for each in told)
        assert changes.missed == 0


async def test_a_reader_that_waits_is_told_at_once() -> None:
    """The change arrives in the moment of the declaration, and each reader has all of them."""
    store = MemoryStore()
    told: list[dict[HealthState, float]] = [{}, {}]

    async def read(found: dict[HealthState, float]) -> None:
        async for change in tide.health.changes():
            found[change.state] = anyio.current_time()

    async with connected(store) as tide, anyio.create_task_group() as tasks:
        for found in told:
            tasks.start_soon(read, found)
        await anyio.sleep(1)
        store.down = set(list(store.members)[1:])
        store.touch()
        await tide.health.wait_for(DEGRADED, timeout=9)
        declared_at = anyio.current_time()
        await anyio.sleep(60)
        assert told[0] == told[1]
        assert told[0].keys() == {AVAILABLE, DEGRADED}
        assert told[0][DEGRADED] == declared_at
        tasks.cancel_scope.cancel()


async def test_what_is_dropped_is_counted() -> None:
    """A hundred changes wait for a reader; of more the oldest are dropped, and counted."""
    store = MemoryStore()
    async with connected(store) as tide:
        changes = tide.health.changes()
        for number in range(149):
            tide.health.record(AVAILABLE, outage_id=f"{number}")
        assert changes.missed == 50
        assert repr(changes) == "<HealthChanges 100 waiting, 50 missed>"
        told = [await anext(changes) for _ in range(100)]
        assert [each.outage_id for each in told] == [str(number) for number in range(49, 149)]
        tide.health.record(AVAILABLE, outage_id="149")
        assert (await anext(changes)).outage_id == "149"
        assert changes.missed == 50


async def test_it_ends_with_the_coordinator() -> None:
    """Closing ends the iteration once its reader has had all that waited."""
    store = MemoryStore()
    async with connected(store) as tide:
        changes = tide.health.changes()
        await flap(tide, store)
    assert [each.state async for each in changes] == [AVAILABLE, UNAVAILABLE, AVAILABLE]


async def test_a_leader_change_is_none() -> None:
    """What is no outage is no change of the health, although the diagnosis says it."""
    store = MemoryStore()
    async with connected(store) as tide:
        changes = tide.health.changes()
        await anext(changes)
        store.electing = True
        store.touch()
        await anyio.sleep(1.5)
        assert tide.health.diagnosis is Diagnosis.LEADER_CHANGE
        store.electing = False
        store.touch()
        with anyio.move_on_after(60) as waited:
            await anext(changes)
        assert waited.cancelled_caught


async def test_before_the_first_verdict_nothing_is_known() -> None:
    """Who asks a coordinator that has not been entered is told that, and then what is found."""
    store = MemoryStore()
    connecting = connected(store)
    async with connecting as tide:
        pass
    changes = Coordinator(tide._parts.options, store=store).health.changes()
    first = await anext(changes)
    assert (first.state, first.previous, first.diagnosis) == (UNAVAILABLE, None, Diagnosis.STARTING)
