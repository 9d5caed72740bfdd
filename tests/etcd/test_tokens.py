"""Tokens against a real etcd where they live for four seconds."""

from __future__ import annotations

import gc
import logging
from pathlib import Path

import anyio
import anyio.abc
import anyio.to_thread
import pytest

import tideover
from tests.etcd.users import LOGIN, TTL, enable_auth, until
from tideover import HealthState, Source
from tideover.etcd.adapter import EtcdStore
from tideover.store.faults import FaultKind, StoreFault
from tideover.store.operations import Put, Range
from tideover.testing import EtcdServer

pytestmark = [pytest.mark.etcd, pytest.mark.anyio, pytest.mark.takes(40), pytest.mark.version]


async def test_tokens_expire_and_nobody_notices(guarded: EtcdServer, caplog: pytest.LogCaptureFixture) -> None:
    """Over several lives of a token every write is seen once and in order, and nothing fails or is degraded.

    A lease that is renewed over one stream all the while is the same, and so is what it keeps.
    """
    caplog.set_level(logging.WARNING, "tideover")
    seen: list[str | None] = []
    async with (
        tideover.connect(guarded.endpoint, cache_dir=False, namespace="/config/app", **LOGIN) as tide,
        tide.session(ttl=5) as session,
        tide.lock("x", ttl=5) as held,
    ):
        assert tide.health.state is HealthState.AVAILABLE
        await session.put("a", "1")
        lease, token = session.lease_id, held.token
        changes = tide.config.changes("n/")

        async def follow() -> None:
            async for change in changes:
                seen.append(change.value)  # noqa: PERF401 - it has no end

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(follow)
            for number in range(4):
                await tide.config.put("n/x", number)
                await anyio.sleep(0.5)
                await tide.config.fetch("n/x", int)
                await anyio.sleep(0 if number % 2 else TTL + 0.7)
                session.check()
                held.check()
            await until(lambda: seen == ["0", "1", "2", "3"], within=2)
            tasks.cancel_scope.cancel()
        await session.put("b", "2")
        assert (session.lease_id, held.token) == (lease, token)
        assert tide.config.read("n/x", int).source is Source.LIVE
        assert tide.status().restarts == 0
    assert caplog.records == []


async def test_an_expired_token_is_renewed_once_for_all(guarded: EtcdServer) -> None:
    """Calls that are refused for their token together log in once; reads, writes and watches go on."""
    store = EtcdStore([guarded.endpoint], **LOGIN)
    try:
        member = store.members[0]
        await store.call(Put(b"/config/k", b"1"), member=member, timeout=5)
        assert store._login is not None
        first = store._login._token
        await anyio.sleep(TTL + 1.5)
        tokens = set()

        async def write() -> None:
            await store.call(Put(b"/config/k", b"2"), member=member, timeout=5)
            assert store._login is not None
            tokens.add(store._login._token)

        async with anyio.create_task_group() as tasks:
            for _ in range(10):
                tasks.start_soon(write)
        assert len(tokens) == 1
        assert tokens != {first}

        await anyio.sleep(TTL + 1.5)
        async with store.watch(b"/config/k", None, start_revision=1, member=member, timeout=5) as watch:
            assert len((await watch.receive()).events) == 11
    finally:
        await store.aclose()


async def test_an_open_watch_outlives_its_token(guarded: EtcdServer) -> None:
    """A watch goes on when its stream's token has expired; new ones get a stream with a new token."""
    store = EtcdStore([guarded.endpoint], **LOGIN)
    try:
        member = store.members[0]
        async with store.watch(b"/config/t", None, start_revision=0, member=member, timeout=5) as old:
            await anyio.sleep(TTL + 1.5)
            async with store.watch(b"/config/t", None, start_revision=0, member=member, timeout=5) as new:
                await store.call(Put(b"/config/t", b"1"), member=member, timeout=5)
                with anyio.fail_after(2):
                    for watch in (old, new):
                        assert len((await watch.receive()).events) == 1
                assert len(store._watches[member]._streams) == 2
            assert len(store._watches[member]._streams) == 1
    finally:
        await store.aclose()


async def test_an_etcd_without_users_is_asked_without_a_token() -> None:
    """A login is no obstacle where etcd has no users yet, and is used as soon as it has."""
    with EtcdServer(args=("--bcrypt-cost=4",)) as etcd:
        async with tideover.connect(etcd.endpoint, cache_dir=False, **LOGIN) as tide:
            await tide.config.put("timeout", 1.5)
            await anyio.to_thread.run_sync(enable_auth, etcd)
            await tide.config.put("timeout", 2.5)
            assert tide.config.get("timeout", float) == 2.5


async def test_members_that_leave_are_forgotten(guarded: EtcdServer) -> None:
    """A login that was made at a member that has left keeps nothing of it."""
    store = EtcdStore([guarded.endpoint, guarded.endpoint.replace("127.0.0.1", "localhost")], **LOGIN)
    try:
        login = store._login
        assert login is not None
        for member in store.members:
            login._token = None
            await store.call(Put(b"/config/k", b"1"), member=member, timeout=5)
        assert len(login._locks) == 2
        store.remove(store.members[1])
        await anyio.sleep(2.5)
        store._retired.clear()
        gc.collect()
        assert len(login._locks) == 1
    finally:
        await store.aclose()


async def test_a_silent_member_costs_the_others_no_login(guarded: EtcdServer) -> None:
    """A call that one member leaves unanswered is no reason to have another one check the password again."""
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as silent:
        endpoint = f"127.0.0.1:{silent.extra(anyio.abc.SocketAttribute.local_port)}"
        store = EtcdStore([guarded.endpoint, endpoint], **LOGIN)
        try:
            assert store._login
            await store.call(Range(b"/config/a"), member=guarded.endpoint, timeout=2)
            token = store._login._token
            for _ in range(3):
                with pytest.raises(StoreFault):
                    await store.call(Range(b"/config/a"), member=endpoint, timeout=0.2)
                await store.call(Range(b"/config/a"), member=guarded.endpoint, timeout=2)
                assert store._login._token == token
        finally:
            await store.aclose()


async def test_a_token_from_the_future_of_a_restored_etcd(tmp_path: Path) -> None:
    """etcd does not refuse it but waits for its time to come: one call is lost, and the next one logs in again."""
    with EtcdServer(args=("--bcrypt-cost=4",)) as etcd:
        enable_auth(etcd)
        etcd.etcdctl("--user=root:root", "snapshot", "save", str(tmp_path / "backup"))
        store = EtcdStore([etcd.endpoint], **LOGIN)
        try:
            for _ in range(50):
                await store.call(Put(b"/config/a", b"1"), member=etcd.endpoint, timeout=2)
            assert store._login
            store._login.forget(store._login._token or "")
            await store.call(Range(b"/config/a"), member=etcd.endpoint, timeout=2)
            etcd.kill()
            etcd.restore(tmp_path / "backup")
            etcd.start()
            etcd.wait_ready()
            store.renew(etcd.endpoint)
            with pytest.raises(StoreFault) as caught:
                await store.call(Range(b"/config/a"), member=etcd.endpoint, timeout=0.8)
            assert caught.value.fault.kind is FaultKind.DEADLINE
            found = await store.call(Range(b"/config/a"), member=etcd.endpoint, timeout=2)
            assert not found.entries
        finally:
            await store.aclose()
