"""Members that are learned, die, freeze and return, on real clusters, seen by a client that reads all the time."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress

import anyio
import anyio.abc
import anyio.lowlevel
import anyio.to_thread
import pytest

import tideover
from tideover import HealthState, Source
from tideover.coordinator.coordinator import Coordinator
from tideover.options import Options
from tideover.testing import EtcdCluster, EtcdServer

pytestmark = [pytest.mark.anyio, pytest.mark.etcd, pytest.mark.takes(65), pytest.mark.version]


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
        await tide._life.know_members(2)
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
        await tide._life.know_members(2)
        await anyio.sleep(0.2)
        assert [m.endpoint for m in tide.status().members] == [told]
        assert [m.name for m in tide.status().members] == ["etcd-1"]


@pytest.mark.parametrize("how", ["kill", "pause"])
async def test_a_lost_member_costs_a_read_under_a_second(cluster: EtcdCluster, how: str) -> None:
    """The one member told of, in use, dies or freezes: no read fails or takes 1 s; found again within 2 s."""
    lost = cluster.followers()[0]
    async with tideover.connect(lost.endpoint, cache_dir=False) as tide:
        await tide._life.know_members(2)
        async with fetching(tide) as fetches:
            await anyio.sleep(1)
            await away(lost, how)
            await anyio.sleep(3)
            assert tide._parts.client.state.active != lost.endpoint
            assert tide.health.state is HealthState.AVAILABLE
            await back(lost, how)
            returned = await until(lambda: answers(tide, lost.endpoint), within=5)
    print(f"{how}: slowest {max(fetches.took):.3f} s of {len(fetches.took)}, back after {returned:.2f} s")
    assert fetches.sources == {Source.QUORUM}
    assert max(fetches.took) < 1
    assert returned < 2


@pytest.mark.parametrize(("how", "seconds"), [("kill", 3), ("pause", 3), ("kill", 20)])
async def test_the_only_member_is_back_within_two_seconds(how: str, seconds: float) -> None:
    """The only member there is, away for 3 s or for 20: AVAILABLE within 2 s of the moment it answers again."""
    with EtcdServer() as only:
        async with tideover.connect(only.endpoint, cache_dir=False) as tide:
            await anyio.sleep(0.5)
            await away(only, how)
            await anyio.sleep(seconds)
            await back(only, how)
            took = await until(
                lambda: tide.health.state is HealthState.AVAILABLE and answers(tide, only.endpoint), 5
            )
            print(f"{how} for {seconds} s: back after {took:.2f} s")
            assert took < 2
            assert (await tide.config.fetch("k", default="")).revision == 0


@pytest.mark.parametrize("told", [1, 3])
async def test_a_lost_quorum_is_declared_as_fast_by_who_knows_one(cluster: EtcdCluster, told: int) -> None:
    """Two of three die: a client that was told of the survivor alone declares it as fast as one that knows all."""
    survivor = cluster.followers()[0]
    endpoints = [survivor.endpoint] if told == 1 else cluster.endpoints
    async with tideover.connect(*endpoints, cache_dir=False) as tide:
        await tide._life.know_members(2)
        await anyio.sleep(0.5)
        cluster.lose_quorum(survivor=survivor)
        took = await until(lambda: tide.health.state is HealthState.DEGRADED, within=10)
        print(f"told of {told}: declared after {took:.2f} s")
    assert 3 <= took < 5


async def test_writes_go_on_after_a_kill(cluster: EtcdCluster) -> None:
    """The member in use is killed under writes: at most one of them is OutcomeUnknown, none fails otherwise."""
    lost = cluster.followers()[0]
    unknown = 0
    async with tideover.connect(lost.endpoint, cache_dir=False) as tide:
        await tide._life.know_members(2)
        for number in range(60):
            if number == 20:
                lost.kill()
            try:
                await tide.config.put("w", str(number))
            except tideover.OutcomeUnknown:
                unknown += 1
        assert tide.config.get("w") == "59"
    assert unknown <= 1


async def test_a_member_that_is_removed_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A member that is taken out of a real cluster is gone from the status, and its connection closed."""
    monkeypatch.setattr("tideover.cluster.member_sync._LIST_EVERY", 1.0)
    with EtcdCluster(args=("--strict-reconfig-check=false",)) as three:
        # No leader, for an election is another test's subject.
        third = next(member for member in three.followers() if member is not three.members[0])
        first, second = (member for member in three.members if member is not third)
        async with tideover.connect(first.endpoint, cache_dir=False) as tide:
            await tide._life.know_members(2)
            assert answers(tide, third.endpoint)
            number = next(m.id for m in tide.status().members if m.endpoint == third.endpoint)
            # One that stays is asked: the one that is removed stops before it has answered.
            await anyio.to_thread.run_sync(first.etcdctl, "member", "remove", number)
            await until(lambda: third.endpoint not in {m.endpoint for m in tide.status().members}, within=5)
            assert {m.endpoint for m in tide.status().members} == {first.endpoint, second.endpoint}
            assert third.endpoint not in tide._parts.client.state.members
            assert tide.health.state is HealthState.AVAILABLE


async def test_a_forwarded_port(cluster: EtcdCluster) -> None:
    """Through a forwarded port, to a member that advertises where it really is: one member, known by its name."""
    target = cluster.members[0].endpoint

    async def forward(stream: anyio.abc.SocketStream) -> None:
        host, _, port = target.rpartition(":")
        async with stream, await anyio.connect_tcp(host, int(port)) as there, anyio.create_task_group() as tasks:

            async def pump(source: anyio.abc.SocketStream, sink: anyio.abc.SocketStream) -> None:
                with suppress(anyio.ClosedResourceError, anyio.BrokenResourceError):
                    async for chunk in source:
                        await sink.send(chunk)
                tasks.cancel_scope.cancel()

            tasks.start_soon(pump, stream, there)
            tasks.start_soon(pump, there, stream)

    async with (
        await anyio.create_tcp_listener(local_host="127.0.0.1") as listener,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(listener.serve, forward)
        port = listener.extra(anyio.abc.SocketAttribute.local_port)
        async with tideover.connect(f"127.0.0.1:{port}", cache_dir=False) as tide:
            await tide._life.know_members(2)
            members = {m.endpoint: m.name for m in tide.status().members}
            assert members[f"127.0.0.1:{port}"] == "etcd-1"
            assert target not in members
            assert sorted(members.values()) == ["etcd-1", "etcd-2", "etcd-3"]
        tasks.cancel_scope.cancel()


async def test_a_name_is_as_many_members_as_it_has_addresses() -> None:
    """etcd on both addresses of a name, then on one of them alone: AVAILABLE either way, and one member counts."""

    async def resolve(host: str, port: int) -> list[str]:
        await anyio.lowlevel.checkpoint()
        return ["::1", "127.0.0.1"]

    with EtcdServer(name="both") as server:
        port = server.endpoint.rpartition(":")[2]
        here = [f"127.0.0.1:{port}", f"[::1]:{port}"]
        for listen, answering in ((",".join(f"http://{e}" for e in here), here), (f"http://{here[0]}", here[:1])):
            await anyio.to_thread.run_sync(server.stop)
            server._args = (f"--listen-client-urls={listen}", f"--advertise-client-urls=http://localhost:{port}")
            server.start()
            await server.ready()
            options = Options(endpoints=(f"localhost:{port}",), cache_dir=False)
            async with Coordinator(options, resolver=resolve) as tide:
                await tide._life.know_members(2)
                await anyio.sleep(2.5)
                found = {m.endpoint: (m.origin, m.answers) for m in tide.status().members}
                assert found == {endpoint: ("given", endpoint in answering) for endpoint in here}
                assert {m.name for m in tide.status().members if m.answers} == {"both"}
                assert tide._parts.client.state.roll.size == 1
                assert tide.health.state is HealthState.AVAILABLE
                await tide.config.put("a", "1")
