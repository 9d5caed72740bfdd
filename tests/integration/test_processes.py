"""Several processes and coordinators on one machine, and processes that are killed."""

from __future__ import annotations

import json
import logging
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

import tideover
from tests.canaries import canary
from tideover import Source
from tideover.prefixes.snapshots.snapshot_file import SnapshotFile
from tideover.prefixes.snapshots.snapshot_names import SnapshotOwner
from tideover.testing import EtcdServer

pytestmark = [pytest.mark.anyio, pytest.mark.etcd, pytest.mark.any_etcd, pytest.mark.takes(30)]

WORKER = Path(__file__).with_name("worker.py")


@contextmanager
def worker(cache_dir: Path, prefix: str, *endpoints: str) -> Iterator[subprocess.Popen[str]]:
    """Run a worker process; it is killed at the end."""
    command = [sys.executable, str(WORKER), str(cache_dir), prefix, *endpoints]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def seen(process: subprocess.Popen[str]) -> dict[str, object]:
    """Return the next line of a worker."""
    assert process.stdout is not None
    line: dict[str, object] = json.loads(process.stdout.readline())
    return line


def test_four_workers_share_one_folder(etcd_server: EtcdServer, tmp_path: Path) -> None:
    """Four processes with different prefixes, and two with the same, in one folder: each has its own snapshot."""
    prefixes = ["a/", "b/", "c/", "d/", "d/"]
    for prefix in set(prefixes):
        etcd_server.etcdctl("put", f"/config/{prefix}n", "0")
    with ExitStack() as stack:
        workers = [stack.enter_context(worker(tmp_path, p, etcd_server.endpoint)) for p in prefixes]
        for n in range(1, 30):
            for prefix in set(prefixes):
                etcd_server.etcdctl("put", f"/config/{prefix}n", str(n))
        deadline = time.monotonic() + 10
        for process in workers:
            line = seen(process)
            while line["n"] != 29:
                assert time.monotonic() < deadline
                line = seen(process)
            assert line["error"] is None
            assert line["restarts"] == 0
        time.sleep(1)  # the snapshots are written off the loop, a moment later
    for prefix in set(prefixes):
        file = SnapshotFile(
            tmp_path, SnapshotOwner("", [etcd_server.endpoint]), prefix=f"/config/{prefix}".encode()
        )
        loaded = file.load()
        assert loaded is not None
        assert loaded.snapshot is not None
        assert not loaded.rejected
        assert {k: e.value for k, e in loaded.snapshot.entries.items()} == {f"/config/{prefix}n".encode(): b"29"}


def test_kill_while_the_snapshot_is_written(etcd_server: EtcdServer, tmp_path: Path) -> None:
    """kill -9 of a service at any moment: the next start, without etcd, reads a whole snapshot that is never older
    than one an earlier start has read."""
    chance = random.Random(3)
    # Large enough that a write takes a while.
    for n in range(20):
        etcd_server.etcdctl("put", f"/config/p/blob{n}", "x" * 100_000)
    newest = -1
    for n in range(6):
        etcd_server.etcdctl("put", "/config/p/n", str(n))
        with worker(tmp_path, "p/", etcd_server.endpoint) as process:
            while seen(process)["n"] != n:
                pass
            time.sleep(chance.uniform(0.15, 0.45))
        with worker(tmp_path, "p/", "127.0.0.1:1") as process:
            # Another cluster's name: nothing of ours may be read there.
            assert seen(process)["source"] == "default"
        file = SnapshotFile(tmp_path, SnapshotOwner("", [etcd_server.endpoint]), prefix=b"/config/p/")
        loaded = file.load()
        if loaded is None:
            continue
        assert loaded.snapshot is not None
        assert not loaded.rejected
        value = int(loaded.snapshot.entries[b"/config/p/n"].value)
        assert newest <= value <= n
        newest = value
    assert newest > 0


async def test_two_coordinators_in_one_process(etcd_server: EtcdServer, tmp_path: Path) -> None:
    """Two coordinators with different namespaces, one of them without etcd, do not harm each other."""
    async with (
        tideover.connect(etcd_server.endpoint, namespace="one", cache_dir=tmp_path) as one,
        tideover.connect(etcd_server.endpoint, namespace="two", cache_dir=tmp_path) as two,
        tideover.connect("127.0.0.1:1", namespace="three", cache_dir=tmp_path) as three,
    ):
        await one.config.put("a", "1")
        await two.config.put("a", "2")
        assert (one.config.get("a"), two.config.get("a")) == ("1", "2")
        assert three.config.get("a", default="none") == "none"
        assert (one.health.state, three.health.state) == ("available", "unavailable")
    async with tideover.connect(etcd_server.endpoint, namespace="one", cache_dir=tmp_path) as one:
        assert one.config.get("a") == "1"


async def test_cache_folder_that_cannot_be_written(
    etcd_server: EtcdServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A cache folder that cannot be made is one warning and shows in the status; everything else works."""
    obstacle = tmp_path / "file"
    obstacle.write_text("not a folder")
    async with tideover.connect(etcd_server.endpoint, cache_dir=obstacle / "below") as tide:
        for n in range(10):
            await tide.config.put("a", n)
            await anyio.sleep(0.05)
        assert tide.config.get("a", int) == 9
        assert "NotADirectoryError" in (tide.status().config[0].snapshot_error or "")
        assert tide.status().restarts == 0
    warnings = [r for r in caplog.records if r.levelno == logging.WARNING and "snapshot" in r.getMessage()]
    assert len(warnings) == 1


async def test_excluded_keys_never_reach_the_disk(etcd_server: EtcdServer, tmp_path: Path) -> None:
    """Keys under an excluded prefix are served live and are in no file."""
    async with tideover.connect(
        etcd_server.endpoint, cache_dir=tmp_path, exclude=("secrets/",), start_timeout=10
    ) as tide:
        await tide.config.put("secrets/password", canary("excluded"))
        await tide.config.put("open", "sesame")
        assert tide.config.get("secrets/password") == canary("excluded")
    written = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert b"sesame" in written
    assert b"hunter2" not in written


async def test_snapshot_is_of_the_moment_of_leaving(etcd_server: EtcdServer, tmp_path: Path) -> None:
    """A change made just before leaving is on disk."""
    for n in range(5):
        async with tideover.connect(etcd_server.endpoint, cache_dir=tmp_path, start_timeout=10) as tide:
            await tide.config.put("a", n)
        await anyio.to_thread.run_sync(lambda: None)
        file = SnapshotFile(tmp_path, SnapshotOwner("", [etcd_server.endpoint]), prefix=b"/config/")
        loaded = file.load()
        assert loaded is not None
        assert loaded.snapshot is not None
        assert loaded.snapshot.entries[b"/config/a"].value == str(n).encode()


async def test_value_over_etcds_limit(etcd_server: EtcdServer) -> None:
    """A value etcd refuses is a clear ValueError, whichever of its two limits it breaks, and nothing is lost."""
    async with tideover.connect(etcd_server.endpoint, cache_dir=False, start_timeout=10) as tide:
        await tide.config.put("a", "small")
        for size in (1_600_000, 3_000_000):
            with pytest.raises(ValueError, match="larg"):
                await tide.config.put("a", "x" * size)
        assert tide.config.get("a") == "small"
        assert tide.config.read("a").source is Source.LIVE
        assert tide.health.state == "available"


async def test_ten_thousand_keys(etcd_server: EtcdServer, tmp_path: Path) -> None:
    """10,000 keys are followed, changed and restored from disk."""

    def fill() -> None:
        for start in range(0, 10_000, 100):
            puts = "\n".join(f"put /config/k{n} v{n}" for n in range(start, start + 100))
            etcd_server.etcdctl("txn", input=f"\n{puts}\n\n\n")

    await anyio.to_thread.run_sync(fill)
    async with tideover.connect(etcd_server.endpoint, cache_dir=tmp_path, start_timeout=10) as tide:
        assert tide.status().config[0].keys == 10_000
        assert tide.config.get("k9999") == "v9999"
        await tide.config.put("k5", "new")
    etcd_server.kill()
    async with tideover.connect(etcd_server.endpoint, cache_dir=tmp_path, start_timeout=2) as tide:
        assert tide.config.get("k5") == "new"
        assert tide.config.read("k9999").source is Source.DISK


async def test_excluded_keys_are_unknown_after_a_restart_without_etcd(
    etcd_server: EtcdServer, tmp_path: Path
) -> None:
    """A snapshot says nothing of an excluded key: NotSynced, never "no such key"."""
    endpoint = etcd_server.endpoint
    async with tideover.connect(endpoint, cache_dir=tmp_path, exclude=("secrets/",), start_timeout=10) as tide:
        await tide.config.put("secrets/password", "x")
        await tide.config.put("open", "y")
    etcd_server.kill()
    async with tideover.connect(endpoint, cache_dir=tmp_path, exclude=("secrets/",)) as tide:
        assert tide.config.get("open") == "y"
        with pytest.raises(tideover.NotSynced):
            tide.config.get("secrets/password")
        with pytest.raises(tideover.ConfigKeyError) as absent:
            tide.config.get("never")
        assert not isinstance(absent.value, tideover.NotSynced)


async def test_snapshot_goes_on_after_a_reset(etcd_server: EtcdServer, tmp_path: Path) -> None:
    """etcd is wiped between two runs: the new history's snapshot replaces the old one's, at its lower revision."""
    for n in range(20):
        etcd_server.etcdctl("put", "/config/a", str(n))
    async with tideover.connect(etcd_server.endpoint, cache_dir=tmp_path, start_timeout=10) as tide:
        assert tide.config.get("a") == "19"
    for round_, value in enumerate(("new", "newer")):
        etcd_server.kill()
        etcd_server.wipe()
        etcd_server.start()
        await etcd_server.ready()
        await anyio.to_thread.run_sync(etcd_server.etcdctl, "put", "/config/a", value)
        async with tideover.connect(etcd_server.endpoint, cache_dir=tmp_path, start_timeout=10) as tide:
            with anyio.fail_after(3):
                while tide.config.get("a") != value:
                    await anyio.sleep(0.01)
        file = SnapshotFile(tmp_path, SnapshotOwner("", [etcd_server.endpoint]), prefix=b"/config/")
        loaded = file.load()
        assert loaded is not None
        assert loaded.snapshot is not None
        assert loaded.snapshot.entries[b"/config/a"].value == value.encode()
        assert loaded.snapshot.epoch == round_ + 2


async def test_concurrent_fetches_against_etcd(etcd_server: EtcdServer) -> None:
    """Two hundred concurrent fetches of keys that are there or absent: each gets its own answer."""
    async with tideover.connect(etcd_server.endpoint, follow=("x/",), cache_dir=False, start_timeout=5) as tide:
        for n in range(0, 200, 2):
            await tide.config.put(f"k{n}", n)
        found: dict[int, object] = {}

        async def fetch(n: int) -> None:
            found[n] = (await tide.config.fetch(f"k{n}", int, default=-1)).value

        async with anyio.create_task_group() as tasks:
            for n in range(200):
                tasks.start_soon(fetch, n)
        assert found == {n: n if n % 2 == 0 else -1 for n in range(200)}
