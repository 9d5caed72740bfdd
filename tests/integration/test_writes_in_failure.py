"""Nothing that may have been applied is repeated, and what provably was not is: counted on real etcd.

A key's version says how often it was written. The whole table is tried on a gRPC server of ours, which counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial

import anyio
import anyio.to_thread
import pytest

import tideover
from tests.store.provocation import FAST, Liar, at, lying, mend, sent
from tests.store.test_faults import TABLE, Row
from tideover import OutcomeUnknown, RetryPolicy, TideoverError, Unavailable
from tideover.client.gateway import Gateway
from tideover.clock import Clock
from tideover.cluster.state import ClusterState
from tideover.coordinator.coordinator import Coordinator
from tideover.etcd.adapter import EtcdStore
from tideover.etcd.messages import rpc
from tideover.store.faults import FaultKind, classify, public_error
from tideover.store.operations import Delete, Put, Range
from tideover.testing import EtcdCluster, EtcdServer

pytestmark = [pytest.mark.anyio, pytest.mark.etcd, pytest.mark.takes(35)]


@pytest.fixture(scope="module")
def running_cluster() -> Iterator[EtcdCluster]:
    """Three members with quick elections."""
    with EtcdCluster(args=FAST) as running:
        yield running


@pytest.fixture
def cluster(running_cluster: EtcdCluster) -> Iterator[EtcdCluster]:
    """The three members, well before and after the test."""
    mend(running_cluster)
    yield running_cluster
    mend(running_cluster)


async def version(tide: Coordinator, key: str) -> int:
    """Return how often a key was written."""
    async with at(tide._parts.client.state.active) as member:
        return await member.version(f"/config/{key}".encode())


async def using(tide: Coordinator, endpoint: str) -> None:
    """Let a coordinator use a member, over a connection that is there."""
    tide._parts.client.state.active = endpoint
    await tide.config.fetch("warm", default="")


# Waited for ------------------------------------------------------------------------------------------------------


async def test_calls_wait_for_the_only_member() -> None:
    """The only member is restarted: what is asked and written meanwhile waits for it, and is not refused."""
    with EtcdServer() as server:
        await server.ready()
        async with tideover.connect(server.endpoint, cache_dir=False, start_timeout=5) as tide:
            await tide.config.put("k", 0)
            server.kill()
            with anyio.fail_after(5):
                while not tide._parts.client.state.breakers.suspected:
                    await anyio.sleep(0.005)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(partial(tide.config.put, "k", 1, timeout=10))
                tasks.start_soon(partial(tide.config.fetch, "k", timeout=10))
                await anyio.sleep(0.8)
                server.start()
            assert tide.config.get("k", int) == 1
            assert await version(tide, "k") == 2


# Never repeated -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("timeout", [0.5, 8.0])
async def test_a_write_to_a_frozen_quorum(cluster: EtcdCluster, timeout: float) -> None:
    """Its outcome is unknown, to whoever gives it up; when the quorum wakes up it is applied exactly once."""
    key, leader = f"frozen/{timeout}", cluster.leader()
    async with tideover.connect(*cluster.endpoints, cache_dir=False, start_timeout=5) as tide:
        await using(tide, leader.endpoint)
        for follower in cluster.followers():
            follower.pause()
        with pytest.raises(OutcomeUnknown, match="read back to know"):
            await tide.config.put(key, 1, timeout=timeout)
        await anyio.to_thread.run_sync(mend, cluster)
        with anyio.fail_after(5):
            while await version(tide, key) == 0:
                await anyio.sleep(0.05)
        await anyio.sleep(1)
        assert await version(tide, key) == 1


async def test_writes_under_kills(cluster: EtcdCluster) -> None:
    """Members are killed under load: no key is written more often than was asked, and no success is lost."""
    asked: Counter[str] = Counter()
    succeeded: Counter[str] = Counter()
    ended: Counter[str] = Counter()
    stop = False

    async def write(tide: Coordinator, key: str) -> None:
        while not stop:
            asked[key] += 1
            try:
                await tide.config.put(key, asked[key])
                succeeded[key] += 1
            except TideoverError as exc:
                ended[type(exc).__name__] += 1
                await anyio.sleep(0.01)

    async with tideover.connect(*cluster.endpoints, cache_dir=False, start_timeout=5) as tide:
        async with anyio.create_task_group() as writers:
            for number in range(20):
                writers.start_soon(write, tide, f"kill/{number}")
            kills = 0
            # At least four, and until one has caught a write whose answer was under way.
            while kills < 4 or (not ended["OutcomeUnknown"] and kills < 20):
                kills += 1
                await anyio.sleep(0.4)
                victim = next(m for m in cluster.members if m.endpoint == tide._parts.client.state.active)
                victim.kill()
                await anyio.sleep(0.6)
                victim.start()
                await cluster.ready()
            stop = True
        await anyio.sleep(0.5)
        for key in asked:
            assert succeeded[key] <= await version(tide, key) <= asked[key]
    assert sum(succeeded.values()) > 200
    assert ended["OutcomeUnknown"] > 0
    assert set(ended) <= {"OutcomeUnknown", "Unreachable", "NoQuorum", "CircuitOpen"}


# Repeated, because nothing was applied --------------------------------------------------------------------------


async def test_a_write_to_a_member_that_is_dead(cluster: EtcdCluster) -> None:
    """No connection, so never sent: another member is asked at once, and the caller sees nothing of it."""
    victim = cluster.followers()[0]
    async with tideover.connect(*cluster.endpoints, cache_dir=False, start_timeout=5) as tide:
        await using(tide, victim.endpoint)
        victim.kill()
        await anyio.sleep(0.1)
        tide._parts.client.state.active = victim.endpoint
        with anyio.fail_after(1):
            await tide.config.put("dead", 1)
        await using(tide, cluster.leader().endpoint)
        assert await version(tide, "dead") == 1


async def test_a_write_during_an_election(cluster: EtcdCluster) -> None:
    """Refused for want of a leader, it waits for one within its timeout, and is written once."""
    async with tideover.connect(*cluster.endpoints, cache_dir=False, start_timeout=5) as tide:
        survivor, *others = cluster.members
        await using(tide, survivor.endpoint)
        for other in others:
            other.kill()
        async with at(survivor.endpoint) as member:
            await member.leaderless()

        async def return_() -> None:
            await anyio.sleep(0.3)
            cluster.start_all()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(return_)
            await tide.config.put("election", 1, timeout=5)
        assert await version(tide, "election") == 1


async def test_a_write_to_a_leader_that_hands_over(cluster: EtcdCluster) -> None:
    """Its proposal is dropped, and made again until there is a leader that takes it: written once."""
    leader, follower = cluster.leader(), cluster.followers()[0]
    patient = RetryPolicy(attempts=9, wait_initial=0.4, wait_max=0.4)
    async with tideover.connect(*cluster.endpoints, cache_dir=False, start_timeout=5, retry=patient) as tide:
        await using(tide, leader.endpoint)
        async with at(leader.endpoint) as member, anyio.create_task_group() as tasks:
            ids = {m.name: m.ID for m in (await member.members.MemberList(rpc.MemberListRequest())).members}
            request = rpc.MoveLeaderRequest(targetID=ids[follower.name])
            follower.pause()
            moving = member.maintenance.MoveLeader(request, timeout=5)
            tasks.start_soon(moving.code)
            await anyio.sleep(0.01)
            await tide.config.put("dropped", 1)
        assert await version(tide, "dropped") == 1


async def test_writes_while_the_leader_moves(cluster: EtcdCluster) -> None:
    """MoveLeader again and again: nothing is doubled, and all that a caller may see is an unknown outcome.

    That is of a proposal which a follower had passed on to a leader that dropped it, without a word.
    """
    async with tideover.connect(*cluster.endpoints, cache_dir=False, start_timeout=5) as tide:
        stop, asked, succeeded = False, Counter[str](), Counter[str]()

        async def write(key: str) -> None:
            while not stop:
                asked[key] += 1
                try:
                    await tide.config.put(key, asked[key])
                    succeeded[key] += 1
                except OutcomeUnknown:
                    await anyio.sleep(0.01)

        async with anyio.create_task_group() as writers:
            for number in range(10):
                writers.start_soon(write, f"moved/{number}")
            for _ in range(10):
                await anyio.sleep(0.1)
                leader = await cluster.find_leader()
                async with at(leader.endpoint) as member:
                    known = (await member.members.MemberList(rpc.MemberListRequest())).members
                    target = next(m.ID for m in known if m.name != leader.name)
                    await sent(member.maintenance.MoveLeader(rpc.MoveLeaderRequest(targetID=target), timeout=5))
            stop = True
        for key in asked:
            assert succeeded[key] <= await version(tide, key) <= asked[key]
        assert sum(succeeded.values()) > 20
        assert tide.health.state is tideover.HealthState.AVAILABLE


# The whole table ------------------------------------------------------------------------------------------------


@asynccontextmanager
async def gateway_to(liar: Liar) -> AsyncIterator[Gateway]:
    """Make a gateway to a liar, with a monitor that finds all well whenever it is asked to look."""
    lanes = ClusterState([liar.endpoint], clock=Clock(), active=liar.endpoint)
    policy = RetryPolicy(wait_initial=0.001, wait_max=0.002)
    gateway = Gateway(lanes, policy=policy, namespace="")
    store = EtcdStore([liar.endpoint])
    gateway.connect(store)

    async def find_all_well() -> None:
        while True:
            await lanes.breakers.evidence.wait()
            lanes.breakers.suspected = False
            lanes.changed.fire()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(find_all_well)
        try:
            yield gateway
        finally:
            tasks.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):
                await store.aclose()


# A server cannot say CANCELLED to a client of its own accord: grpc makes it UNKNOWN.
SAYABLE = [row for row in TABLE if row.code != "CANCELLED"]


@pytest.mark.parametrize("row", SAYABLE, ids=[f"{row.code} {row.message[:40]}" for row in SAYABLE])
async def test_how_often_a_write_is_sent(row: Row) -> None:
    """What may be applied is sent once. What was not, and is no definite no, is sent until it succeeds."""
    fault = classify(row.code, row.message)
    again = not fault.applied and (fault.outage or fault.kind in (FaultKind.OVERLOADED, FaultKind.HANDOVER))
    async with lying() as liar, gateway_to(liar) as gateway:
        for op in (Put(b"k", b"v"), Delete(b"k")):
            name = "DeleteRange" if isinstance(op, Delete) else "Put"
            liar.says(row.code, row.message, of=type(op))
            with pytest.raises(type(public_error(fault, doing="", writes=True))):
                await gateway.call(op)
            assert liar.calls[name] == (3 if again else 1)
            liar.says(row.code, row.message, lies=2, of=type(op))
            if again:
                await gateway.call(op)
                assert liar.calls[name] == 3


@pytest.mark.parametrize("row", SAYABLE, ids=[f"{row.code} {row.message[:40]}" for row in SAYABLE])
async def test_how_often_a_read_is_sent(row: Row) -> None:
    """A read is sent again exactly if its fault says so."""
    fault = classify(row.code, row.message)
    async with lying() as liar, gateway_to(liar) as gateway:
        liar.says(row.code, row.message, of=Range)
        with pytest.raises(type(public_error(fault, doing="", writes=False))):
            await gateway.call(Range(b"k"))
        assert liar.calls["Range"] == (3 if fault.retry_read else 1)


async def test_a_declared_outage_sends_nothing(cluster: EtcdCluster) -> None:
    """Once the loss of the quorum is declared, a write is refused without a packet, as an outage."""
    async with tideover.connect(*cluster.endpoints, cache_dir=False, start_timeout=5) as tide:
        cluster.lose_quorum()
        await tide.health.wait_for(tideover.HealthState.DEGRADED, timeout=9)
        with pytest.raises(Unavailable, match="etcd has no quorum"):
            await tide.config.put("declared", 1)
        await anyio.to_thread.run_sync(mend, cluster)
        await tide.health.wait_for(tideover.HealthState.AVAILABLE, timeout=5)
        assert await version(tide, "declared") == 0
