"""Encrypted snapshots of two real clusters: rotated keys, a tampered file, a file of the other cluster."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from tests.canaries import canary
from tests.test_encryption import new_key
from tideover import Coordinator, Encryption, NotSynced, Source, connect
from tideover.testing import EtcdServer

pytestmark = [pytest.mark.anyio, pytest.mark.etcd]

SECRET = canary("travelling")


@asynccontextmanager
async def service(endpoint: str, folder: Path, *keys: str) -> AsyncIterator[Coordinator]:
    """Run a service with these keys."""
    async with connect(endpoint, cache_dir=folder, encryption=Encryption(keys), start_timeout=5) as tide:
        yield tide


def only(folder: Path) -> Path:
    """Return the newest generation of the snapshot in a folder."""
    (path,) = (path for path in folder.glob("config-*.json") if not path.name.endswith(".prev.json"))
    return path


async def test_each_is_told_none_is_used_none_is_deleted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Two keys are rotated, one file is tampered with, one is of another cluster; etcd comes back to each."""
    first, second, third = new_key(), new_key(), new_key()
    folders = [tmp_path / name for name in ("first", "second", "tampered", "other")]
    with EtcdServer() as etcd, EtcdServer() as elsewhere:
        for folder, key in zip(folders[:3], (first, second, third), strict=True):
            async with service(etcd.endpoint, folder, key) as tide:
                await tide.config.put("password", SECRET)
        async with service(elsewhere.endpoint, folders[3], third) as tide:
            await tide.config.put("password", SECRET)
        tampered = bytearray(only(folders[2]).read_bytes())
        tampered[-40] ^= 1
        only(folders[2]).write_bytes(tampered)
        only(folders[3]).rename(folders[3] / only(folders[0]).name)
        for path in tmp_path.glob("*/*.prev.json"):
            path.unlink()
        bad = {folder: only(folder).read_bytes() for folder in folders}
        assert not any(SECRET.encode() in data for data in bad.values())
        endpoint = etcd.endpoint
        etcd.kill()
        reasons = ["and the keys here are"] * 2 + ["it was altered", "is of the cluster at "]
        for folder, reason in zip(folders, reasons, strict=True):
            caplog.clear()
            async with service(endpoint, folder, third) as tide:
                with pytest.raises(NotSynced):
                    tide.config.get("password")
            (said,) = (message for message in caplog.messages if "tideover.snapshot.rejected" in message)
            assert reason in said
            assert str(only(folder)) in said
        etcd.start()
        for folder in folders:
            async with service(endpoint, folder, third) as tide:
                with anyio.fail_after(20):
                    while tide.config.read("password").source is not Source.LIVE:
                        await anyio.sleep(0.05)
            assert bad[folder] in {path.read_bytes() for path in folder.iterdir()}
        etcd.kill()
        async with service(endpoint, folders[0], third, second, first) as tide:
            reading = tide.config.read("password")
            assert (reading.value, reading.source) == (SECRET, Source.DISK)
