"""The host lock is tried while the reply is under way, and never waited for then."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
import pytest
import trio

from tests.locks.support import LateStore, connected_many, lock_keys, lose_all, touches
from tests.support import connected
from tideover import Coordinator, LockTimeout
from tideover.locks.host_queue import Hosts
from tideover.store.operations import Put
from tideover.testing import MemoryStore
from tideover.types import HealthState

pytestmark = pytest.mark.anyio


def hosts_of(tide: Coordinator) -> Hosts:
    """Return a coordinator's host locks."""
    return tide._parts.locks.context.hosts


def is_free(tide: Coordinator, name: str = "orders") -> bool:
    """Return whether another process of the machine could take a name now."""
    free = hosts_of(tide).take_now(name)
    if free:
        hosts_of(tide).give(name)
    return free


async def while_it_takes(tide: Coordinator, look: Callable[[], Awaitable[None]]) -> None:
    """Look from another task while a lock is being had."""
    async with anyio.create_task_group() as tasks:

        async def take() -> None:
            async with tide.lock("orders"):
                await anyio.sleep(1)

        tasks.start_soon(take)
        await look()


async def test_it_is_taken_before_the_reply_is_there() -> None:
    """The time for it is that of the reply: when our key is first, the lock is had at once."""
    store = MemoryStore()
    async with connected_many(store, 2) as (one, two):
        async with one.lock("opens the session"):
            pass
        store.delay = 0.05

        async def look() -> None:
            await anyio.sleep(0.04)
            assert not is_free(two)
            await anyio.sleep(0.5)
            assert not is_free(two)

        await while_it_takes(one, look)
        await anyio.sleep(0.5)
        assert is_free(two)


async def test_it_is_given_back_when_the_reply_shows_another_key_first() -> None:
    """Who has to wait for etcd keeps no LOCAL holder of the machine waiting."""
    store = MemoryStore()
    await store.call(Put(b"/locks/orders/1", b""), member=store.members[0], timeout=1)
    async with connected_many(store, 2) as (one, two):
        async with one.lock("opens the session"):
            pass
        store.delay = 0.05
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(one.lock("orders").__aenter__)
            await anyio.sleep(0.04)
            assert not is_free(two)
            await anyio.sleep(0.03)
            assert len(lock_keys(store, "orders")) == 2
            assert is_free(two)
            tasks.cancel_scope.cancel()


async def test_it_is_given_back_while_a_lost_reply_is_waited_for() -> None:
    """A lock whose request was lost keeps no other process of the machine from the name: 0.2 s at the most."""
    memory = MemoryStore()
    store = LateStore(memory)
    async with connected(store) as one, connected(memory) as two:
        async with one.lock("opens the session"):
            pass
        store.delay = touches("orders", Put)

        async def look() -> None:
            await anyio.sleep(0.25)
            assert store.late
            assert not lock_keys(memory, "orders")
            for _ in range(20):
                assert is_free(two)
                await anyio.sleep(0.05)
            store.delay = lambda op: False
            store.late.clear()
            await anyio.sleep(1)

        await while_it_takes(one, look)


async def test_a_slow_reply_keeps_it_for_a_moment_only() -> None:
    """The reply comes after a second: the host lock is free long before, and is taken when the key is first."""
    store = MemoryStore()
    async with connected_many(store, 2) as (one, two):
        async with one.lock("opens the session"):
            pass
        store.delay = 0.6

        async def look() -> None:
            await anyio.sleep(0.25)
            assert is_free(two)
            await anyio.sleep(0.5)
            assert not is_free(two)

        await while_it_takes(one, look)


async def test_it_is_never_waited_for_while_the_reply_is_under_way() -> None:
    """Another process of the machine has it: the key is made meanwhile, the host lock taken later."""
    store = MemoryStore()
    async with connected_many(store, 2) as (one, two):
        async with one.lock("opens the session"):
            pass
        assert hosts_of(two).take_now("orders")

        async def look() -> None:
            await anyio.sleep(0.1)
            assert lock_keys(store, "orders")
            hosts_of(two).give("orders")
            await anyio.sleep(0.5)
            assert not is_free(two)

        await while_it_takes(one, look)


# With timeout=0 -------------------------------------------------------------------------------------------------


async def test_who_does_not_wait_is_refused_while_the_name_is_held_local() -> None:
    """With timeout=0 a LOCAL holder that is not reconciled yet keeps the lock, and host locks are not broken."""
    store = MemoryStore()
    async with connected_many(store, 2) as (one, two):
        assert hosts_of(two).take_now("orders")
        with pytest.raises(LockTimeout, match="held LOCAL"):
            async with one.lock("orders", timeout=0):
                raise AssertionError
        assert one._parts.locks.hosted
        await anyio.sleep(1)
        assert lock_keys(store, "orders") == []
        hosts_of(two).give("orders")
        async with one.lock("orders", timeout=0) as held:
            assert held._grant.distributed("a key").hosted


async def test_in_an_outage_too_it_is_told_that_the_name_is_held() -> None:
    """With timeout=0 the error is that another one has the lock, and not that host locks do not work."""
    store = MemoryStore()
    async with connected_many(store, 2, profile="availability") as (one, two):
        lose_all(store)
        for tide in (one, two):
            await tide.health.wait_for(HealthState.UNAVAILABLE)
        async with two.lock("orders"):
            with pytest.raises(LockTimeout, match="held on this machine"):
                async with one.lock("orders", timeout=0):
                    raise AssertionError
        assert one._parts.locks.hosted


async def test_in_an_outage_a_name_that_this_process_holds_is_refused_at_once() -> None:
    """A holder in this process has not taken the name ahead for a moment: there is nothing to wait for."""
    store = MemoryStore()
    async with connected(store, profile="availability") as tide:
        lose_all(store)
        await tide.health.wait_for(HealthState.UNAVAILABLE)
        assert hosts_of(tide).take_now("orders")
        began = trio.current_time()
        with pytest.raises(LockTimeout, match="held on this machine"):
            async with tide.lock("orders", timeout=0):
                raise AssertionError
        assert trio.current_time() == began


async def test_a_name_that_another_process_has_ahead_is_free_in_a_moment() -> None:
    """With timeout=0 a lock whose key is first is had with its host lock, once a rival's request is answered."""
    store = MemoryStore()
    async with connected_many(store, 2) as (one, two):
        for tide in (one, two):
            async with tide.lock("opens the session"):
                pass

        async def look() -> None:
            await anyio.sleep(0.001)
            assert not is_free(one)
            store.delay = 0.005
            async with one.lock("orders", timeout=0) as held:
                assert held._grant.distributed("a key").hosted

        store.delay = 0.05
        await while_it_takes(two, look)
        assert one._parts.locks.hosted


@pytest.mark.parametrize("ahead", [0.15, 0.25])
async def test_in_an_outage_it_is_free_in_a_moment_too(ahead: float) -> None:
    """With timeout=0 a LOCAL lock is had if another process gives the name back within the time of a trial."""
    store = MemoryStore()
    async with connected_many(store, 2, profile="availability") as (one, two):
        lose_all(store)
        await one.health.wait_for(HealthState.UNAVAILABLE)
        assert hosts_of(two).take_now("orders")
        got: list[str] = []

        async def take() -> None:
            try:
                async with one.lock("orders", timeout=0):
                    got.append("local")
            except LockTimeout:
                got.append("refused")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(take)
            await anyio.sleep(ahead)
            hosts_of(two).give("orders")
        assert got == ["local" if ahead < 0.2 else "refused"]
