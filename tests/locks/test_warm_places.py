"""A key that is kept for a moment after its lock was let go."""

from __future__ import annotations

from itertools import pairwise

import anyio
import pytest
import trio

from tests.locks.support import connected_many, lock_keys, settle
from tests.support import connected
from tideover import Coordinator
from tideover.fencing.token import revision_of
from tideover.testing import MemoryStore

pytestmark = pytest.mark.anyio


async def take(tide: Coordinator, times: int = 1, *, handover: bool = True) -> list[int]:
    """Take the lock so many times, 0.02 s apart; return the tokens."""
    tokens = []
    for _ in range(times):
        async with tide.lock("orders", handover=handover) as held:
            tokens.append(held.token)
        await anyio.sleep(0.02)
    return tokens


def writes(store: MemoryStore) -> int:
    """Return how many calls have written."""
    return len([op for _, op in store.calls if op.writes])


async def test_the_same_lock_again_takes_no_call() -> None:
    """From the third time on its key is found warm; each hold has a token of its own, greater than the last."""
    store = MemoryStore()
    async with connected(store) as tide:
        tokens = await take(tide, 2)
        before = writes(store)
        tokens += await take(tide, 10)
        assert writes(store) == before
        assert tokens == sorted(set(tokens))
        assert len({revision_of(token) for token in tokens}) == 2


async def test_it_is_kept_for_a_tenth_of_a_second() -> None:
    """Then the key goes, and the next time another one is made."""
    store = MemoryStore()
    async with connected(store) as tide:
        await take(tide, 2)
        await anyio.sleep(0.07)
        assert len(lock_keys(store)) == 1
        await anyio.sleep(0.02)
        assert lock_keys(store) == []
        first, second = (await take(tide, 1))[0], (await take(tide, 1))[0]
        assert revision_of(first) != revision_of(second)


async def test_a_lock_that_is_wanted_now_and_then_is_not_kept() -> None:
    """Only who wants a lock twice within a tenth of a second may want it again so soon."""
    store = MemoryStore()
    async with connected(store) as tide:
        for _ in range(3):
            await take(tide)
            assert lock_keys(store) == []
            await anyio.sleep(0.1)


async def test_who_comes_first_from_elsewhere_has_it_at_once() -> None:
    """The watch of the line shows the rival: the warm key goes before its time."""
    store = MemoryStore()
    async with connected_many(store, 2) as (one, two):
        async with two.lock("opens the session"):
            pass
        await take(one, 2)
        assert len(lock_keys(store, "orders")) == 1
        began = trio.current_time()
        async with two.lock("orders"):
            assert trio.current_time() - began < 0.02
            assert len(lock_keys(store, "orders")) == 1


async def test_it_is_not_kept_once_somebody_elsewhere_waits() -> None:
    """The rival came while the lock was held: letting go gives the key back, however often it was kept before."""
    store = MemoryStore()
    async with connected_many(store, 2) as (one, two), anyio.create_task_group() as tasks:
        async with two.lock("opens the session"):
            pass
        await take(one, 5)
        got: list[float] = []

        async def rival() -> None:
            async with two.lock("orders"):
                got.append(trio.current_time())

        async with one.lock("orders"):
            tasks.start_soon(rival)
            await anyio.sleep(0.05)
            let_go = trio.current_time()
        await take(one, 3)
        assert got == pytest.approx([let_go], abs=0.01)


async def test_who_had_to_wait_keeps_nothing() -> None:
    """Two that want it without end take turns as before: no key is kept while the other one waits."""
    store = MemoryStore()
    turns: list[int] = []
    async with connected_many(store, 2) as both, anyio.create_task_group() as tasks:

        async def work(number: int, tide: Coordinator) -> None:
            for _ in range(10):
                async with tide.lock("orders"):
                    turns.append(number)
                    await anyio.sleep(0.01)

        for number, tide in enumerate(both):
            tasks.start_soon(work, number, tide)
    repeated = sum(one == other for one, other in pairwise(turns))
    assert repeated <= 3


async def test_it_holds_no_host_lock() -> None:
    """Another process of the machine may take the name, for a LOCAL lock; who wants it again waits for that."""
    store = MemoryStore()
    async with connected_many(store, 2) as (one, two):
        await take(one, 2)
        hosts = two._parts.locks.context.hosts
        assert hosts.take_now("orders")
        with anyio.move_on_after(0.05) as waited:
            await take(one)
        assert waited.cancelled_caught
        hosts.give("orders")
        await take(one)


async def test_it_is_gone_when_the_coordinator_is_closed() -> None:
    """Nothing of it is left in etcd, although its time is not over."""
    store = MemoryStore()
    async with connected(store) as tide:
        await take(tide, 2)
        assert len(lock_keys(store)) == 1
        await tide._parts.locks.aclose("closing")
        assert lock_keys(store) == []


async def test_who_wants_no_handover_finds_nothing_warm() -> None:
    """Go fences by the revision: with `handover=False` each hold has one of its own, and leaves no key."""
    store = MemoryStore()
    async with connected(store) as tide:
        tokens = await take(tide, 3, handover=False)
        assert lock_keys(store) == []
        tokens += await take(tide, 3)
        tokens += await take(tide, 1, handover=False)
        assert len({revision_of(token) for token in (*tokens[:3], *tokens[-2:])}) == 5
        assert tokens == sorted(set(tokens))


async def test_a_key_that_is_lost_while_warm_is_not_taken() -> None:
    """Its session is revoked: the next hold has a key of another one."""
    store = MemoryStore()
    async with connected(store) as tide:
        tokens = await take(tide, 3)
        for lease in store.leases:
            store.revoke(lease)
        await settle(0.01)
        tokens += await take(tide, 1)
        assert revision_of(tokens[-1]) > revision_of(tokens[-2])


async def test_nothing_is_kept_of_a_name_whose_key_is_lost_while_warm() -> None:
    """When its time is over the cohort is laid to rest, as after any other hold."""
    store = MemoryStore()
    async with connected(store) as tide:
        for name in ("orders", "stock", "mail"):
            for _ in range(2):
                async with tide.lock(name):
                    pass
                await anyio.sleep(0.01)
        assert len(lock_keys(store)) == 3
        for lease in store.leases:
            store.revoke(lease)
        await settle(1)
        assert tide._parts.locks._cohorts == {}
        await take(tide, 2)
        await settle(1)
        assert tide._parts.locks._cohorts == {}


async def test_a_loop_without_an_await_lets_others_in() -> None:
    """Who takes the lock again and again, and does nothing else, starves neither the event loop nor a rival."""
    store = MemoryStore()
    async with connected_many(store, 2) as (one, two), anyio.create_task_group() as tasks:
        async with two.lock("opens the session"):
            pass
        await take(one, 2)
        got: list[str] = []

        async def rival() -> None:
            async with two.lock("orders"):
                got.append("the lock")

        tasks.start_soon(rival)
        for _ in range(1_000):
            async with one.lock("orders"):
                pass
            if got:
                break
        assert got


@pytest.mark.parametrize("all_mute", [False, True])
async def test_a_dead_watch_hides_a_rival_for_seconds_only(all_mute: bool) -> None:
    """The watch that looks out for rivals tells nothing any more: after 10 s at the latest, one is let in."""
    store = MemoryStore(members=3)
    async with connected_many(store, 2) as (one, two), anyio.create_task_group() as tasks:
        async with two.lock("opens the session"):
            pass

        async def work() -> None:
            while True:
                await take(one)

        tasks.start_soon(work)
        await anyio.sleep(0.5)
        state = one._parts.locks.context.client.state
        store.mute = set(store.members) if all_mute else {state.active}
        store.touch()
        with anyio.fail_after(10.5):
            async with two.lock("orders", timeout=30):
                pass
        store.mute = set()
        store.touch()
        tasks.cancel_scope.cancel()


async def test_looking_out_for_rivals_ends_no_warm_loop() -> None:
    """Nobody else wants the lock for a minute: it is looked again, but the key stays the same."""
    store = MemoryStore()
    async with connected(store) as tide:
        tokens = await take(tide, 3_000)
        assert len({revision_of(token) for token in tokens}) == 2
