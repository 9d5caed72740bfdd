"""Each diagnosis, provoked on a real three-member cluster under a whole coordinator: its words, the way back."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager

import anyio
import anyio.to_thread
import pytest

import tideover
from tests.store.provocation import at, mend, sent
from tideover import Diagnosis, HealthState, Source, StatusReport
from tideover.cluster import alarms
from tideover.cluster.breakers.state_machine import HealthRules
from tideover.coordinator.coordinator import Coordinator
from tideover.etcd.messages import rpc
from tideover.testing import EtcdCluster

pytestmark = [pytest.mark.anyio, pytest.mark.etcd, pytest.mark.takes(85)]

D, S = Diagnosis, HealthState


@pytest.fixture(scope="module")
def running_cluster() -> Iterator[EtcdCluster]:
    """Three members with etcd's default timing."""
    with EtcdCluster() as running:
        yield running


@pytest.fixture
def cluster(running_cluster: EtcdCluster) -> Iterator[EtcdCluster]:
    """The three members, well before and after the test."""
    mend(running_cluster)
    yield running_cluster
    mend(running_cluster)


class Seen:
    """What a coordinator has said.

    Attributes:
        states: Its states, each as often as it came.
        diagnoses: Its diagnoses, likewise.
    """

    def __init__(self, tide: Coordinator) -> None:
        self.tide = tide
        self.states: list[str] = []
        self.diagnoses: list[str] = []

    async def run(self) -> None:
        """Look every few milliseconds."""
        while True:
            for seen, now in ((self.states, self.tide.health.state), (self.diagnoses, self.tide.health.diagnosis)):
                if seen[-1:] != [now]:
                    seen.append(now)
            await anyio.sleep(0.005)


@asynccontextmanager
async def connected(*endpoints: str, **options: str) -> AsyncIterator[tuple[Coordinator, Seen]]:
    """Connect, and write down what the coordinator says."""
    opening = tideover.connect(*endpoints, cache_dir=False, start_timeout=5, **options)  # type: ignore[arg-type]
    async with opening as tide:
        seen = Seen(tide)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(seen.run)
            yield tide, seen
            tasks.cancel_scope.cancel()
        assert tide.status().restarts == 0


async def until(condition: Callable[[], object], within: float) -> float:
    """Wait for a condition; return the seconds it took."""
    began = time.monotonic()
    with anyio.fail_after(within):
        while not condition():
            await anyio.sleep(0.005)
    return time.monotonic() - began


async def says(tide: Coordinator, state: HealthState, diagnosis: Diagnosis, sentence: str, within: float) -> None:
    """Wait until the coordinator says all three, at once and everywhere."""
    await until(lambda: (tide.health.state, tide.health.diagnosis) == (state, diagnosis), within)
    report = tide.status()
    assert (report.state, report.diagnosis) == (state, diagnosis)
    assert report.sentence.startswith(sentence)
    assert tide.health.sentence.startswith(sentence.partition(". ")[0])
    assert bool(report.outage_id) is (state is not S.AVAILABLE)


async def back(tide: Coordinator) -> None:
    """Wait until all is well again."""
    await says(tide, S.AVAILABLE, D.HEALTHY, "etcd answers", within=6)
    await until(lambda: tide.config.read("k").source is Source.LIVE, within=3)
    await anyio.sleep(0.02)  # for what is `Seen`


async def test_healthy(cluster: EtcdCluster) -> None:
    """A quorum that answers is HEALTHY from the moment of entering."""
    async with connected(*cluster.endpoints) as (tide, seen):
        await says(tide, S.AVAILABLE, D.HEALTHY, "etcd answers. Config '/config/' is live.", within=0.1)
        assert [member.active for member in tide.status().members].count(True) == 1
        await anyio.sleep(0.5)
        assert seen.diagnoses == ["healthy"]


@pytest.mark.parametrize("how", ["kill", "pause", "move"])
async def test_a_leader_change(cluster: EtcdCluster, how: str) -> None:
    """The leader in use is killed, frozen or moved: AVAILABLE throughout, LEADER_CHANGE at the most.

    That goes for an election that is decided in its first round. When the votes are split, etcd is without a
    leader for longer than a leader change may take, and it is right to say more: then this is tried again.
    """
    for _ in range(5):
        took, seen, report = await leader_changed(cluster, how)
        # A follower waits for its leader for a second at the least; then the two seconds of a change begin.
        if took < 1 + HealthRules().leader_change - 0.1:
            break
        await anyio.to_thread.run_sync(mend, cluster)
    else:
        pytest.fail("five elections in a row were split")
    assert seen.states == ["available"]
    assert set(seen.diagnoses) <= {"healthy", "leader_change"}
    if how == "kill":
        # The others cannot know yet, and it was asked: one round at least without a leader.
        assert "leader_change" in seen.diagnoses
    assert seen.diagnoses[-1] == "healthy"
    (change,) = report.history.leader_changes
    assert change.raft_term == report.identity.raft_term
    assert how != "kill" or change.seconds is not None
    assert report.history.outages == 0


async def leader_changed(cluster: EtcdCluster, how: str) -> tuple[float, Seen, StatusReport]:
    """Change the leader; return the seconds until the others had one, and what a coordinator has said."""
    leader = cluster.leader()
    async with connected(*cluster.endpoints) as (tide, seen):
        await tide.config.put("k", "v")
        tide._parts.client.state.active = leader.endpoint
        await tide.config.fetch("k")
        began = time.monotonic()
        if how == "move":
            async with at(leader.endpoint) as member:
                known = (await member.members.MemberList(rpc.MemberListRequest())).members
                target = next(m.ID for m in known if m.name != leader.name)
                await sent(member.maintenance.MoveLeader(rpc.MoveLeaderRequest(targetID=target), timeout=5))
        else:
            getattr(leader, how)()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(fetched, tide)
            async with at(next(other for other in cluster.endpoints if other != leader.endpoint)) as follower:
                await follower.quorum()
                took = time.monotonic() - began
        await anyio.sleep(4)
        report = tide.status()
    return took, seen, report


async def fetched(tide: Coordinator) -> None:
    """Ask at once, and be answered by a quorum."""
    assert (await tide.config.fetch("k", timeout=8)).source is Source.QUORUM


@pytest.mark.parametrize("how", ["kill", "pause"])
async def test_the_quorum_is_lost(cluster: EtcdCluster, how: str) -> None:
    """Two of three members are dead or frozen: DEGRADED, as QUORUM_LOST, and back when they are."""
    async with connected(*cluster.endpoints) as (tide, seen):
        await tide.config.put("k", "v")
        # One that lacks what the coordinator knows could tell it nothing.
        await cluster.applied()
        for member in cluster.members[:2]:
            getattr(member, how)()
        sentence = "etcd has no quorum; degraded for 0 s. Config '/config/' is served from "
        await says(tide, S.DEGRADED, D.QUORUM_LOST, "etcd has no quorum", within=10)
        assert tide.status().sentence.startswith(sentence)
        with pytest.raises(tideover.CircuitOpen, match="etcd has no quorum"):
            await tide.config.put("k", "w")
        await until(lambda: tide.config.read("k").source is Source.MEMBER, within=6)
        answers = [member.answers for member in tide.status().members]
        assert answers == [False, False, True]
        await anyio.to_thread.run_sync(mend, cluster)
        await back(tide)
        assert seen.states == ["available", "degraded", "available"]


@pytest.mark.parametrize("how", ["kill", "pause"])
async def test_nobody_answers(cluster: EtcdCluster, how: str) -> None:
    """All members are dead or frozen: UNAVAILABLE, as CUT_OFF, with what is known of each member."""
    async with connected(*cluster.endpoints) as (tide, seen):
        await tide.config.put("k", "v")
        for member in cluster.members:
            getattr(member, how)()
        await says(tide, S.UNAVAILABLE, D.CUT_OFF, "no etcd member answers (127.0.0.1:", within=10)
        whys = ["Connection refused"] if how == "kill" else ["silent", "connection attempt timed out"]
        said = rf"{cluster.endpoints[0]}(, 127\.0\.0\.1:[0-9]+)*: ({'|'.join(whys)})"
        assert re.search(said, tide.status().sentence)
        assert [member.answers for member in tide.status().members] == [False] * 3
        await anyio.to_thread.run_sync(mend, cluster)
        await back(tide)
        # They go and come one after the other: with the first of them there is something, but no quorum yet.
        assert [state for state in seen.states if state != "degraded"] == ["available", "unavailable", "available"]


# Slow -----------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def slowed(endpoint: str, delay: list[float]) -> AsyncIterator[str]:
    """Relay connections to an endpoint, each piece of an answer so many seconds late; yield where."""
    host, _, port = endpoint.rpartition(":")

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, slow: bool) -> None:
        loop = asyncio.get_running_loop()
        pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def send() -> None:
            while True:
                due, data = await pieces.get()
                await asyncio.sleep(due - loop.time())
                if not data:
                    return
                writer.write(data)

        sending = asyncio.create_task(send())
        try:
            while True:
                data = await reader.read(65536)
                pieces.put_nowait((loop.time() + (delay[0] if slow else 0.0), data))
                if not data:
                    await sending
                    return
        except OSError:
            pass
        finally:
            sending.cancel()
            writer.close()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection(host, int(port))
        except OSError:
            writer.close()
            return
        await asyncio.gather(pass_on(reader, back, False), pass_on(there, writer, True))

    server = await asyncio.start_server(relay, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


async def test_a_way_that_becomes_long(cluster: EtcdCluster) -> None:
    """Answers that from now on take 0.8 s are waited for: AVAILABLE all the while, and calls get theirs."""
    delay = [0.0]
    async with AsyncExitStack() as stack:
        endpoints = [await stack.enter_async_context(slowed(e, delay)) for e in cluster.endpoints]
        async with connected(*endpoints) as (tide, seen):
            await tide.config.put("k", "v")
            delay[0] = 0.8
            await anyio.sleep(8)
            assert (await tide.config.fetch("k", timeout=10)).value == "v"
            await tide.config.put("k", "w", timeout=10)
            delay[0] = 0.0
            await anyio.sleep(1)
            assert seen.states == ["available"]


async def test_slowness_of_one_member_is_left_behind(cluster: EtcdCluster) -> None:
    """Only the member in use is slow: another one is used, and nothing is declared."""
    delay = [0.0]
    async with slowed(cluster.endpoints[0], delay) as slow:
        async with connected(slow, *cluster.endpoints[1:]) as (tide, seen):
            tide._parts.client.state.active = slow
            await tide.config.fetch("k", default="")
            delay[0] = 2.0  # longer than any answer took until now, on a busy machine too
            await until(lambda: tide._parts.client.state.active != slow, within=12)
            await anyio.sleep(4)
            assert seen.states == ["available"]


# Refused --------------------------------------------------------------------------------------------------------


async def fill(cluster: EtcdCluster) -> None:
    """Write as another client until etcd refuses it."""
    async with at(cluster.leader().endpoint) as member:
        with pytest.raises(Exception, match="database space exceeded"):
            while True:
                await member.put(b"fill", b"x" * 50_000)
                await anyio.sleep(0.005)


async def test_no_space(monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else uses the quota up: found without a write of ours, told, and over soon after the alarm is."""
    monkeypatch.setattr(alarms, "QUIET_INTERVAL", 1.0)
    with EtcdCluster(args=("--quota-backend-bytes=400000",)) as cluster:
        async with connected(*cluster.endpoints) as (tide, seen):
            await tide.config.put("k", "v")
            await fill(cluster)
            sentence = "etcd refuses writes: its database quota is used up. Config '/config/' is live."
            await says(tide, S.AVAILABLE, D.NO_SPACE, sentence, within=1.5)
            with pytest.raises(tideover.SpaceExhausted):
                await tide.config.put("k", "w")
            assert (await tide.config.fetch("k")).source is Source.QUORUM
            await tide.config.delete("k")
            assert tide.health.diagnosis == "no_space"
            await cluster.applied()
            async with tideover.connect(*cluster.endpoints, cache_dir=False, start_timeout=5) as another:
                assert another.health.diagnosis is D.NO_SPACE

            def make_room() -> None:
                cluster.wait_applied()
                revision = cluster.etcdctl("endpoint", "status", "-w=json").split('"revision":')[1]
                cluster.etcdctl("compact", revision.partition(",")[0])
                cluster.wait_applied()
                cluster.etcdctl("defrag")
                cluster.etcdctl("alarm", "disarm")

            await anyio.to_thread.run_sync(make_room)
            await says(tide, S.AVAILABLE, D.HEALTHY, "etcd answers", within=alarms.ALARMED_INTERVAL + 0.5)
            await tide.config.put("k", "x")
            await until(lambda: seen.diagnoses == ["healthy", "no_space", "healthy"], within=1)
            assert seen.states == ["available"]


async def test_corrupt(cluster: EtcdCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """An alarm of corruption: reads go on, writes are refused by etcd, and the sentence says why."""
    monkeypatch.setattr(alarms, "QUIET_INTERVAL", 1.0)
    async with connected(*cluster.endpoints) as (tide, _), at(cluster.endpoints[0]) as member:
        await tide.config.put("k", "v")
        about = (await member.members.MemberList(rpc.MemberListRequest())).members[0]
        alarm = {"memberID": about.ID, "alarm": rpc.CORRUPT}
        await sent(member.maintenance.Alarm(rpc.AlarmRequest(action=1, **alarm), timeout=5))
        try:
            sentence = "etcd refuses writes: it has found its data damaged"
            await says(tide, S.AVAILABLE, D.CORRUPT, sentence, within=1.5)
            with pytest.raises(tideover.DataCorrupt, match="corrupt cluster"):
                await tide.config.put("k", "w")
            with pytest.raises(tideover.DataCorrupt):
                async with tide.lock("x", timeout=5, on_outage="local"):
                    raise AssertionError
            assert tide.config.get("k") == "v"
        finally:
            await sent(member.maintenance.Alarm(rpc.AlarmRequest(action=2, **alarm), timeout=5))
        await says(tide, S.AVAILABLE, D.HEALTHY, "etcd answers", within=alarms.ALARMED_INTERVAL + 0.5)


LOGIN = {"username": "app", "password": "secret"}


@pytest.fixture
def guarded() -> Iterator[EtcdCluster]:
    """Three members that ask for a password."""
    with EtcdCluster(args=("--bcrypt-cost=4",)) as cluster:
        for command in (
            "user add root:root",
            "user grant-role root root",
            "role add app",
            "role grant-permission --prefix=true app readwrite /config/",
            "user add app:secret",
            "user grant-role app app",
            "auth enable",
        ):
            cluster.etcdctl(*command.split())
        yield cluster


async def test_unauthorized(guarded: EtcdCluster) -> None:
    """A wrong password, and a user who is taken away: UNAUTHORIZED; the user is back, and all is well."""
    sentence = "etcd refuses this client's credentials: etcdserver: authentication failed, invalid user ID"
    async with connected(*guarded.endpoints, username="app", password="wrong") as (tide, _):
        await says(tide, S.UNAVAILABLE, D.UNAUTHORIZED, sentence, within=0.1)
    async with connected(*guarded.endpoints, **LOGIN) as (tide, seen):
        await tide.config.put("k", "v")

        def root(*commands: str) -> None:
            for command in commands:
                guarded.etcdctl("--user=root:root", *command.split())

        await anyio.to_thread.run_sync(root, "user delete app")
        await says(tide, S.UNAVAILABLE, D.UNAUTHORIZED, sentence, within=12)
        with pytest.raises(tideover.AuthenticationFailed):
            await tide.config.put("k", "w")
        reading = tide.config.read("k")
        assert (reading.value, reading.source) == ("v", Source.MEMORY)
        await anyio.to_thread.run_sync(root, "user add app:secret", "user grant-role app app")
        await back(tide)
        assert seen.states == ["available", "unavailable", "available"]
        assert set(seen.diagnoses) == {"healthy", "unauthorized"}


async def test_a_bad_password_without_a_quorum_is_an_outage(guarded: EtcdCluster) -> None:
    """Nobody can check a password without a quorum: QUORUM_LOST until there is one, UNAUTHORIZED only then."""
    guarded.lose_quorum()
    await anyio.sleep(2.5)
    async with connected(*guarded.endpoints, username="app", password="wrong") as (tide, seen):
        await anyio.sleep(6)
        assert set(seen.diagnoses) <= {"quorum_lost", "cut_off"}
        assert seen.diagnoses[-1] == "quorum_lost"
        with pytest.raises(tideover.Unavailable):
            await tide.config.put("k", "v")
        await anyio.to_thread.run_sync(mend, guarded)
        await until(lambda: tide.health.diagnosis is D.UNAUTHORIZED, within=6)
