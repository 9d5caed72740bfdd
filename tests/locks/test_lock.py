"""Locks while etcd is there: holding means holding, in order, and nothing is left behind."""

from __future__ import annotations

import anyio
import anyio.lowlevel
import pytest
import trio

from tests.locks.support import connected_many, lock_keys, settle, touches
from tests.support import connected
from tideover import Closed, Coordinator, LockLost, LockMode, LockTimeout
from tideover.options import Options
from tideover.store.operations import Delete, Put, Range
from tideover.store.transactions import Txn
from tideover.testing import FaultyStore, MemoryStore

pytestmark = pytest.mark.anyio


async def test_entering_means_holding() -> None:
    """Within the body there is a key under a lease; after it there is none, and with the coordinator no lease."""
    store = MemoryStore()
    async with connected(store) as tide:
        async with tide.lock("orders/42") as held:
            (key,) = lock_keys(store)
            assert key.startswith(b"/locks/orders/42/")
            assert held.mode is LockMode.DISTRIBUTED
            assert held.revision == store._newest[key].create_revision
            assert held.token == held.revision << 16
            held.check()
        await settle()
        assert lock_keys(store) == []
    assert not store.leases


async def test_the_layout_is_that_of_gos_concurrency() -> None:
    """The key is the name, a slash, and the lease in hexadecimal without leading zeros."""
    store = MemoryStore()
    async with connected(store, namespace="shop") as tide, tide.lock("a/b"):
        (lease,) = (session.lease_id for session in tide.status().sessions)
        assert f"shop/locks/a/b/{lease}".encode() in store._newest


async def test_an_uncontended_lock_is_one_transaction() -> None:
    """Once its session is open, taking a free lock is a single call to etcd, and so is giving it back."""
    store = MemoryStore()
    async with connected(store) as tide:
        async with tide.lock("warm"):
            pass
        await settle()
        before = len(store.calls)
        async with tide.lock("orders"):
            calls = [op for _, op in store.calls[before:] if not isinstance(op, Range)]
            assert len(store.calls[before:]) == 1
            assert isinstance(calls[0], Txn)
        await settle(0.1)
        writes = [op for _, op in store.calls[before:] if op.writes]
        assert len(writes) == 2


async def test_one_at_a_time_across_processes() -> None:
    """Of four processes with three coroutines each one at a time is in the body, and tokens grow strictly."""
    store = MemoryStore()
    inside = 0
    tokens: list[int] = []
    async with connected_many(store, 4) as tides, anyio.create_task_group() as tasks:

        async def work(number: int) -> None:
            nonlocal inside
            for _ in range(5):
                async with tides[number].lock("orders") as held:
                    assert inside == 0
                    inside += 1
                    tokens.append(held.token)
                    await anyio.sleep(0.01)
                    held.check()
                    inside -= 1

        for number in range(4):
            for _ in range(3):
                tasks.start_soon(work, number)
    assert len(tokens) == 60
    assert tokens == sorted(set(tokens))
    assert lock_keys(store) == []


async def test_waiters_elsewhere_come_in_the_order_of_their_keys() -> None:
    """Processes get the lock in the order in which they came, oldest key first."""
    store = MemoryStore()
    order: list[int] = []
    async with connected_many(store, 4) as tides, anyio.create_task_group() as tasks:

        async def work(number: int) -> None:
            async with tides[number].lock("orders"):
                order.append(number)
                await anyio.sleep(1)

        for number in (2, 0, 3, 1):
            tasks.start_soon(work, number)
            await anyio.sleep(0.1)
    assert order == [2, 0, 3, 1]


async def test_names_that_begin_alike_are_different_locks() -> None:
    """Holding "orders/42" and "orders/4" does not keep anybody from "orders"."""
    store = MemoryStore()
    async with connected_many(store, 2) as (one, two), one.lock("orders/42"), one.lock("orders/4"):
        async with two.lock("orders", timeout=1), two.lock("order", timeout=1):
            assert len(lock_keys(store)) == 4
        async with anyio.create_task_group() as tasks:

            async def wait() -> None:
                async with two.lock("orders", timeout=5):
                    assert trio.current_time() == pytest.approx(until, abs=0.1)

            async with one.lock("orders"):
                # Between the two, in the order of creation, stands a key of another line.
                async with one.lock("orders/43"):
                    until = trio.current_time() + 2
                    tasks.start_soon(wait)
                    await anyio.sleep(2)


async def test_no_body_without_the_lock() -> None:
    """When the timeout is over LockTimeout, a TimeoutError, is raised; no body was entered, and no key is left."""
    store = MemoryStore()
    async with connected_many(store, 2) as (one, two), one.lock("orders"):
        began = trio.current_time()
        with pytest.raises(LockTimeout, match="orders") as caught:
            async with two.lock("orders", timeout=40):
                raise AssertionError
        assert isinstance(caught.value, TimeoutError)
        assert trio.current_time() - began == pytest.approx(40, abs=0.1)
        await settle()
        assert len(lock_keys(store)) == 1


async def test_a_timeout_of_zero_does_not_wait() -> None:
    """With timeout=0 a free lock is taken, and one that is held, here or elsewhere, is refused at once."""
    store = MemoryStore()
    async with connected_many(store, 2) as (one, two):
        async with one.lock("orders", timeout=0):
            for tide in (one, two):
                began = trio.current_time()
                with pytest.raises(LockTimeout):
                    async with tide.lock("orders", timeout=0):
                        raise AssertionError
                assert trio.current_time() - began < 0.5
        await settle()
        async with two.lock("orders", timeout=0):
            pass


async def test_a_lock_is_for_one_use() -> None:
    """Entering a lock again is refused."""
    async with connected(MemoryStore()) as tide:
        lock = tide.lock("orders")
        async with lock:
            pass
        with pytest.raises(Closed, match="only once"):
            async with lock:
                raise AssertionError


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_who_would_wait_for_itself_is_told(anyio_backend: str) -> None:
    """A lock is not reentrant: within its body, whatever the ttl, it is refused, or with a timeout times out."""
    options = Options(endpoints=tuple((store := MemoryStore()).members), cache_dir=False)
    async with Coordinator(options, store=store) as tide, tide.lock("orders"), tide.lock("other"):
        for ttl in (15, 20):
            with pytest.raises(RuntimeError, match=r"'orders' is held by the very body.*not reentrant"):
                async with tide.lock("orders", ttl=ttl):
                    raise AssertionError
            with pytest.raises(LockTimeout, match="not reentrant"):
                async with tide.lock("orders", timeout=0.1, ttl=ttl):
                    raise AssertionError
        with pytest.raises(ExceptionGroup) as caught:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(tide.lock("orders").__aenter__)
        assert caught.group_contains(RuntimeError, match="not reentrant")
        async with tide.lock("third"):
            pass


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_who_waits_for_its_starter_waits(anyio_backend: str) -> None:
    """A task that was started in a body, and outlives it, waits for the lock like anybody else."""
    options = Options(endpoints=tuple((store := MemoryStore()).members), cache_dir=False)
    got: list[str] = []
    async with Coordinator(options, store=store) as tide, anyio.create_task_group() as tasks:

        async def want(name: str) -> None:
            async with tide.lock(name):
                got.append(name)

        one, other = tide.lock("one"), tide.lock("other")
        await one.__aenter__()
        await other.__aenter__()
        tasks.start_soon(want, "one")
        tasks.start_soon(want, "other")
        await anyio.sleep(0.05)
        assert got == []
        await other.__aexit__(None, None, None)
        async with tide.lock("third"):
            pass
        await one.__aexit__(None, None, None)
        await anyio.sleep(0.05)
        async with tide.lock("one", timeout=5), tide.lock("other", timeout=5):
            assert sorted(got) == ["one", "other"]


async def test_what_was_held_is_not_held_after_the_body() -> None:
    """After the body `check` raises, and so does everything that a guard would fence."""
    async with connected(MemoryStore()) as tide:
        async with tide.lock("orders") as held:
            guard = held.guard()
        with pytest.raises(LockLost, match="left"):
            held.check()
        with pytest.raises(LockLost):
            await tide.config.put("a", 1, guard=guard)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"ttl": 2}, ValueError, "ttl must be more than"),
        ({"ttl": 15.0}, TypeError, "15.0"),
        ({"timeout": -1}, ValueError, "-1"),
        ({"timeout": "1"}, TypeError, "'1'"),
        ({"on_outage": "ignore"}, ValueError, "'ignore'"),
        ({"lock_delay": float("inf")}, ValueError, "inf"),
        ({"handover": 1}, TypeError, "handover"),
    ],
)
async def test_options_that_cannot_work_are_refused(
    options: dict[str, object], error: type[Exception], words: str
) -> None:
    """An option out of range, or of the wrong type, is refused before anything is sent, with its value."""
    async with connected(MemoryStore()) as tide:
        with pytest.raises(error, match=words):
            tide.lock("orders", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["", "/a", "a/", "a\0b", "\ud800"])
async def test_names_that_cannot_work_are_refused(name: str) -> None:
    """A name that is empty, begins or ends with a slash, or is no text is refused."""
    async with connected(MemoryStore()) as tide:
        with pytest.raises(ValueError, match="name"):
            tide.lock(name)


# Loss -----------------------------------------------------------------------------------------------------------


async def test_a_key_that_is_taken_away_ends_the_body() -> None:
    """Somebody deletes the key: the body is cancelled at once, and leaving it raises LockLost."""
    store = MemoryStore()
    async with connected(store) as tide:
        with pytest.raises(LockLost, match="deleted"):
            async with tide.lock("orders"):
                (key,) = lock_keys(store)
                began = trio.current_time()
                await store.call(Delete(key), member=store.members[0], timeout=1)
                await anyio.sleep(60)
        assert trio.current_time() - began < 1


async def test_a_revoked_lease_ends_the_body() -> None:
    """etcd takes a living lease away early: the body ends with LockLost, and the next lock has a new session."""
    store = MemoryStore()
    async with connected(store) as tide:
        with pytest.raises(LockLost):
            async with tide.lock("orders") as held:
                first = held.token
                store.revoke(next(iter(store.leases)))
                await anyio.sleep(60)
        async with tide.lock("orders", timeout=5) as held:
            assert held.token > first


async def test_a_body_that_ends_by_itself_after_the_loss_is_told() -> None:
    """Leaving the body after the loss raises LockLost even though the body has no await left."""
    store = MemoryStore()
    async with connected(store) as tide:
        with pytest.raises(LockLost):
            async with tide.lock("orders") as held:
                store.revoke(next(iter(store.leases)))
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(1)
                with pytest.raises(LockLost):
                    held.check()


async def test_an_exception_of_the_body_is_kept() -> None:
    """The body's own exception comes out, and the loss is a note on it."""
    store = MemoryStore()
    async with connected(store) as tide:
        with pytest.raises(KeyError) as caught:
            async with tide.lock("orders"):
                store.revoke(next(iter(store.leases)))
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(1)
                raise KeyError("mine")
        assert any("lost" in note for note in caught.value.__notes__)


async def test_own_key_that_is_found_is_written_anew_before_it_counts() -> None:
    """The reply to the making of the key is lost: it is found, written again, and the lock is held."""
    store = FaultyStore(memory := MemoryStore())
    async with connected(store) as tide:
        async with tide.lock("warm"):
            pass
        store.inject("UNAVAILABLE", "Stream removed (Socket closed)", when=touches("orders", Put), applied=True)
        async with tide.lock("orders", timeout=5) as held:
            (key,) = lock_keys(memory, "orders")
            entry = memory._newest[key]
            assert entry.create_revision == held.revision < entry.mod_revision
            await anyio.sleep(60)
            held.check()
    assert lock_keys(memory) == []
