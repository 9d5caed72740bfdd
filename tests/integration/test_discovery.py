"""Discovery on a real etcd that dies, loses leases and is rebuilt from nothing; the rules' times are shortened."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

import tideover
from tideover import HealthState, NoEndpoints, ServiceView, Source
from tideover.discovery import service
from tideover.discovery.rules.removals import RemovalRules
from tideover.testing import EtcdCluster, EtcdServer

pytestmark = [pytest.mark.anyio, pytest.mark.etcd]


async def ctl(etcd: EtcdServer | EtcdCluster, *args: str) -> str:
    """Run etcdctl beside the event loop."""
    return await anyio.to_thread.run_sync(lambda: etcd.etcdctl(*args))


async def publish(etcd: EtcdServer | EtcdCluster, n: int, *, lease: str | None = None) -> None:
    """Put an endpoint into etcd."""
    value = json.dumps({"needs": 1, "url": f"http://10.0.0.{n}:80"})
    await ctl(etcd, "put", f"/services/billing/i{n}/x", value, *(("--lease", lease) if lease else ()))


async def until(condition: Callable[[], object], within: float) -> float:
    """Wait for a condition; return the seconds it took."""
    began = time.monotonic()
    with anyio.fail_after(within):
        while not condition():
            await anyio.sleep(0.01)
    return time.monotonic() - began


def instances(view: ServiceView) -> list[str]:
    """Return the instances listed."""
    return [each.instance for each in view.endpoints]


def is_held(view: ServiceView) -> bool:
    """Whether the list is live, and etcd has nothing of it any more."""
    return view.source is Source.LIVE and len(view.held) == len(view.endpoints)


def is_empty(view: ServiceView) -> bool:
    """Whether the list is empty."""
    return not view.endpoints


ALL = ["i0", "i1", "i2", "i3"]


async def test_no_outage_empties_the_list(
    etcd_cluster: EtcdCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frozen while etcd is dead, from disk in a new process, full when it is rebuilt empty; then empty in time."""
    rules = RemovalRules(grace=4.0, window=1.0, empty_after=4.0)
    monkeypatch.setattr(service, "_REMOVALS", rules)
    for n in range(4):
        await publish(etcd_cluster, n)
    async with tideover.connect(*etcd_cluster.endpoints, cache_dir=tmp_path) as tide:
        view = tide.discover("billing")
        await view.wait_for(4, timeout=5)
        assert (view.source, instances(view)) == (Source.LIVE, ALL)
        await anyio.sleep(1)

        etcd_cluster.kill_all()
        await tide.health.wait_for(HealthState.UNAVAILABLE, timeout=10)
        assert (view.source, instances(view)) == (Source.MEMORY, ALL)
        assert len({view.pick().url for _ in range(4)}) == 4
        async with tideover.connect(*etcd_cluster.endpoints, cache_dir=tmp_path) as restarted:
            late = restarted.discover("billing")
            await late.wait_for(4, timeout=2)
            assert (late.source, instances(late)) == (Source.DISK, ALL)
            assert 3 < late.age < 60

            await anyio.to_thread.run_sync(etcd_cluster.wipe)
            await anyio.to_thread.run_sync(etcd_cluster.start_all)
            await etcd_cluster.ready()
            for each in (view, late):
                await until(partial(is_held, each), within=15)
                assert instances(each) == ALL
            began = time.monotonic()
            for each in (view, late):
                await until(partial(is_empty, each), within=rules.longest + 5)
                with pytest.raises(NoEndpoints):
                    each.pick()
            assert time.monotonic() - began > rules.grace - 2
        await publish(etcd_cluster, 7)
        assert await until(lambda: instances(view) == ["i7"], within=2) < 2
        assert tide.status().restarts == 0


async def test_leases_that_end_after_an_outage_are_held(
    etcd_server: EtcdServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of the leases end after a restart of etcd: their endpoints stay for the grace period, then they go. In
    ordinary times one that is taken away has gone at once."""
    rules = RemovalRules(grace=8.0, window=1.0, empty_after=4.0)
    monkeypatch.setattr(service, "_REMOVALS", rules)
    async with tideover.connect(etcd_server.endpoint, cache_dir=False, start_timeout=5) as tide:
        view = tide.discover("billing")
        for n in range(5):
            granted = await ctl(etcd_server, "lease", "grant", "3")
            await publish(etcd_server, n, lease=granted.split()[1] if n < 2 else None)
        await view.wait_for(5, timeout=5)
        etcd_server.kill()
        await tide.health.wait_for(HealthState.UNAVAILABLE, timeout=10)
        await anyio.to_thread.run_sync(etcd_server.start)
        await until(lambda: view.source is Source.LIVE, within=10)
        recovered = time.monotonic()
        await until(lambda: len(view.held) == 2, within=10)
        assert instances(view) == [*ALL, "i4"]
        await until(lambda: instances(view) == ["i2", "i3", "i4"], within=rules.longest)
        assert time.monotonic() - recovered > rules.grace - 0.5

        await anyio.sleep(rules.window)
        await ctl(etcd_server, "del", "/services/billing/i4/x")
        assert await until(lambda: instances(view) == ["i2", "i3"], within=1) < 1
