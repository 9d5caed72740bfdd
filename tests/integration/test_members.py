"""Members that are learned, die, freeze and return, on real clusters, seen by a client that reads all the time."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import anyio
import anyio.to_thread
import pytest

import tideover
from tideover import HealthState, Source
from tideover.coordinator import Coordinator
from tideover.testing import EtcdCluster, EtcdServer

pytestmark = [pytest.mark.anyio, pytest.mark.etcd]


@pytest.fixture
def anyio_backend() -> str:
    """Run on asyncio: the real store is grpc.aio's."""
    return "asyncio"


@pytest.fixture(scope="module")
def shared() -> Iterator[EtcdCluster]:
    """Three members for all tests here."""
    with EtcdCluster() as cluster:
        yield cluster


@pytest.fixture
async def cluster(shared: EtcdCluster) -> EtcdCluster:
    """All three, whatever the test before has done to them."""
    for member in shared.members:
        if member.paused:
            member.resume()
    shared.start_all()
    await shared.ready()
    return shared


class Fetches:
    """Reads through the quorum, twenty a second, each begun without waiting for the one before.

    Attributes:
        took: Seconds, per read.
        sources: Where answers came from.
    """

    def __init__(self, tide: Coordinator) -> None:
        self.tide = tide
        self.took: list[float] = []
        self.sources: set[Source] = set()

    async def one(self) -> None:
        began = time.monotonic()
        self.sources.add((await self.tide.config.fetch("k", timeout=5)).source)
        self.took.append(time.monotonic() - began)

    async def run(self) -> None:
        async with anyio.create_task_group() as tasks:
            while True:
                tasks.start_soon(self.one)
                await anyio.sleep(0.05)


@asynccontextmanager
async def fetching(tide: Coordinator) -> AsyncIterator[Fetches]:
    """Fetch all the time."""
    fetches = Fetches(tide)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(fetches.run)
        yield fetches
        tasks.cancel_scope.cancel()


async def until(condition: Callable[[], object], within: float) -> float:
    """Wait for a condition; return the seconds it took."""
    began = time.monotonic()
    with anyio.fail_after(within):
        while not condition():
            await anyio.sleep(0.01)
    return time.monotonic() - began


def answers(tide: Coordinator, endpoint: str) -> bool | None:
    """Whether a member answered when it was last asked."""
    return next(member.answers for member in tide.status().members if member.endpoint == endpoint)


async def away(member: EtcdServer, how: str) -> None:
    """Take a member away."""
    member.kill() if how == "kill" else member.pause()


async def back(member: EtcdServer, how: str) -> None:
    """Bring it back, and wait until it serves."""
    member.start() if how == "kill" else member.resume()
    await member.ready()


async def test_the_others_are_learned(cluster: EtcdCluster) -> None:
    """A client that is told of one member soon knows all three by name and id, each once, and where from."""
    told = cluster.members[0].endpoint
    async with tideover.connect(told, cache_dir=False) as tide:
        await tide.know_members(2)
        members = tide.status().members
    assert [m.endpoint for m in members if m.origin == "given"] == [told]
    assert {m.endpoint for m in members} == set(cluster.endpoints)
    assert sorted(m.name for m in members) == ["etcd-1", "etcd-2", "etcd-3"]
    listed = cluster.etcdctl("member", "list")
    assert all(f"{m.id}, started, {m.name}" in listed for m in members)
    assert all(m.answers for m in members)


async def test_endpoints_can_be_kept_to(cluster: EtcdCluster) -> None:
    """With `sync_members=False` nobody else is connected to."""
    told = cluster.members[0].endpoint
    async with tideover.connect(told, cache_dir=False, sync_members=False) as tide:
        await tide.know_members(2)
        await anyio.sleep(0.2)
        assert [m.endpoint for m in tide.status().members] == [told]
        assert [m.name for m in tide.status().members] == ["etcd-1"]


@pytest.mark.parametrize("how", ["kill", "pause"])
async def test_a_lost_member_costs_a_read_under_a_second(cluster: EtcdCluster, how: str) -> None:
    """The one member told of, in use, dies or freezes: no read fails or takes a second; it is well in 2 s again."""
    lost = cluster.followers()[0]
    async with tideover.connect(lost.endpoint, cache_dir=False) as tide:
        await tide.know_members(2)
        async with fetching(tide) as fetches:
            await anyio.sleep(1)
            await away(lost, how)
            await anyio.sleep(3)
            assert tide._lanes.active != lost.endpoint
            assert tide.health.state is HealthState.AVAILABLE
            await back(lost, how)
            returned = await until(lambda: answers(tide, lost.endpoint), within=5)
    print(f"{how}: slowest {max(fetches.took):.3f} s of {len(fetches.took)}, back after {returned:.2f} s")
    assert fetches.sources == {Source.QUORUM}
    assert max(fetches.took) < 1
    assert returned < 2
