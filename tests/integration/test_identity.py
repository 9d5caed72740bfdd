"""Real clusters that are restored from a backup, rebuilt, or replaced by another one, seen by a real client."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import anyio
import pytest

import tideover
from tideover import HealthState, Source
from tideover.coordinator import Coordinator
from tideover.core.identity import Reset
from tideover.testing import EtcdCluster, EtcdServer

pytestmark = [pytest.mark.anyio, pytest.mark.etcd]

Outgrown = Literal["before", "after"]


@pytest.fixture
def anyio_backend() -> str:
    """Run on asyncio: the real store is grpc.aio's."""
    return "asyncio"


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


def backed_up(server: EtcdServer, folder: Path) -> Path:
    """Write "old" values, back up, and overwrite them with "new" ones at later revisions."""
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
        tide._identity.subscribe(self.announced.append)

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
    backup = backed_up(etcd_server, tmp_path)
    async with tideover.connect(etcd_server.endpoint, cache_dir=tmp_path / "cache") as tide:
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
