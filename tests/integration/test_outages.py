"""A real three-member cluster that loses its quorum, dies and comes back, seen by a real client."""

from __future__ import annotations

import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

import tideover
from tideover import HealthState, NotSynced, Source
from tideover.coordinator.coordinator import Coordinator
from tideover.testing import EtcdCluster

pytestmark = [pytest.mark.anyio, pytest.mark.etcd, pytest.mark.takes(55)]

KEY = "payments/timeout"


class Reads:
    """What a service that reads all the time would see.

    Attributes:
        sources: Every source seen, in the order first seen.
        states: Every health state seen, likewise.
        slowest: The longest that one `get` took, in seconds.
        oldest: The largest age seen, in seconds.
    """

    def __init__(self, tide: Coordinator) -> None:
        self.tide = tide
        self.sources: list[str] = []
        self.states: list[str] = []
        self.slowest = 0.0
        self.oldest = 0.0

    async def run(self) -> None:
        """Read every few milliseconds; an exception ends the test."""
        while True:
            began = time.perf_counter()
            self.tide.config.get(KEY, float)
            self.slowest = max(self.slowest, time.perf_counter() - began)
            reading = self.tide.config.read(KEY, float)
            self.oldest = max(self.oldest, reading.age)
            for seen, now in ((self.sources, reading.source), (self.states, self.tide.health.state)):
                if now not in seen:
                    seen.append(now)
            await anyio.sleep(0.005)


@asynccontextmanager
async def reading(tide: Coordinator) -> AsyncIterator[Reads]:
    """Read all the time."""
    reads = Reads(tide)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(reads.run)
        yield reads
        tasks.cancel_scope.cancel()


async def until(condition: Callable[[], object], within: float) -> float:
    """Wait for a condition; return the seconds it took."""
    began = time.monotonic()
    with anyio.fail_after(within):
        while not condition():
            await anyio.sleep(0.005)
    return time.monotonic() - began


async def test_quorum_lost_then_all_lost_then_back(etcd_cluster: EtcdCluster, tmp_path: Path) -> None:
    """The whole path: LIVE, MEMBER, MEMORY, LIVE; each declared in time; `get` never raises and never blocks."""
    etcd_cluster.etcdctl("put", f"/config/{KEY}", "1.0")
    async with tideover.connect(*etcd_cluster.endpoints, cache_dir=tmp_path) as tide, reading(tide) as reads:
        assert tide.config.read(KEY, float).source is Source.LIVE
        await anyio.sleep(1)

        etcd_cluster.lose_quorum()
        lost = await until(lambda: tide.health.state is HealthState.DEGRADED, within=5)
        assert lost >= 3.0
        assert tide.config.read(KEY, float).source is not Source.LIVE
        began = time.monotonic()
        assert (await tide.config.fetch(KEY, float)).source is Source.MEMBER
        assert time.monotonic() - began < 1
        await until(lambda: tide.config.read(KEY, float).source is Source.MEMBER, within=1)
        with pytest.raises(tideover.CircuitOpen):
            await tide.config.put(KEY, 9.9)

        etcd_cluster.kill_all()
        await until(lambda: tide.health.state is HealthState.UNAVAILABLE, within=5)
        assert (await tide.config.fetch(KEY, float)).source is Source.MEMORY
        await anyio.sleep(3)

        etcd_cluster.start_all()
        await etcd_cluster.ready()
        await until(lambda: tide.health.state is HealthState.AVAILABLE, within=2)
        await anyio.to_thread.run_sync(etcd_cluster.etcdctl, "put", f"/config/{KEY}", "2.0")
        await until(lambda: tide.config.get(KEY, float) == 2.0, within=1)
        assert tide.config.read(KEY, float).source is Source.LIVE
        assert tide.status().restarts == 0
    assert reads.states == ["available", "degraded", "unavailable"]
    assert [s for s in reads.sources if s != "memory"] == ["live", "member"]
    assert reads.slowest < 0.25
    assert reads.oldest > 6


@pytest.mark.parametrize("how", ["kill", "pause"])
async def test_leader_change_changes_nothing(etcd_cluster: EtcdCluster, how: str) -> None:
    """The leader dies or freezes, two members remain: no state change, always LIVE, and no read fails."""
    etcd_cluster.etcdctl("put", f"/config/{KEY}", "1.0")
    leader = await etcd_cluster.find_leader()
    async with (
        tideover.connect(*etcd_cluster.endpoints, cache_dir=False, start_timeout=5) as tide,
        reading(tide) as reads,
    ):
        tide._parts.client.state.active = leader.endpoint
        await anyio.sleep(0.5)
        getattr(leader, how)()
        began = time.monotonic()
        assert (await tide.config.fetch(KEY, float, timeout=8)).source is Source.QUORUM
        assert time.monotonic() - began < 5
        await anyio.sleep(5)
        if how == "pause":
            leader.resume()
            await anyio.sleep(1)
    assert reads.states == ["available"]
    assert reads.sources == ["live"]


async def test_frozen_member_in_use(etcd_cluster: EtcdCluster) -> None:
    """SIGSTOP on a follower in use: another member is used, each fetch within its deadline and a second."""
    etcd_cluster.etcdctl("put", f"/config/{KEY}", "1.0")
    follower = etcd_cluster.followers()[0]
    async with (
        tideover.connect(*etcd_cluster.endpoints, cache_dir=False, start_timeout=5) as tide,
        reading(tide) as reads,
    ):
        tide._parts.client.state.active = follower.endpoint
        await tide.config.fetch(KEY, float)
        follower.pause()
        slowest = 0.0
        for _ in range(50):
            began = time.monotonic()
            assert (await tide.config.fetch(KEY, float, timeout=3)).source is Source.QUORUM
            slowest = max(slowest, time.monotonic() - began)
        assert slowest < 1.5
        assert tide._parts.client.state.active != follower.endpoint
        written = await tide.config.put(KEY, 2.0)
        assert written.visible
        follower.resume()
        await anyio.sleep(1)
    assert reads.states == ["available"]
    assert reads.sources == ["live"]


async def test_all_members_frozen(etcd_cluster: EtcdCluster) -> None:
    """SIGSTOP on all: declared within 9 s, no call longer than its timeout, back within 2 s of the resume."""
    etcd_cluster.etcdctl("put", f"/config/{KEY}", "1.0")
    async with tideover.connect(*etcd_cluster.endpoints, cache_dir=False, start_timeout=5) as tide, reading(tide):
        await anyio.sleep(1)
        for member in etcd_cluster.members:
            member.pause()
        for timeout in (0.5, 1.0):
            began = time.monotonic()
            assert (await tide.config.fetch(KEY, float, timeout=timeout)).value == 1.0
            assert time.monotonic() - began < timeout + 0.2
        await until(lambda: tide.health.state is HealthState.UNAVAILABLE, within=9)
        for member in etcd_cluster.members:
            member.resume()
        await etcd_cluster.ready()
        await until(lambda: tide.health.state is HealthState.AVAILABLE, within=2)
        await until(lambda: tide.config.read(KEY).source is Source.LIVE, within=1)


async def test_start_with_all_members_dead(etcd_cluster: EtcdCluster, tmp_path: Path) -> None:
    """Values come from DISK with their true age in milliseconds; then live when etcd is back."""
    etcd_cluster.etcdctl("put", f"/config/{KEY}", "1.0")
    async with tideover.connect(*etcd_cluster.endpoints, cache_dir=tmp_path) as tide:
        assert tide.config.get(KEY, float) == 1.0
    left = time.monotonic()
    etcd_cluster.kill_all()
    await anyio.sleep(2)
    began = time.monotonic()
    async with tideover.connect(*etcd_cluster.endpoints, cache_dir=tmp_path) as tide:
        assert time.monotonic() - began < 0.5
        value = tide.config.read(KEY, float)
        assert (value.value, value.source, value.stale) == (1.0, Source.DISK, True)
        assert time.monotonic() - left <= value.age < time.monotonic() - left + 6
        assert (await tide.config.fetch(KEY, float)).source is Source.DISK
        etcd_cluster.start_all()
        await etcd_cluster.ready()
        await until(lambda: tide.config.read(KEY, float).source is Source.LIVE, within=3)


async def test_start_with_silent_members(etcd_cluster: EtcdCluster, tmp_path: Path) -> None:
    """Members that accept connections and say nothing: entering is back within its start timeout."""
    for member in etcd_cluster.members:
        member.pause()
    began = time.monotonic()
    async with tideover.connect(*etcd_cluster.endpoints, cache_dir=tmp_path, start_timeout=1) as tide:
        assert time.monotonic() - began < 1.3
        assert tide.config.get(KEY, float, default=3.0) == 3.0
        with pytest.raises(NotSynced, match="no etcd member answers"):
            tide.config.get(KEY)
    for member in etcd_cluster.members:
        member.resume()


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty"])
async def test_damaged_snapshot(tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str) -> None:
    """A damaged snapshot falls back to the previous generation, with one loud log line."""
    endpoints = ("127.0.0.1:1", "127.0.0.1:2")
    await leave_snapshots(endpoints, tmp_path)
    [newest] = [p for p in tmp_path.glob("*.json") if not p.name.endswith(".prev.json")]
    data = newest.read_bytes()
    newest.write_bytes({"truncate": data[:-20], "flip": data.replace(b'"2"', b'"3"'), "empty": b""}[damage])
    caplog.clear()
    async with tideover.connect(*endpoints, cache_dir=tmp_path) as tide:
        assert tide.config.get("a") == "1"
        assert tide.config.read("a").source is Source.DISK
    loud = [r for r in caplog.records if "snapshot" in r.getMessage() and r.levelno >= logging.ERROR]
    assert len(loud) == 1


async def leave_snapshots(endpoints: tuple[str, ...], folder: Path) -> None:
    """Write two generations: "a" is "1" in the previous and "2" in the newest."""
    from tideover.clock import Clock
    from tideover.prefixes.snapshots.snapshot import Snapshot
    from tideover.prefixes.snapshots.snapshot_file import SnapshotFile
    from tideover.prefixes.snapshots.snapshot_names import SnapshotOwner
    from tideover.types import Entry

    file = SnapshotFile(folder, SnapshotOwner("", endpoints), prefix=b"/config/")
    for revision, value in ((2, b"1"), (3, b"2")):
        stamp = Clock().stamp()
        entries = {b"/config/a": Entry(value, 2, revision)}
        assert file.save(Snapshot(b"/config/", 1, 0, 2, revision, stamp, stamp, entries))


async def test_single_endpoint_of_three(etcd_cluster: EtcdCluster) -> None:
    """A client that knows only the survivor still declares the loss of the quorum."""
    survivor = etcd_cluster.followers()[0]
    etcd_cluster.etcdctl("put", f"/config/{KEY}", "1.0")
    async with tideover.connect(survivor.endpoint, cache_dir=False) as tide:
        await anyio.sleep(0.5)
        etcd_cluster.lose_quorum(survivor=survivor)
        await until(lambda: tide.health.state is HealthState.DEGRADED, within=12)
        assert (await tide.config.fetch(KEY, float)).source is Source.MEMBER


async def test_watch_survives_kills_under_load(etcd_cluster: EtcdCluster) -> None:
    """Followers die and return under write load: no change is lost, and none comes twice or out of order."""
    async with tideover.connect(*etcd_cluster.endpoints, cache_dir=False, start_timeout=5) as tide:
        seen: list[int] = []
        written: list[int] = []

        async def collect() -> None:
            async for change in tide.config.changes("load/"):
                seen.append(change.revision)  # noqa: PERF401  # what came so far is looked at meanwhile

        async def load() -> None:
            n = 0
            while True:
                n += 1
                try:
                    written.append((await tide.config.put(f"load/{n}", n)).revision)
                except (tideover.OutcomeUnknown, tideover.Unavailable):
                    await anyio.lowlevel.checkpoint()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(collect)
            await anyio.sleep(0.1)
            async with anyio.create_task_group() as loading:
                loading.start_soon(load)
                for _ in range(3):
                    victim = (await anyio.to_thread.run_sync(etcd_cluster.followers))[0]
                    victim.kill()
                    await anyio.sleep(0.7)
                    victim.start()
                    await etcd_cluster.ready()
                    await anyio.sleep(0.5)
                loading.cancel_scope.cancel()
            await until(lambda: set(written) <= set(seen), within=5)
            tasks.cancel_scope.cancel()
        assert len(written) > 50
        assert seen == sorted(set(seen))
        assert tide.health.state is HealthState.AVAILABLE
