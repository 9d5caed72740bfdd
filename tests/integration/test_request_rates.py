"""How much an idle process asks of a real etcd that refuses it; see also `tests/cluster/test_request_rates.py`."""

from __future__ import annotations

import asyncio
import re
import urllib.request
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import anyio
import anyio.to_thread
import pytest

from tests.counting import CountingStore
from tideover import HealthState, Source, connect
from tideover.etcd.adapter import EtcdStore
from tideover.testing import EtcdCluster

pytestmark = [pytest.mark.etcd, pytest.mark.any_etcd, pytest.mark.anyio, pytest.mark.takes(70)]

MOST = 5


async def test_members_that_refuse_connections_are_asked_little(etcd_cluster: EtcdCluster) -> None:
    """All members are killed: at most five requests a second from then on, also in the seconds before that is
    declared; and within 2 s of a quorum's return all is well."""
    store = CountingStore(EtcdStore(etcd_cluster.endpoints))
    async with connect(store=store, follow=("a/", "b/"), cache_dir=False) as tide:
        await tide.config.put("a/x", "1")
        await anyio.sleep(1)
        etcd_cluster.kill_all()
        began = anyio.current_time()
        await tide.health.wait_for(HealthState.UNAVAILABLE, timeout=6)
        await anyio.sleep(began + 20 - anyio.current_time())
        assert store.most(began, began + 20, 10) <= MOST
        # The first second tells that all of them are away, and costs two questions to each.
        assert store.most(began + 1, began + 20, 3) <= MOST
        etcd_cluster.restore_quorum()
        await etcd_cluster.ready()
        await tide.health.wait_for(HealthState.AVAILABLE, timeout=2)
        with anyio.fail_after(2):
            while tide.config.read("a/x").source is not Source.LIVE:
                await anyio.sleep(0.01)


async def test_few_connections_are_tried(etcd_cluster: EtcdCluster) -> None:
    """What closes each connection at once gets at most five a second, gRPC's own tries included."""
    async with connect(*etcd_cluster.endpoints, follow=("a/", "b/"), cache_dir=False) as tide:
        await tide.config.put("a/x", "1")
        etcd_cluster.kill_all()
        async with closing(etcd_cluster) as accepted:
            await tide.health.wait_for(HealthState.UNAVAILABLE, timeout=6)
            before = len(accepted)
            await anyio.sleep(10)
            assert 10 <= len(accepted) - before <= 10 * MOST


@asynccontextmanager
async def closing(cluster: EtcdCluster) -> AsyncIterator[list[float]]:
    """Take the place of a cluster's killed members, and give the times at which connections were made."""
    accepted: list[float] = []

    def refuse(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        accepted.append(anyio.current_time())
        writer.close()

    async with AsyncExitStack() as stack:
        for endpoint in cluster.endpoints:
            host, _, port = endpoint.partition(":")
            await stack.enter_async_context(await asyncio.start_server(refuse, host, int(port)))
        yield accepted


async def test_a_quorum_that_refuses_the_password_is_asked_little(etcd_cluster: EtcdCluster) -> None:
    """A wrong password from the start: at most five requests a second, as etcd itself counts them."""
    for command in ("user add root:root", "user grant-role root root", "user add app:right", "auth enable"):
        etcd_cluster.etcdctl(*command.split())
    async with connect(
        *etcd_cluster.endpoints, follow=("a/", "b/"), cache_dir=False, username="app", password="wrong"
    ) as tide:
        await anyio.sleep(1)
        before, began = await requests(etcd_cluster), anyio.current_time()
        await anyio.sleep(15)
        assert tide.health.state is HealthState.UNAVAILABLE
        passed = anyio.current_time() - began
        assert 0 < await requests(etcd_cluster) - before <= MOST * passed


async def test_a_healthy_process_asks_little(etcd_cluster: EtcdCluster) -> None:
    """While other keys change and two views are quiet, both are kept fresh at less than two requests a second.

    Where a member's progress proves nothing (before etcd 3.5.8), that takes a comparison of each for each probe.
    """
    async with connect(*etcd_cluster.endpoints, follow=("a/", "b/"), cache_dir=False) as tide:
        await tide.config.put("a/x", "1")
        await anyio.sleep(1)
        before, began = await requests(etcd_cluster), anyio.current_time()
        for number in range(5):
            await anyio.to_thread.run_sync(etcd_cluster.etcdctl, "put", "elsewhere", str(number))
            await anyio.sleep(2)
            assert tide.config.read("a/x").source is Source.LIVE
        # But for etcdctl's own.
        asked = await requests(etcd_cluster) - before - 5
        assert asked <= 2 * (anyio.current_time() - began)
        assert tide.config.read("a/x").age < 6


async def requests(cluster: EtcdCluster) -> int:
    """Return how many requests the members have counted that clients make, streams included."""
    total = 0
    for endpoint in cluster.endpoints:
        text = await anyio.to_thread.run_sync(_metrics, endpoint)
        counted = re.findall(r'^grpc_server_started_total\{.*grpc_service="etcdserverpb\..*\} (\S+)$', text, re.M)
        total += sum(int(float(number)) for number in counted)
    return total


def _metrics(endpoint: str) -> str:
    with urllib.request.urlopen(f"http://{endpoint}/metrics", timeout=5) as reply:
        return str(reply.read(), "utf-8")
