"""Registrations on a real etcd: what its own tools do to them, and what a backup brings back."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

import tideover
from tideover import Endpoint, RegistrationState
from tideover.discovery.endpoint import decode
from tideover.testing import EtcdServer

pytestmark = [pytest.mark.anyio, pytest.mark.etcd]

URL = "http://10.0.0.7:8000"
USERS = (
    "user add root:r",
    "user grant-role root root",
    "user add app:a",
    "role add app",
    "role grant-permission app --prefix=true readwrite /config/",
    "role grant-permission app --prefix=true readwrite /tideover/",
    "user grant-role app app",
    "auth enable",
)


async def etcdctl(server: EtcdServer, *args: str) -> str:
    """Do something with etcd's own tool."""
    return await anyio.to_thread.run_sync(lambda: server.etcdctl(*args, timeout=20))


async def found(server: EtcdServer, *options: str) -> list[Endpoint]:
    """Return what is registered, as etcdctl sees it."""
    text = await etcdctl(server, *options, "get", "--prefix", "/services/")
    lines = text.splitlines()
    pairs = zip(lines[::2], lines[1::2], strict=True)
    return [decode(key.removeprefix("/"), value.encode()) for key, value in pairs]


async def until(condition: Callable[[], bool], timeout: float = 20) -> None:
    """Wait for a state."""
    with anyio.fail_after(timeout):
        while not condition():
            await anyio.sleep(0.02)


async def test_what_operators_do_to_it(etcd_server: EtcdServer) -> None:
    """Deleted, its lease revoked, the key moved to no lease: each time it is there again, under a lease."""
    async with tideover.connect(etcd_server.endpoint, cache_dir=False, start_timeout=5) as tide:
        async with tide.register("api", URL) as here:
            assert await found(etcd_server) == [here.endpoint]
            await etcdctl(etcd_server, "del", "--prefix", "/services/")
            await until(lambda: here.status.comebacks == 1)
            await etcdctl(etcd_server, "lease", "revoke", tide.status().sessions[0].lease_id)
            await until(lambda: here.status.comebacks == 2)
            assert await found(etcd_server) == [here.endpoint]
            assert await here.update(weight=0, metadata={"zone": "b"})
            (shown,) = await found(etcd_server)
            assert (shown.weight, shown.metadata) == (0.0, {"zone": "b"})
        assert await found(etcd_server) == []


@pytest.mark.parametrize(("token", "changed"), [(None, True), ("another", True), (None, False)])
async def test_restored_from_a_backup(
    etcd_server: EtcdServer, tmp_path: Path, token: str | None, changed: bool
) -> None:
    """The backup has an older own key, and its lease: in the end the endpoint is there as it is to be, and alone.

    If this process has seen nothing that the backup lacks, the lease just goes on.
    """
    backup = tmp_path / "backup.db"
    async with tideover.connect(etcd_server.endpoint, cache_dir=False, start_timeout=5) as tide:
        async with tide.register("api", URL, ttl=5) as here:
            await etcdctl(etcd_server, "snapshot", "save", str(backup))
            if changed:
                for weight in range(5):
                    assert await here.update(weight=weight)
            etcd_server.kill()
            await anyio.to_thread.run_sync(lambda: etcd_server.restore(backup, token=token))
            await until(lambda: tide.health.state is not tideover.HealthState.AVAILABLE)
            await anyio.to_thread.run_sync(etcd_server.start)
            if changed:
                await until(lambda: here.status.comebacks == 1)
            await here.wait_registered()
            assert here.endpoint in await found(etcd_server)
            with anyio.fail_after(20):
                while await found(etcd_server) != [here.endpoint]:
                    await anyio.sleep(0.3)
            await anyio.sleep(3)
            assert await found(etcd_server) == [here.endpoint]
            assert here.status.comebacks == int(changed)
        assert await found(etcd_server) == []


async def test_without_rights(etcd_server: EtcdServer) -> None:
    """Entering does not raise, the status names the refusal, and once the rights are there so is the endpoint."""
    for command in USERS:
        await etcdctl(etcd_server, *command.split())
    root = ("--user", "root:r")
    async with tideover.connect(
        etcd_server.endpoint, username="app", password="a", cache_dir=False, start_timeout=5
    ) as tide:
        began = time.monotonic()
        async with tide.register("api", URL) as here:
            assert time.monotonic() - began < 5
            await until(lambda: here.status.state is RegistrationState.REFUSED)
            assert "ermission" in (here.status.error or "")
            grant = "role grant-permission app --prefix=true readwrite /services/"
            await etcdctl(etcd_server, *root, *grant.split())
            with anyio.fail_after(15):
                await here.wait_registered()
            assert await found(etcd_server, *root) == [here.endpoint]
        assert await found(etcd_server, *root) == []
