"""Services with encrypted snapshots: what a start without etcd has, what it says, and what it leaves on disk."""

from __future__ import annotations

import random
from pathlib import Path

import anyio
import pytest

from tests.canaries import canary
from tests.support import mock_clock, threads_stop_the_clock
from tests.test_encryption import key_file, new_key
from tideover import Coordinator, Encryption, NotSynced, Source
from tideover.discovery.endpoint import Endpoint
from tideover.options import Options
from tideover.prefixes.snapshots.snapshot_reading import read
from tideover.store.operations import Put
from tideover.testing import MemoryStore

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("threads_stop_the_clock")]

__all__ = ["threads_stop_the_clock"]

SECRET = canary("configured")


def process(store: MemoryStore, folder: Path, encryption: Encryption | None) -> Coordinator:
    """Return the coordinator of a process that keeps encrypted snapshots in a folder."""
    options = Options(tuple(store.members), "/shop", cache_dir=folder, discover=("api",), encryption=encryption)
    return Coordinator(options, store=store, clock=mock_clock(), chance=random.Random(7).random)


async def one_that_has_run(folder: Path, encryption: Encryption | None) -> MemoryStore:
    """Return a cluster that is away, of which an earlier process has left snapshots."""
    store = MemoryStore()
    endpoint = Endpoint("http://10.0.0.7:8000", service="api", instance="i", incarnation="c")
    for key, value in ((b"config/password", SECRET.encode()), (endpoint.key.encode(), endpoint.encode())):
        await store.call(Put(b"/shop/" + key, value), member=store.members[0], timeout=1)
    async with process(store, folder, encryption) as tide:
        await anyio.sleep(1)
        assert tide.config.get("password") == SECRET
    store.down = set(store.members)
    store.touch()
    return store


def files(folder: Path) -> dict[str, bytes]:
    """Return what all snapshots hold, by name."""
    return {path.name: path.read_bytes() for path in folder.glob("*.json*")}


async def test_a_restart_without_etcd_has_what_was_sealed(tmp_path: Path) -> None:
    """Configuration and services are hidden on disk, and there after a restart."""
    encryption = Encryption(new_key())
    store = await one_that_has_run(tmp_path, encryption)
    assert len({name[:9] for name in files(tmp_path)}) == 2
    assert all(data.startswith(b'{"sealed":1,') for data in files(tmp_path).values())
    async with process(store, tmp_path, encryption) as tide:
        reading = tide.config.read("password")
        assert (reading.value, reading.source) == (SECRET, Source.DISK)
        assert tide.discover("api").source is Source.DISK


@pytest.mark.parametrize("kind", ["another key", "no key file", "no keys"])
async def test_a_wrong_key_is_a_start_without_snapshot(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    """The service starts, knows nothing, and says of each file why; with etcd back, each file is still there."""
    old = Encryption(new_key())
    store = await one_that_has_run(tmp_path, old)
    before = files(tmp_path)
    found = {
        "another key": Encryption(new_key()),
        "no key file": Encryption(tmp_path / "keys"),
        "no keys": None,
    }[kind]
    async with process(store, tmp_path, found) as tide:
        with pytest.raises(NotSynced):
            tide.config.get("password")
        said = [record for record in caplog.records if "tideover.snapshot.rejected" in record.getMessage()]
        assert {record.levelname for record in said} == {"ERROR"}
        assert all(any(name in record.getMessage() for record in said) for name in before)
        assert files(tmp_path) == before
        store.down = set()
        store.touch()
        await anyio.sleep(100)
        assert tide.config.get("password") == SECRET
        errors = [each.error for each in tide.status().snapshots]
    left = files(tmp_path)
    assert set(before.values()) <= set(left.values())
    if kind == "another key":
        assert errors == [None, None]
        aside = [tmp_path / name for name in left if ".aside-" in name]
        assert all(read(path, old).entries for path in aside)
        assert sum("tideover.snapshot.put_aside" in message for message in caplog.messages) == len(aside)
    else:
        assert left == before
        assert all(errors)
        assert any("tideover.snapshot.failed" in message for message in caplog.messages)


async def test_keys_that_come_late_are_used(tmp_path: Path) -> None:
    """A key file that is not there yet is said at the start; once it is there, snapshots are written."""
    encryption = Encryption(tmp_path / "keys")
    store = MemoryStore()
    cache = tmp_path / "cache"
    async with process(store, cache, encryption) as tide:
        await anyio.sleep(1)
        assert all("the key file cannot be read" in str(each.error) for each in tide.status().snapshots)
        assert not files(cache)
        key_file(tmp_path, new_key())
        await anyio.sleep(60)
        assert [each.error for each in tide.status().snapshots] == [None, None]
    assert {name.partition("-")[0] for name in files(cache)} == {"config", "discovery"}
