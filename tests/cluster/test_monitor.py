"""The monitor on a cluster in memory: what it declares, when, and what it costs."""

from __future__ import annotations

from typing import Any, TypeVar

import anyio
import pytest

from tests.support import connected
from tideover.store.operations import Lane, Op, Range, Result
from tideover.testing import MemoryStore
from tideover.types import Diagnosis, HealthState

pytestmark = pytest.mark.anyio

R = TypeVar("R", bound=Result)


def lose_quorum(store: MemoryStore, active: str) -> None:
    """Take down two members, sparing the one in use."""
    store.down = set([m for m in store.members if m != active][:2])
    store.touch()


async def test_quorum_loss_is_declared_in_time() -> None:
    """Two of three members die: DEGRADED not before 3 s, and within 5 s, although the member in use survives."""
    store = MemoryStore()
    async with connected(store) as tide:
        await anyio.sleep(60)
        lose_quorum(store, tide._parts.client.state.active)
        began = anyio.current_time()
        await tide.health.wait_for(HealthState.DEGRADED, timeout=5)
        assert 3.0 <= anyio.current_time() - began <= 5.0
        assert tide.health.diagnosis is Diagnosis.QUORUM_LOST


async def test_total_loss_is_declared_as_unavailable() -> None:
    """All members die at once: from AVAILABLE straight to UNAVAILABLE, within 5 s."""
    store = MemoryStore()
    async with connected(store) as tide:
        await anyio.sleep(60)
        store.down = set(store.members)
        store.touch()
        await tide.health.wait_for(HealthState.UNAVAILABLE, timeout=5)
        assert tide.health.diagnosis is Diagnosis.CUT_OFF


async def test_silent_partition_of_an_idle_client() -> None:
    """All members fall silent, no connection breaks: an idle client declares it within 9 s."""
    store = MemoryStore()
    async with connected(store) as tide:
        await anyio.sleep(60)
        store.frozen = set(store.members)
        began = anyio.current_time()
        await tide.health.wait_for(HealthState.UNAVAILABLE, timeout=9)
        assert anyio.current_time() - began >= 3.0


@pytest.mark.parametrize("seconds", [0.2, 1.0, 1.8, 2.5, 4.0])
async def test_leader_change_passes_unnoticed(seconds: float) -> None:
    """A cluster that elects for up to 4 s never leaves AVAILABLE, and a fetch meanwhile waits and succeeds."""
    store = MemoryStore()
    async with connected(store) as tide:
        await tide.config.put("a", "1")
        states = set()

        async def watch_state() -> None:
            while True:
                states.add(tide.health.state)
                await anyio.sleep(0.01)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch_state)
            store.electing = True
            store.touch()

            async def elect() -> None:
                await anyio.sleep(seconds)
                store.electing = False
                store.raft_term += 1
                store.touch()

            tasks.start_soon(elect)
            reading = await tide.config.fetch("a", timeout=6)
            await anyio.sleep(1)
            tasks.cancel_scope.cancel()
        assert states == {HealthState.AVAILABLE}
        assert reading.source == "quorum"


async def test_endless_election_is_an_outage() -> None:
    """All members answer but never elect a leader: that is a lost quorum, declared, not a leader change."""
    store = MemoryStore()
    async with connected(store) as tide:
        store.electing = True
        store.touch()
        await tide.health.wait_for(HealthState.DEGRADED, timeout=8)
        assert tide.health.diagnosis is Diagnosis.QUORUM_LOST


async def test_recovery_takes_under_two_seconds() -> None:
    """After ten minutes of total outage: AVAILABLE within 2 s of a quorum answering, live again 1 s later."""
    store = MemoryStore()
    async with connected(store) as tide:
        await tide.config.put("a", "1")
        store.down = set(store.members)
        store.touch()
        await tide.health.wait_for(HealthState.UNAVAILABLE)
        await anyio.sleep(600)
        store.down = set()
        store.touch()
        await tide.health.wait_for(HealthState.AVAILABLE, timeout=2)
        await anyio.sleep(1)
        assert tide.config.read("a").source == "live"


async def test_frozen_member_in_use_is_left() -> None:
    """The member in use freezes: no state change, another member is in use within 6 s of idleness."""
    store = MemoryStore()
    async with connected(store) as tide:
        await anyio.sleep(60)
        first = tide._parts.client.state.active
        store.frozen = {first}
        await anyio.sleep(6)
        assert tide.health.state is HealthState.AVAILABLE
        assert tide._parts.client.state.active != first
        await tide.config.put("a", "1")
        assert tide.config.get("a") == "1"


class SlowQuorum(MemoryStore):
    """A cluster whose members answer at once, and whose quorum takes long.

    Attributes:
        takes: Seconds.
    """

    takes = 0.0

    async def call(self, op: Op[R], *, member: str, timeout: float) -> R:
        """Make one attempt."""
        if op.linearizable:
            with anyio.fail_after(timeout):
                await anyio.sleep(self.takes)
        return await super().call(op, member=member, timeout=timeout)


async def test_slow_quorum_is_called_slow() -> None:
    """A quorum that answers after 5.5 s, longer than any limit, is SLOW and DEGRADED, not cut off."""
    store = SlowQuorum()
    async with connected(store) as tide:
        await anyio.sleep(10)
        store.takes = 5.5
        await tide.health.wait_for(HealthState.DEGRADED, timeout=15)
        await anyio.sleep(5)
        assert tide.health.diagnosis is Diagnosis.SLOW
        assert tide.health.state is HealthState.DEGRADED
        store.takes = 0.0
        await tide.health.wait_for(HealthState.AVAILABLE, timeout=3)


@pytest.mark.parametrize("seconds", [0.3, 0.8])
async def test_a_longer_way_is_no_outage(seconds: float) -> None:
    """Answers that from now on take up to 0.8 s leave the state AVAILABLE, and calls get theirs."""
    store = MemoryStore()
    async with connected(store) as tide:
        await tide.config.put("a", "1")
        await anyio.sleep(10)
        store.delay = seconds
        for _ in range(30):
            await anyio.sleep(1)
            assert tide.health.state is HealthState.AVAILABLE
        assert (await tide.config.fetch("a", timeout=10)).value == "1"
        await tide.config.put("a", "2", timeout=10)
        assert tide._parts.client.state.limit(tide._parts.client.state.active, 0.5) <= 5.0


@pytest.mark.parametrize("seconds", [1.2, 1.5, 2.0])
async def test_a_much_longer_way_degrades_for_a_moment(seconds: float) -> None:
    """Answers that from one moment on take 1 to 2 s longer may degrade for 15 s, and are never an outage."""
    store = MemoryStore()
    async with connected(store) as tide:
        await tide.config.put("a", "1")
        await anyio.sleep(10)
        store.delay = seconds
        for tenth in range(600):
            await anyio.sleep(0.1)
            degraded = tide.health.state is HealthState.DEGRADED and tenth < 150
            assert degraded or tide.health.state is HealthState.AVAILABLE
        assert (await tide.config.fetch("a", timeout=10)).value == "1"


async def test_after_a_long_way_silence_is_noticed_soon() -> None:
    """Limits come down again with the round trips: a minute later a silent member is left within 6 s."""
    store = MemoryStore()
    async with connected(store) as tide:
        store.delay = 1.5
        await anyio.sleep(60)
        store.delay = 0.0
        await anyio.sleep(120)
        first = tide._parts.client.state.active
        store.frozen = {first}
        await anyio.sleep(6)
        assert tide.health.state is HealthState.AVAILABLE
        assert tide._parts.client.state.active != first


async def test_idle_probing_is_slow() -> None:
    """An hour of idleness costs etcd at most one read every 3.5 s, all at one member."""
    store = MemoryStore()
    async with connected(store) as tide:
        await anyio.sleep(10)
        store.calls.clear()
        await anyio.sleep(3600)
        probes = [member for member, op in store.calls if isinstance(op, Range) and op.limit == 1]
        assert 3600 / 5 - 1 <= len(probes) <= 3600 / 3.5 + 1
        assert set(probes) == {tide._parts.client.state.active}


async def test_traffic_counts_as_probes() -> None:
    """While linearizable reads flow, the monitor sends none of its own."""
    store = MemoryStore()
    async with connected(store) as tide:
        await tide.config.put("a", "1")
        await anyio.sleep(10)
        store.calls.clear()
        for _ in range(100):
            await tide.config.fetch("a")
            await anyio.sleep(1)
        probes = [op for _, op in store.calls if isinstance(op, Range) and op.limit == 1]
        assert probes == []


async def test_outage_probing_is_bounded() -> None:
    """Ten minutes without a quorum cost a member five probes a second at most, and one read per 5 s."""
    store = MemoryStore()
    async with connected(store) as tide:
        lose_quorum(store, tide._parts.client.state.active)
        await tide.health.wait_for(HealthState.DEGRADED)
        store.calls.clear()
        await anyio.sleep(600)
        survivor = [op for member, op in store.calls if member not in store.down]
        assert len(survivor) <= 600 / 0.4 * 2 + 600 / 5 * 1.1


async def test_flapping_member_does_not_flap_the_state() -> None:
    """A member other than the one in use dies and returns every second for a minute: AVAILABLE all the time."""
    store = MemoryStore()
    async with connected(store) as tide:
        other = next(m for m in store.members if m != tide._parts.client.state.active)
        for _ in range(30):
            store.down = {other}
            store.touch()
            await anyio.sleep(1)
            assert tide.health.state is HealthState.AVAILABLE
            store.down = set()
            store.touch()
            await anyio.sleep(1)
        assert tide.health.state is HealthState.AVAILABLE


async def test_breaker_refuses_without_a_packet() -> None:
    """In a declared outage a write is refused at once, with the time until the next probe, and nothing is sent."""
    store = MemoryStore()
    async with connected(store) as tide:
        store.down = set(store.members)
        store.touch()
        await tide.health.wait_for(HealthState.UNAVAILABLE)
        assert not tide._parts.client.state.health.quorum.closed
        before, sent = anyio.current_time(), len(store.calls)
        with pytest.raises(Exception, match="no etcd member answers") as caught:
            await tide.config.put("a", "1")
        assert type(caught.value).__name__ == "CircuitOpen"
        assert 0 <= caught.value.retry_after <= 0.6  # type: ignore[attr-defined]
        assert anyio.current_time() == before
        assert len(store.calls) == sent


async def test_single_member() -> None:
    """A cluster of one: its death is UNAVAILABLE, its return AVAILABLE."""
    store = MemoryStore(1)
    async with connected(store) as tide:
        store.down = set(store.members)
        store.touch()
        await tide.health.wait_for(HealthState.UNAVAILABLE, timeout=5)
        store.down = set()
        store.touch()
        await tide.health.wait_for(HealthState.AVAILABLE, timeout=2)


@pytest.mark.parametrize("login", [{}, {"username": "app", "password": "x"}])
async def test_idle_members_are_kept_from_forgetting_a_token(login: dict[str, Any]) -> None:
    """With a user each member not in use is asked once a minute, quorum or not; without one it is left alone."""
    store = MemoryStore()
    async with connected(store, **login) as tide:
        idle = set(store.members) - {tide._parts.client.state.active}
        await anyio.sleep(30)
        store.calls.clear()
        await anyio.sleep(600)
        asked = [(member, op.lane) for member, op in store.calls if member in idle]
        assert {lane for _, lane in asked} <= {Lane.MEMBER}
        assert 18 <= len(asked) <= 20 if login else asked == []
