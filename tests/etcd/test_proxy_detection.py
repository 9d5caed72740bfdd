"""Behind a real `etcd grpc-proxy`: known for what it is; configuration works; leases are refused."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.to_thread
import pytest

import tideover
from tests.etcd.grpc_proxy import GrpcProxy, grpc_proxy
from tideover import HealthState, Source
from tideover.etcd.adapter import EtcdStore
from tideover.store.faults import FaultKind, StoreFault, public_error
from tideover.store.operations import Delete, Put, Range
from tideover.testing import EtcdCluster, EtcdServer

pytestmark = [pytest.mark.anyio, pytest.mark.etcd]


@pytest.fixture
def proxy(server: EtcdServer) -> Iterator[GrpcProxy]:
    """A proxy before it: with an empty cache."""
    with grpc_proxy(server) as running:
        yield running


@asynccontextmanager
async def opened(*endpoints: str, **options: Any) -> AsyncIterator[EtcdStore]:
    """Run a store."""
    store = EtcdStore(endpoints, **options)
    try:
        yield store
    finally:
        await store.aclose()


async def until(condition: Callable[[], object], within: float) -> None:
    """Wait for what must come about by itself."""
    with anyio.fail_after(within):
        while not condition():
            await anyio.sleep(0.02)


async def test_a_watch_tells_a_proxy_from_a_member(server: EtcdServer, proxy: GrpcProxy) -> None:
    """Nothing is known before; each watch that is opened shows it, several on one stream too."""
    async with opened(server.endpoint, proxy.endpoint) as store:
        for member, expected in ((server.endpoint, False), (proxy.endpoint, True)):
            assert store.is_proxy(member) is None
            for key in (b"a", b"b"):
                async with store.watch(key, None, start_revision=0, member=member, timeout=5):
                    async with store.watch(b"c", None, start_revision=0, member=member, timeout=5):
                        assert store.is_proxy(member) is expected
            store.renew(member)
            assert store.is_proxy(member) is None


async def test_what_must_not_go_through_a_proxy_is_refused(server: EtcdServer, proxy: GrpcProxy) -> None:
    """`require_member` passes a member and refuses a proxy, definitely and before anything was sent."""
    async with opened(server.endpoint, proxy.endpoint) as store:
        for _ in range(2):
            await store.require_member(server.endpoint, timeout=5)
            with pytest.raises(StoreFault) as caught:
                await store.require_member(proxy.endpoint, timeout=5)
            fault = caught.value.fault
            assert fault.kind is FaultKind.PROXY
            assert (fault.outage, fault.applied, fault.retry_read) == (False, False, False)
            error = public_error(fault, doing="grant a lease", writes=True)
            assert isinstance(error, tideover.BehindProxy)
            assert proxy.endpoint in str(error)


async def test_a_member_that_does_not_answer_is_not_taken_for_either(server: EtcdServer, proxy: GrpcProxy) -> None:
    """Where nobody answers, asking fails as an outage: nothing is refused, and nothing let through."""
    proxy.kill()
    async with opened(proxy.endpoint) as store:
        with pytest.raises(StoreFault) as caught:
            await store.require_member(proxy.endpoint, timeout=1)
        assert caught.value.fault.outage
        assert store.is_proxy(proxy.endpoint) is None


async def test_who_may_read_nothing_learns_it_too(proxy: GrpcProxy) -> None:
    """A refusal tells a proxy from a member, with and without a login."""
    with EtcdServer(args=("--bcrypt-cost=4",)) as guarded, grpc_proxy(guarded) as before:
        for command in (
            "user add root:r",
            "user add nobody:n",
            "user grant-role root root",
            "auth enable",
        ):
            guarded.etcdctl(*command.split())
        for login in ({}, {"username": "nobody", "password": "n"}, {"username": "root", "password": "r"}):
            async with opened(guarded.endpoint, before.endpoint, **login) as store:
                await store.require_member(guarded.endpoint, timeout=5)
                with pytest.raises(StoreFault) as caught:
                    await store.require_member(before.endpoint, timeout=5)
                assert caught.value.fault.kind is FaultKind.PROXY


async def test_reads_are_not_answered_from_the_cache(server: EtcdServer, proxy: GrpcProxy) -> None:
    """A serializable read shows what was written past the proxy, although the proxy would say it is absent."""
    async with opened(proxy.endpoint) as behind, opened(server.endpoint) as direct:
        await direct.call(Delete(b"cached"), member=server.endpoint, timeout=5)
        read = Range(b"cached", serializable=True)
        assert not (await behind.call(read, member=proxy.endpoint, timeout=5)).entries
        for value in (b"1", b"2"):
            await direct.call(Put(b"cached", value), member=server.endpoint, timeout=5)
            found = await behind.call(read, member=proxy.endpoint, timeout=5)
            assert found.entries[b"cached"].value == value


async def test_configuration_works_and_says_where_it_comes_from(
    server: EtcdServer, proxy: GrpcProxy, caplog: pytest.LogCaptureFixture
) -> None:
    """Reads, writes, deletions and changes work; values stay LIVE longer than a proof holds; it is said once."""
    caplog.set_level(logging.WARNING, "tideover")
    async with tideover.connect(proxy.endpoint, cache_dir=False, require="config") as tide:
        changes, told = tide.config.changes("p/"), []
        assert (await tide.config.put("p/a", "1")).visible
        told.append(await anext(changes))
        await anyio.to_thread.run_sync(server.etcdctl, "put", "/config/p/b", "2")
        await until(lambda: tide.config.get("p/b", default="") == "2", within=2)
        told.append(await anext(changes))
        assert (await tide.config.delete("p/a")).visible
        assert tide.config.get("p/a", default=None) is None
        told += [await anext(changes)]
        assert [(change.key, change.value) for change in told] == [("p/a", "1"), ("p/b", "2"), ("p/a", None)]

        # Other keys change: only asking what has changed here can prove the view.
        for n in range(26):
            await anyio.to_thread.run_sync(server.etcdctl, "put", "/elsewhere", str(n))
            await anyio.sleep(0.5)
            reading = tide.config.read("p/b")
            assert (reading.source, reading.stale) == (Source.LIVE, False)
            assert reading.age < 7

        status = tide.status()
        assert [member.proxy for member in status.members] == [True]
        assert "is an etcd grpc-proxy: leases are refused" in status.sentence
        assert status.restarts == 0
    assert [record.getMessage() for record in caplog.records if "grpc-proxy" in record.getMessage()] == [
        f"tideover.member.proxy: {proxy.endpoint} is an etcd grpc-proxy, not a member: configuration works "
        "through it, leases are refused; give the endpoints of the members themselves"
    ]
    assert "not supported request" not in proxy.log(), "it was asked for progress"


async def test_a_member_is_not_called_a_proxy(server: EtcdServer) -> None:
    """Without a proxy the status says so, in the field, and nothing in the sentence."""
    async with tideover.connect(server.endpoint, cache_dir=False, require="config") as tide:
        assert [member.proxy for member in tide.status().members] == [False]
        assert "proxy" not in tide.status().sentence


async def test_an_outage_behind_a_proxy_is_an_outage(server: EtcdServer, proxy: GrpcProxy) -> None:
    """The proxy goes on answering from its cache: nobody takes that for a member's word. All is seen after."""
    await anyio.to_thread.run_sync(server.etcdctl, "put", "/config/o/a", "1")
    async with tideover.connect(proxy.endpoint, cache_dir=False, require="config") as tide:
        await tide.config.fetch("o/a")
        server.pause()
        try:
            await tide.health.wait_for(HealthState.UNAVAILABLE, timeout=15)
            assert (tide.config.get("o/a"), tide.config.read("o/a").source) == ("1", Source.MEMORY)
            assert (await tide.config.fetch("o/a")).source is Source.MEMORY
        finally:
            server.resume()
        await anyio.to_thread.run_sync(server.etcdctl, "put", "/config/o/a", "2")
        await tide.health.wait_for(HealthState.AVAILABLE, timeout=20)
        await until(lambda: tide.config.get("o/a") == "2", within=15)
        await until(lambda: tide.config.read("o/a").source is Source.LIVE, within=5)


async def test_a_member_without_a_leader_is_known_as_one() -> None:
    """Nobody needs a quorum to learn who is asked: a survivor's serializable reads go on, unwatched as it is."""
    with EtcdCluster(args=("--heartbeat-interval=50", "--election-timeout=500")) as cluster:
        survivor = cluster.members[0]
        cluster.lose_quorum(survivor=survivor)
        await anyio.sleep(2)
        async with opened(survivor.endpoint) as store:
            with pytest.raises(StoreFault) as caught:
                async with store.watch(b"k", None, start_revision=0, member=survivor.endpoint, timeout=5):
                    pytest.fail("it was opened")
            assert caught.value.fault.outage
            await store.require_member(survivor.endpoint, timeout=1)
            await store.call(Range(b"k", serializable=True), member=survivor.endpoint, timeout=1)
            assert store.is_proxy(survivor.endpoint) is False
