"""Real clusters that are restored from a backup, rebuilt, or replaced by another one, seen by a real client."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal

import anyio
import anyio.streams.text
import pytest
from anyio.abc import Process

import tideover
from tests.store.provocation import at
from tideover import HealthState, Source
from tideover.coordinator.coordinator import Coordinator
from tideover.epoch.history import Doubt, Reset
from tideover.etcd.messages import rpc
from tideover.store.faults import StoreFault
from tideover.store.operations import Put, Range
from tideover.testing import EtcdCluster, EtcdServer

pytestmark = [pytest.mark.anyio, pytest.mark.etcd, pytest.mark.takes(60)]

Outgrown = Literal["before", "after"]


async def until(condition: Callable[[], object], within: float = 8.0) -> None:
    """Wait for a condition."""
    with anyio.fail_after(within):
        while not condition():
            await anyio.sleep(0.005)


def put(server: EtcdServer, key: str, value: object) -> None:
    """Write as another client would."""
    server.etcdctl("put", f"/config/{key}", str(value))


async def restart(server: EtcdServer) -> None:
    """Start and wait until it serves."""
    server.start()
    await server.ready()


async def backed_up(server: EtcdServer, folder: Path) -> Path:
    """Write "old" values, back up, and overwrite them with "new" ones at later revisions.

    The epoch key is in the backup, too, so that it alone proves nothing.
    """
    async with tideover.connect(server.endpoint, cache_dir=False, start_timeout=10):
        assert epoch_in_etcd(server) == 1
    put(server, "a", "old")
    put(server, "steady", "same")
    backup = folder / "backup.db"
    server.etcdctl("snapshot", "save", str(backup))
    for n in range(10):
        put(server, "a", f"new{n}")
    put(server, "lost", "new")
    return backup


def outgrow(server: EtcdServer) -> None:
    """Let the restored history come past the revision of the lost one, with the same keys rewritten."""
    for n in range(30):
        put(server, "a", f"rewritten{n}")
    put(server, "lost", "found again")


class Witness:
    """What a service would see: every value read or fetched, with its epoch, and every reset announced."""

    def __init__(self, tide: Coordinator) -> None:
        self.tide = tide
        self.read: list[tuple[int, int]] = []
        self.fetched: list[tuple[int, int]] = []
        self.announced: list[Reset] = []
        tide._parts.epoch.subscribe(self.announced.append)

    async def run(self) -> None:
        """Read every few milliseconds, and ask etcd as often as it answers."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.fetch)
            while True:
                self.read.append((self.tide.status().config[0].epoch, self.tide.config.read("a").revision))
                await anyio.sleep(0.002)

    async def fetch(self) -> None:
        """Ask etcd."""
        while True:
            try:
                reading = await self.tide.config.fetch("a", timeout=1)
            except tideover.Unavailable:
                await anyio.sleep(0.01)
                continue
            if reading.source is Source.QUORUM:
                self.fetched.append((self.tide.epoch, reading.revision))
            await anyio.sleep(0.002)

    def check(self) -> None:
        """No answer, from memory or from etcd, was older than one before it in the same epoch."""
        assert self.read == sorted(self.read), sorted(set(self.read))
        assert self.fetched == sorted(self.fetched), sorted(set(self.fetched))


def resets_logged(caplog: pytest.LogCaptureFixture) -> int:
    """Count the announcements in the log."""
    return sum(message.startswith("tideover.backend.reset") for message in caplog.messages)


def epoch_in_etcd(server: EtcdServer, namespace: str = "") -> int:
    """Return the epoch that etcd holds."""
    found = json.loads(server.etcdctl("get", "--print-value-only", f"{namespace}/tideover/epoch"))
    assert isinstance(found["epoch"], int)
    return found["epoch"]


async def test_restored_without_space(etcd_server: EtcdServer, tmp_path: Path) -> None:
    """The restored etcd takes no writes: what is old is served as what it is, and the epoch is written later."""
    put(etcd_server, "a", "old")
    async with tideover.connect(etcd_server.endpoint, cache_dir=False, start_timeout=10):
        assert epoch_in_etcd(etcd_server) == 1
    async with at(etcd_server.endpoint) as member:
        (about,) = (await member.members.MemberList(rpc.MemberListRequest())).members
        alarm = rpc.AlarmRequest(action=1, memberID=about.ID, alarm=rpc.NOSPACE)
        await member.maintenance.Alarm(alarm, timeout=5)
    etcd_server.etcdctl("snapshot", "save", str(tmp_path / "backup.db"))
    etcd_server.etcdctl("alarm", "disarm")
    for n in range(5):
        put(etcd_server, "a", f"new{n}")
    async with tideover.connect(etcd_server.endpoint, cache_dir=False, start_timeout=10) as tide:
        assert tide.config.get("a") == "new4"
        etcd_server.kill()
        etcd_server.restore(tmp_path / "backup.db")
        etcd_server.start()  # and not ready: with an alarm it calls itself unhealthy
        await until(lambda: tide.config.read("a").source is Source.LIVE and tide.config.get("a") == "old")
        identity = tide.status().identity
        assert (tide.epoch, identity.resets, identity.recorded) == (2, 1, False)
        assert "database space exceeded" in (identity.error or "")
        with pytest.raises(tideover.SpaceExhausted):
            await tide.config.put("a", "newer")
        etcd_server.etcdctl("alarm", "disarm")
        await tide._parts.epoch.confirm()
        identity = tide.status().identity
        assert (tide.epoch, identity.resets, identity.recorded) == (2, 1, True)
        assert epoch_in_etcd(etcd_server) == 2


@pytest.mark.parametrize("token", [None, "another"])
@pytest.mark.parametrize("outgrown", ["before", "after"])
async def test_restored_while_connected(
    etcd_server: EtcdServer,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    outgrown: Outgrown,
    token: str | None,
) -> None:
    """A restore under a connected client: one reset, the epoch raised before an older value is served."""
    backup = await backed_up(etcd_server, tmp_path)
    async with tideover.connect(etcd_server.endpoint, cache_dir=tmp_path / "cache", start_timeout=10) as tide:
        witness = Witness(tide)
        assert (tide.config.get("a"), tide.epoch) == ("new9", 1)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(witness.run)
            await anyio.sleep(0.2)
            etcd_server.kill()
            await anyio.to_thread.run_sync(lambda: etcd_server.restore(backup, token=token))
            if outgrown == "after":
                # Out of the client's sight: it must not see the revision while that is lower.
                await anyio.to_thread.run_sync(outgrow_unseen, etcd_server)
            await restart(etcd_server)
            await until(lambda: tide.config.read("a").source is Source.LIVE and tide.epoch == 2)
            tasks.cancel_scope.cancel()
        expected = ("old", None) if outgrown == "before" else ("rewritten29", "found again")
        assert (tide.config.get("a"), tide.config.get("lost", default=None)) == expected
        assert tide.config.get("steady") == "same"
        witness.check()
        assert [(reset.before, reset.epoch) for reset in witness.announced] == [(1, 2)]
        assert resets_logged(caplog) == 1
        assert (tide.status().identity.resets, tide.status().config[0].resets) == (1, 1)
        assert epoch_in_etcd(etcd_server) == 2
        assert tide.status().restarts == 0


def outgrow_unseen(server: EtcdServer) -> None:
    """Outgrow the old revision in a process on other ports with the same data, then put the data back."""
    assert server.data_dir is not None
    with EtcdServer(name=server.name, binary=server.binary, data_dir=server.data_dir) as hidden:
        hidden.wait_ready()
        outgrow(hidden)


@pytest.mark.parametrize("token", [None, "another"])
@pytest.mark.parametrize("outgrown", ["before", "after"])
async def test_restored_while_away(
    etcd_server: EtcdServer,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    outgrown: Outgrown,
    token: str | None,
) -> None:
    """A restore in an outage: known values are served until the epoch is raised, then the restored ones."""
    backup = await backed_up(etcd_server, tmp_path)
    async with tideover.connect(etcd_server.endpoint, cache_dir=False, start_timeout=10) as tide:
        witness = Witness(tide)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(witness.run)
            etcd_server.kill()
            await anyio.to_thread.run_sync(lambda: etcd_server.restore(backup, token=token))
            if outgrown == "after":
                await anyio.to_thread.run_sync(outgrow_unseen, etcd_server)
            await until(lambda: tide.health.state is HealthState.UNAVAILABLE)
            assert (tide.config.get("a"), tide.epoch) == ("new9", 1)
            await restart(etcd_server)
            await until(lambda: tide.config.read("a").source is Source.LIVE)
            tasks.cancel_scope.cancel()
        assert tide.config.get("a") == ("old" if outgrown == "before" else "rewritten29")
        assert (tide.epoch, epoch_in_etcd(etcd_server), resets_logged(caplog)) == (2, 2, 1)
        witness.check()


@pytest.mark.parametrize("token", [None, "another"])
@pytest.mark.parametrize("outgrown", ["before", "after"])
async def test_restored_between_two_runs(
    etcd_server: EtcdServer,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    outgrown: Outgrown,
    token: str | None,
) -> None:
    """A snapshot of the lost history serves until etcd is reached, then it is replaced, in the next epoch."""
    backup = await backed_up(etcd_server, tmp_path)
    cache = tmp_path / "cache"
    async with tideover.connect(etcd_server.endpoint, cache_dir=cache, start_timeout=10) as tide:
        assert tide.config.get("a") == "new9"
    etcd_server.kill()
    etcd_server.restore(backup, token=token)
    if outgrown == "after":
        await anyio.to_thread.run_sync(outgrow_unseen, etcd_server)
    async with tideover.connect(etcd_server.endpoint, cache_dir=cache, start_timeout=10) as tide:
        witness = Witness(tide)
        reading = tide.config.read("a")
        assert (reading.value, reading.source, tide.epoch) == ("new9", Source.DISK, 1)
        await restart(etcd_server)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(witness.run)
            await until(lambda: tide.config.read("a").source is Source.LIVE)
            tasks.cancel_scope.cancel()
        expected = "old" if outgrown == "before" else "rewritten29"
        assert (tide.config.get("a"), tide.epoch, epoch_in_etcd(etcd_server)) == (expected, 2, 2)
        witness.check()
        assert resets_logged(caplog) == 1
    etcd_server.kill()
    async with tideover.connect(etcd_server.endpoint, cache_dir=cache, start_timeout=10) as tide:
        reading = tide.config.read("a")
        assert (reading.value, reading.source, tide.epoch) == (expected, Source.DISK, 2)


@pytest.mark.parametrize("outgrown", ["before", "after"])
async def test_rebuilt_from_nothing(etcd_server: EtcdServer, outgrown: Outgrown) -> None:
    """An empty etcd with the same id, all of whose keys are new: the missing marker proves it."""
    put(etcd_server, "a", "1")
    async with tideover.connect(etcd_server.endpoint, cache_dir=False, start_timeout=10) as tide:
        assert tide.epoch == 1
        etcd_server.kill()
        etcd_server.wipe()
        if outgrown == "after":
            assert etcd_server.data_dir is not None
            with EtcdServer(name=etcd_server.name, data_dir=etcd_server.data_dir) as hidden:
                hidden.wait_ready()
                for n in range(30):
                    put(hidden, "b", n)
        await restart(etcd_server)
        await until(lambda: tide.config.read("a").source is Source.LIVE and tide.epoch == 2)
        assert tide.config.get("a", default=None) is None
        assert (tide.status().identity.resets, epoch_in_etcd(etcd_server)) == (1, 2)


async def test_replaced_by_a_foreign_cluster(etcd_cluster: EtcdCluster, tmp_path: Path) -> None:
    """Members come back as another cluster: refused while the old one may be electing, then it is one reset."""
    etcd_cluster.etcdctl("put", "/config/a", "ours")
    async with tideover.connect(*etcd_cluster.endpoints, cache_dir=tmp_path, start_timeout=10) as tide:
        witness = Witness(tide)
        assert tide.config.get("a") == "ours"
        etcd_cluster.kill_all()
        etcd_cluster.wipe(token="foreign")
        etcd_cluster.start_all()
        await etcd_cluster.ready()
        await anyio.to_thread.run_sync(etcd_cluster.etcdctl, "put", "/config/a", "theirs")
        # The new cluster may have been accepted, and followed, before anything was written to it.
        await until(lambda: tide.epoch == 2 and tide.config.read("a").source is Source.LIVE)
        await until(lambda: tide.config.get("a", default="") == "theirs", within=1)
        assert "it is cluster" in witness.announced[0].reason
        assert len(witness.announced) == 1
        assert tide.status().identity.foreign == ()


async def test_two_clusters_among_the_endpoints(etcd_server: EtcdServer, caplog: pytest.LogCaptureFixture) -> None:
    """Endpoints of other clusters: the first one proven is used, also in its outage; the others are named."""
    put(etcd_server, "a", "ours")
    with EtcdServer(name="stranger") as stranger, EtcdServer(name="second") as second:
        for wrong in (stranger, second):
            await wrong.ready()
            put(wrong, "a", "theirs")
        endpoints = (etcd_server.endpoint, stranger.endpoint, second.endpoint)
        for wrong in (stranger, second):
            wrong.kill()
        async with tideover.connect(*endpoints, cache_dir=False, start_timeout=10) as tide:
            assert tide.config.get("a") == "ours"
            for wrong in (stranger, second):
                await restart(wrong)
            etcd_server.kill()
            for _ in range(40):
                assert tide.config.get("a") == "ours"
                assert (await tide.config.fetch("a", timeout=0.2)).value == "ours"
                with pytest.raises(tideover.Unavailable):
                    await tide.config.put("a", "wrong", timeout=0.2)
                await anyio.sleep(0.05)
            assert set(tide.status().identity.foreign) == {stranger.endpoint, second.endpoint}
            assert f"{stranger.endpoint} belongs to another cluster and is not used" in tide.status().sentence
            await restart(etcd_server)
            await until(lambda: tide.config.read("a").source is Source.LIVE)
            assert (tide.epoch, tide.status().identity.resets) == (1, 0)
        for wrong in (stranger, second):
            assert wrong.etcdctl("get", "--print-value-only", "/config/a").strip() == "theirs"
    assert sum(message.startswith("tideover.member.foreign") for message in caplog.messages) == 2


async def test_many_processes_raise_the_epoch_once(etcd_server: EtcdServer, tmp_path: Path) -> None:
    """Processes that see one reset together raise the epoch once, and all arrive at it."""
    backup = await backed_up(etcd_server, tmp_path)
    worker = Path(__file__).with_name("worker.py")
    processes = [
        await anyio.open_process([sys.executable, worker, tmp_path / f"cache{n}", "", etcd_server.endpoint])
        for n in range(5)
    ]
    try:
        await first_lines(processes, lambda line: line["epoch"] == 1)
        etcd_server.kill()
        etcd_server.restore(backup)
        await restart(etcd_server)
        seen = await first_lines(processes, lambda line: line["epoch"] == 2)
        await anyio.sleep(1)
    finally:
        for process in processes:
            process.kill()
            await process.aclose()
    assert [(line["epoch"], line["resets"]) for line in seen] == [(2, 1)] * 5
    found = json.loads(etcd_server.etcdctl("get", "-w", "json", "/tideover/epoch"))["kvs"]
    assert [key["version"] for key in found] == [2]
    assert epoch_in_etcd(etcd_server) == 2


async def first_lines(
    processes: Sequence[Process], wanted: Callable[[dict[str, int]], bool]
) -> list[dict[str, int]]:
    """Return the first line of each worker that is wanted; all are read at once, or a full pipe would stop one."""
    found: list[dict[str, int]] = []

    async def read(process: Process) -> None:
        assert process.stdout is not None
        async for text in anyio.streams.text.TextReceiveStream(process.stdout):
            for line in text.splitlines():
                try:
                    parsed: dict[str, int] = json.loads(line)
                except ValueError:  # cut in two
                    continue
                if wanted(parsed):
                    found.append(parsed)
                    return

    with anyio.fail_after(30):
        async with anyio.create_task_group() as tasks:
            for process in processes:
                tasks.start_soon(read, process)
    return found


async def test_without_permission_the_epoch_is_the_processes_own_count(
    etcd_server: EtcdServer, tmp_path: Path
) -> None:
    """A user who may only read configuration follows it, is told so, and still counts a reset."""
    for command in (
        "user add root:root",
        "user grant-role root root",
        "role add reader",
        "role grant-permission reader read /config/ /config0",
        "user add reader:secret",
        "user grant-role reader reader",
        "auth enable",
    ):
        etcd_server.etcdctl(*command.split())
    root = ("--user", "root:root")
    etcd_server.etcdctl(*root, "put", "/config/a", "old")
    etcd_server.etcdctl(*root, "snapshot", "save", str(tmp_path / "backup.db"))
    for n in range(5):
        etcd_server.etcdctl(*root, "put", "/config/a", f"new{n}")
    async with tideover.connect(
        etcd_server.endpoint, cache_dir=tmp_path / "cache", username="reader", password="secret"
    ) as tide:
        await until(lambda: tide.config.read("a").source is Source.LIVE)
        identity = tide.status().identity
        assert (identity.epoch, identity.recorded) == (0, False)
        assert "permission denied" in (identity.error or "")
        etcd_server.kill()
        etcd_server.restore(tmp_path / "backup.db")
        await restart(etcd_server)
        await until(lambda: tide.config.get("a") == "old")
        assert (tide.epoch, tide.status().identity.resets) == (1, 1)


async def test_a_member_caught_up_from_a_snapshot_is_of_the_same_history(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It says the term of before, as long as nothing is written: that raises no epoch and ends no session.

    Takes 5 s: etcd sends a snapshot only to a member that is 5,000 entries behind.
    """
    with EtcdCluster(args=["--snapshot-count=10"]) as cluster:
        leader = cluster.leader()
        paused, successor = (member for member in cluster.members if member is not leader)
        async with (
            tideover.connect(*cluster.endpoints, cache_dir=False, start_timeout=10) as tide,
            tide.session(ttl=6) as session,
        ):
            bare, guarded = tide._parts.store, tide._parts.client.calls.store
            assert bare is not None
            ask = Range(b"x")
            ids = [
                (await bare.call(ask, member=each, timeout=2)).header.member_id
                for each in (leader.endpoint, successor.endpoint)
            ]
            paused.pause()
            leader.etcdctl("move-leader", f"{ids[1]:x}")

            async def write(worker: int) -> None:
                for number in range(60):
                    op = Put(f"/config/{worker}".encode(), str(number).encode())
                    await bare.call(op, member=successor.endpoint, timeout=5)

            async with anyio.create_task_group() as tasks:
                for worker in range(100):
                    tasks.start_soon(write, worker)
            # Back again: the first entry of the term before may wait in its sockets; this one's it cannot take.
            successor.etcdctl("move-leader", f"{ids[0]:x}")
            rules = (await bare.call(ask, member=leader.endpoint, timeout=2)).header.raft_term
            await guarded.call(ask, member=leader.endpoint, timeout=2)
            doubts: list[bool] = []
            settle = tide._parts.epoch._settle_doubt

            async def spy(doubt: Doubt) -> None:
                doubts.append(doubt.term_only)
                await settle(doubt)

            # Its own probes may be the first to see the lower term, and settle it at once.
            monkeypatch.setattr(tide._parts.epoch, "_settle_doubt", spy)
            paused.resume()
            with anyio.fail_after(20):
                while not doubts:  # else this were no test of it
                    with suppress(StoreFault):
                        await guarded.call(ask, member=paused.endpoint, timeout=2)
                    await anyio.sleep(0.05)
            assert all(doubts)
            await guarded.call(ask, member=paused.endpoint, timeout=2)
            assert (await bare.call(ask, member=paused.endpoint, timeout=2)).header.raft_term == rules
            session.check()
            assert (tide.epoch, tide.status().identity.resets) == (1, 0)
