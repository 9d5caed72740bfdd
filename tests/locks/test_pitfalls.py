"""The ways in which a lock could go wrong that are easily forgotten."""

from __future__ import annotations

from typing import Any

import anyio
import anyio.lowlevel
import pytest
import trio
from anyio.abc import TaskStatus

from tests.locks.support import LateStore, connected_many, lock_keys, settle, touches
from tests.support import connected
from tideover import Coordinator, LockLost, OutcomeUnknown
from tideover.fencing.token import revision_of
from tideover.options import Options
from tideover.store.leases import LeaseGrant
from tideover.store.operations import Delete, Op, Put, Range, Result
from tideover.store.transactions import Txn
from tideover.testing import FaultyStore, MemoryStore

pytestmark = pytest.mark.anyio


# Handing on inside the process ----------------------------------------------------------------------------------


async def test_coroutines_hand_the_lock_on_without_asking_etcd() -> None:
    """A hundred coroutines take turns on one key, in the order they came, with tokens that grow by one."""
    store = MemoryStore()
    order: list[int] = []
    tokens: list[int] = []
    async with connected(store) as tide:
        async with tide.lock("warm"):
            pass
        before = len([op for _, op in store.calls if op.writes])
        async with anyio.create_task_group() as tasks:

            async def work(number: int) -> None:
                async with tide.lock("orders") as held:
                    order.append(number)
                    tokens.append(held.token)
                    await anyio.lowlevel.checkpoint()

            for number in range(100):
                tasks.start_soon(work, number)
                await anyio.lowlevel.checkpoint()
        await settle()
        assert order == list(range(100))
        assert [token - tokens[0] for token in tokens] == list(range(100))
        writes = [op for _, op in store.calls if op.writes][before:]
        assert (
            len([op for op in writes if isinstance(op, Txn)]) == 3
        )  # the warm one's release, one claim, one release


async def test_a_waiter_elsewhere_is_not_kept_waiting() -> None:
    """While eight coroutines here take turns without end, somebody elsewhere gets the lock within 0.2 s."""
    store = MemoryStore()
    store.delay = 0.002
    async with connected_many(store, 2) as (one, two), anyio.create_task_group() as tasks:

        async def work() -> None:
            while True:
                async with one.lock("orders"):
                    await anyio.sleep(0.001)

        for _ in range(8):
            tasks.start_soon(work)
        await anyio.sleep(1)
        for _ in range(5):
            began = trio.current_time()
            async with two.lock("orders", timeout=10):
                assert trio.current_time() - began < 0.2
            await anyio.sleep(0.1)
        tasks.cancel_scope.cancel()
    assert lock_keys(store) == []


async def test_without_handover_each_holder_has_a_key_of_its_own() -> None:
    """With handover=False on either side the key is given back in between: revisions grow strictly."""
    store = MemoryStore()
    revisions: list[int] = []
    async with connected(store) as tide, anyio.create_task_group() as tasks:

        async def work(handover: bool) -> None:
            async with tide.lock("orders", handover=handover) as held:
                revisions.append(held.revision)
                await anyio.sleep(0.1)

        for handover in (True, False, True, False, False):
            tasks.start_soon(work, handover)
            await anyio.sleep(0.001)
    assert len(revisions) == len(set(revisions)) == 5
    assert revisions == sorted(revisions)


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
async def test_a_waiter_cancelled_in_the_tick_of_its_handover(anyio_backend: str) -> None:
    """The next one in line is cancelled in the tick in which it is given the lock: the one after it has it.

    In asyncio it never learns that it had the lock; in trio it enters the body, and leaves it at the first await.
    """
    store = MemoryStore()
    got: list[int] = []
    options = Options(endpoints=tuple(store.members), cache_dir=False)
    async with Coordinator(options, store=store) as tide, anyio.create_task_group() as tasks:
        scopes = [anyio.CancelScope() for _ in range(3)]

        async def want(number: int) -> None:
            with scopes[number]:
                async with tide.lock("orders"):
                    await anyio.lowlevel.checkpoint()
                    got.append(number)

        async with tide.lock("orders"):
            for number in range(3):
                tasks.start_soon(want, number)
                await anyio.sleep(0.01)
        scopes[0].cancel()  # its turn has come, and it has not run yet
        scopes[1].cancel()
        await anyio.sleep(0.05)
        assert got == [2]
        async with tide.lock("orders", timeout=1):
            pass
        await anyio.sleep(0.05)
        assert lock_keys(store) == []


async def test_no_handover_milliseconds_before_the_deadline() -> None:
    """With less than a renewal's interval left before the deadline nothing is handed on: the key is given back."""
    store = MemoryStore()
    async with connected(store) as tide, anyio.create_task_group() as tasks:
        entered: list[float] = []

        async def want() -> None:
            async with tide.lock("orders", timeout=60) as held:
                entered.append(held.revision)

        async with tide.lock("orders") as held:
            revision = held.revision
            store.stale = set(store.members)  # nothing can be proven, and nothing is declared
            await anyio.sleep_until(held.deadline - 0.05)
            tasks.start_soon(want)
            await anyio.sleep(0.01)
        await anyio.sleep(0.1)
        assert entered == []
        store.stale = set()
        store.touch()
        await anyio.sleep(10)
        assert len(entered) == 1
        assert entered[0] > revision


async def test_no_handover_while_a_guarded_write_is_unresolved() -> None:
    """A guarded write without a verdict keeps its key here: applied late, it strikes nobody's body."""
    late = LateStore(memory := MemoryStore())
    async with connected(late, follow=()) as tide, anyio.create_task_group() as tasks:
        seen: list[int] = []

        async def want() -> None:
            async with tide.lock("orders", timeout=60) as held:
                seen.append(held.revision)
                await late.arrive()
                assert b"/config/a" not in memory._newest
                await tide.config.put("a", 2, guard=held.guard())

        async with tide.lock("orders") as held:
            tasks.start_soon(want)
            await anyio.sleep(0.1)
            revision = held.revision
            late.delay = lambda op: (
                isinstance(op, Txn) and any(isinstance(s, Put) and s.key == b"/config/a" for s in op.then)
            )
            with pytest.raises(OutcomeUnknown):
                await tide.config.put("a", 1, guard=held.guard())
            late.delay = lambda op: False
        await settle(2)
        assert seen
        assert seen[0] > revision
        assert memory._newest[b"/config/a"].value == b"2"


async def test_a_guarded_write_fails_once_the_lock_is_somebody_elses() -> None:
    """A guard does not write when the key is gone, even before anybody here has noticed."""
    store = MemoryStore()
    async with connected(store) as tide:
        with pytest.raises(LockLost):
            async with tide.lock("orders") as held:
                guard = held.guard()
                await tide.config.put("a", 1, guard=guard)
                (key,) = lock_keys(store)
                with anyio.CancelScope(shield=True):
                    store._apply([Delete(key)], store.members[0])  # and no watch is told
                    with pytest.raises(LockLost, match="orders"):
                        await tide.config.put("a", 2, guard=guard)
                    with pytest.raises(LockLost):
                        await tide.config.delete("a", guard=guard)
                assert store._newest[b"/config/a"].value == b"1"


# Giving back ----------------------------------------------------------------------------------------------------


async def test_a_release_in_flight_then_the_lock_is_wanted_again() -> None:
    """A release that takes its time is waited for: the new holder's key is not the one that is being deleted."""
    store = FaultyStore(memory := MemoryStore())
    async with connected(store) as tide:
        async with tide.lock("orders") as held:
            first = held.revision
        memory.delay = 0.3
        async with tide.lock("orders", timeout=20) as held:
            assert held.revision > first
            await anyio.sleep(30)
            held.check()


@pytest.mark.parametrize("applied", [True, False])
async def test_a_release_whose_reply_is_lost_is_settled(applied: bool) -> None:
    """The reply to a release is lost, whether applied or not: the key goes, once, and the name is free."""
    store = FaultyStore(memory := MemoryStore())
    async with connected(store) as tide:
        async with tide.lock("orders") as held:
            first = held.revision
            store.inject(
                "UNAVAILABLE", "Stream removed (Socket closed)", when=touches("orders", Delete), applied=applied
            )
        async with tide.lock("orders", timeout=5) as held:
            assert held.revision > first
            await anyio.sleep(20)
            held.check()
        await settle()
        assert lock_keys(memory) == []


async def test_a_release_that_arrives_late_does_not_strike_the_next_holder() -> None:
    """A release thought lost arrives ten seconds later: the lock taken in between stays."""
    late = LateStore(memory := MemoryStore())
    async with connected(late) as tide:
        async with tide.lock("orders"):
            late.delay = lambda op: touches("orders", Delete)(op) and len(late.late) < 1
        async with tide.lock("orders", timeout=20) as held:
            await anyio.sleep(10)
            await late.arrive()
            await anyio.sleep(1)
            held.check()
            assert len(lock_keys(memory)) == 1


async def test_different_ttls_on_one_name_are_one_lock() -> None:
    """Coroutines of one process with different ttls, and so different sessions, still exclude one another."""
    store = MemoryStore()
    inside = most = 0
    tokens: list[int] = []
    async with connected(store) as tide, anyio.create_task_group() as tasks:

        async def work(ttl: int) -> None:
            nonlocal inside, most
            async with tide.lock("orders", ttl=ttl) as held:
                inside += 1
                most = max(most, inside)
                tokens.append(held.token)
                await anyio.sleep(0.05)
                inside -= 1

        for ttl in (15, 20, 15, 30, 20, 15):
            tasks.start_soon(work, ttl)
    assert most == 1
    assert sorted(tokens) == tokens
    assert lock_keys(store) == []


async def test_closing_the_coordinator_gives_everything_back() -> None:
    """Left right before the coordinator is closed, a lock's key is gone, and so is its lease."""
    store = MemoryStore()
    async with connected(store) as tide:
        async with tide.lock("orders"), tide.lock("other", ttl=20):
            pass
    assert lock_keys(store) == []
    assert not store.leases


# Waiting --------------------------------------------------------------------------------------------------------


async def test_a_waiter_whose_own_session_ends_takes_a_new_place() -> None:
    """The session of a waiter ends while it waits: it does not wait on for ever, and gets the lock in the end."""
    store = MemoryStore()
    async with connected_many(store, 2) as (one, two), anyio.create_task_group() as tasks:
        got: list[int] = []

        async def wait() -> None:
            async with two.lock("orders", timeout=100) as held:
                got.append(held.token)
                held.check()

        async with one.lock("orders") as held:
            tasks.start_soon(wait)
            await anyio.sleep(1)
            waiting = int(lock_keys(store)[1].rpartition(b"/")[2], 16)
            store.revoke(waiting)
            await anyio.sleep(2)
            assert len(lock_keys(store)) == 2
            assert not got
        await settle(1)
        assert got
        assert got[0] > held._grant.token


async def test_a_dead_holder_is_waited_out() -> None:
    """A holder that dies leaves its key to its lease: the waiter has the lock when etcd has ended that."""
    store = MemoryStore()
    async with connected(store) as tide:
        await store.call(LeaseGrant(10, 77), member=store.members[0], timeout=1)
        await store.call(Put(b"/locks/orders/4d", b"", 77), member=store.members[0], timeout=1)
        began = trio.current_time()
        async with tide.lock("orders", timeout=60):
            assert 9 < trio.current_time() - began < 14


@pytest.mark.parametrize("how", ["released", "closed", "expired"])
async def test_lock_delay_waits_only_for_those_that_vanished(how: str) -> None:
    """Who let go is not waited for; who vanished with its lease may not know yet, and is given `lock_delay`."""
    store = MemoryStore()
    async with connected(store) as two, anyio.create_task_group() as tasks:
        got: list[float] = []

        async def wait() -> None:
            async with two.lock("orders", timeout=100, lock_delay=7):
                got.append(trio.current_time())

        async with connected(store) as one:
            try:
                async with one.lock("orders"):
                    tasks.start_soon(wait)
                    await anyio.sleep(1)
                    if how == "expired":
                        store.revoke(int(lock_keys(store)[0].rpartition(b"/")[2], 16))
                        await anyio.sleep(1)
            except LockLost:
                assert how == "expired"
            gone = trio.current_time()
            if how != "closed":
                await anyio.sleep(20)
        await settle(20)
        assert got[0] - gone == pytest.approx(7 if how == "expired" else 0, abs=1.1)


async def test_lock_delay_is_kept_when_the_one_who_waits_it_gives_up() -> None:
    """Who comes next on the same place waits as well: the holder before may still not know."""
    store = MemoryStore()
    got: list[float] = []
    async with connected_many(store, 2) as (one, two), anyio.create_task_group() as tasks:

        async def want(patience: float) -> None:
            with anyio.move_on_after(patience):
                async with two.lock("orders", lock_delay=20):
                    got.append(trio.current_time())

        with pytest.raises(LockLost):
            async with one.lock("orders"):
                tasks.start_soon(want, 6)
                await anyio.sleep(0.1)
                tasks.start_soon(want, 100)
                await anyio.sleep(1)
                store.revoke(int(lock_keys(store)[0].rpartition(b"/")[2], 16))
                await anyio.sleep(1)
        gone = trio.current_time()
        await anyio.sleep(60)
        assert len(got) == 1
        assert got[0] - gone > 19


@pytest.mark.parametrize("host_is_free", [False, True])
@pytest.mark.parametrize("vanished", [False, True])
async def test_lock_delay_is_kept_by_who_takes_over_a_place_that_is_first(
    vanished: bool, host_is_free: bool
) -> None:
    """The one before it asked for no `lock_delay`, and gave up at the front: who vanished is given it still."""
    store = MemoryStore()
    got: list[float] = []
    async with connected_many(store, 2) as (tide, other):
        async with tide.lock("opens the session"):
            pass
        await store.call(LeaseGrant(60, 0x77), member=store.members[0], timeout=1)
        await store.call(Put(b"/locks/orders/77", b"", 0x77), member=store.members[0], timeout=1)
        hosts = other._parts.locks.context.hosts
        assert hosts.take_now("orders")
        async with anyio.create_task_group() as tasks:

            async def want(scope: anyio.CancelScope, lock_delay: float) -> None:
                with scope:
                    async with tide.lock("orders", lock_delay=lock_delay):
                        got.append(trio.current_time())

            first = anyio.CancelScope()
            tasks.start_soon(want, first, 0)
            await anyio.sleep(0.1)
            tasks.start_soon(want, anyio.CancelScope(), 5)
            await anyio.sleep(0.9)
            if vanished:
                store.revoke(0x77)
            else:
                await store.call(Delete(b"/locks/orders/77"), member=store.members[0], timeout=1)
            gone = trio.current_time()
            await anyio.sleep(0.9)  # the first one waits for the host lock now
            place = tide._parts.locks._cohorts["orders", 15].front.place
            assert place is not None
            assert place.first
            first.cancel()
            if not host_is_free:
                await anyio.sleep(0.2)
            hosts.give("orders")
    assert len(got) == 1
    assert (got[0] - gone >= 5) == vanished


async def test_a_watch_that_falls_silent_does_not_keep_a_waiter_for_ever() -> None:
    """The watch on the one before says nothing any more: the waiter looks for itself within seconds."""
    store = MemoryStore()
    async with connected_many(store, 2) as (one, two), anyio.create_task_group() as tasks:
        got: list[float] = []

        async def wait() -> None:
            async with two.lock("orders", timeout=100):
                got.append(trio.current_time())

        async with one.lock("orders"):
            tasks.start_soon(wait)
            await anyio.sleep(1)
            compact = store._history.clear
        await settle(0.0)
        gone = trio.current_time()
        compact()  # what the watch would tell is lost
        await settle(20)
        assert got
        assert got[0] - gone < 11


# Cancellation ---------------------------------------------------------------------------------------------------


async def _hold_for_a_second(tide: Coordinator, *, task_status: TaskStatus[None]) -> None:
    async with tide.lock("orders"):
        task_status.started()
        await anyio.sleep(1)


class Breakpoint(FaultyStore):
    """Counts what is awaited, and cancels a scope at one of them, before or after the store has done its part."""

    def __init__(self, memory: MemoryStore) -> None:
        super().__init__(memory)
        self.scope: anyio.CancelScope | None = None
        self.at = -1
        self.after = False
        self.count = 0

    async def call(self, op: Op[Any], *, member: str, timeout: float) -> Any:
        # Its own number: another call may begin before this one is answered.
        self.count += self.scope is not None and _is_of_lock(op)
        number = self.count if _is_of_lock(op) else 0
        await self._maybe(number, after=False)
        result = await super().call(op, member=member, timeout=timeout)
        await self._maybe(number, after=True)
        return result

    async def _maybe(self, number: int, *, after: bool) -> None:
        if self.scope is not None and number == self.at and after is self.after:
            self.scope.cancel()
            self.scope = None
            await anyio.lowlevel.checkpoint()


def _is_of_lock(op: Op[Result]) -> bool:
    return not (isinstance(op, Range) and op.key.startswith(b"/config"))


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("contended", [False, True], ids=["free", "contended"])
async def test_cancelled_at_any_call_it_leaves_no_key(after: bool, contended: bool) -> None:
    """Cancelled at each call, before or after etcd has done its part, a waiter leaves neither key nor turn."""
    struck = 0
    for at in range(1, 12):
        store = Breakpoint(memory := MemoryStore())
        async with connected(memory) as other, connected(store) as tide:
            async with anyio.create_task_group() as tasks:
                if contended:
                    await tasks.start(_hold_for_a_second, other)
                with anyio.CancelScope() as scope:
                    store.scope, store.at, store.after = scope, at, after
                    async with tide.lock("orders"):
                        store.scope = None
                struck += scope.cancelled_caught
                store.scope = None
            await settle(8)
            assert lock_keys(memory) == []
            async with tide.lock("orders", timeout=1) as held:
                held.check()
            assert repr(tide._parts.locks) == "<Locks 0 held, 0 waited for>"
    assert struck >= 3


async def test_cancelled_at_any_moment_of_waiting_it_leaves_no_key() -> None:
    """Cancelled at whatever moment, waiters leave no key, and those who stay get the lock."""
    got: list[int] = []

    async def want(tide: Coordinator, number: int, patience: float) -> None:
        with anyio.move_on_after(patience):
            async with tide.lock("orders"):
                got.append(number)
                await anyio.sleep(0.3)

    for tenths in range(0, 30, 3):
        store = MemoryStore()
        store.delay = 0.05
        got.clear()
        async with connected_many(store, 2) as (one, two):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(want, one, 0, 60)
                for number in range(1, 4):
                    tasks.start_soon(want, two, number, tenths / 10 + number / 100)
                tasks.start_soon(want, two, 9, 60)
            assert {0, 9} <= set(got)
            await settle(2)
            assert lock_keys(store) == []


# Many -----------------------------------------------------------------------------------------------------------


async def test_a_thousand_waiters_in_one_process() -> None:
    """A thousand coroutines want one lock for a moment: each has it once, in order; one key, not a thousand."""
    store = MemoryStore()
    came: list[int] = []
    order: list[int] = []
    async with connected(store) as tide:
        async with anyio.create_task_group() as tasks:

            async def work(number: int) -> None:
                came.append(number)
                async with tide.lock("orders"):
                    order.append(number)

            async with tide.lock("orders"):
                for number in range(1000):
                    tasks.start_soon(work, number)
                await anyio.sleep(1)
                assert tide.status().locks[0].waiting == 1000
                assert len(lock_keys(store)) == 1
        assert len(order) == 1000
        assert order == came


async def test_after_65535_handovers_the_key_is_taken_anew() -> None:
    """The handovers fit 16 bits: after so many the key is given back, and tokens still grow."""
    store = MemoryStore()
    tokens: list[int] = []
    async with connected(store) as tide, anyio.create_task_group() as tasks:

        async def want() -> None:
            async with tide.lock("orders", timeout=5) as held:
                tokens.append(held.token)

        async with tide.lock("orders") as held:
            tokens.append(held.token)
            place = held._grant.place
            assert place is not None
            place.handovers = 65_534
            tasks.start_soon(want)
            tasks.start_soon(want)
            await anyio.sleep(0.1)
    assert tokens == sorted(set(tokens))
    assert [revision_of(token) - revision_of(tokens[0]) for token in tokens] == [0, 0, 2]
    assert tokens[1] & 0xFFFF == 65_535
