"""Keys under a session: lost replies, late writes, debris, cancellation."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import anyio
import anyio.lowlevel
import pytest
import trio

from tests.support import connected
from tideover import CircuitOpen, Coordinator, HealthState, KeyTaken, OutcomeUnknown, SessionLost, SessionState
from tideover.sessions.session import Session
from tideover.store.faults import StoreFault, classify
from tideover.store.leases import LeaseGrant, LeaseRevoke, LeaseTimeToLive
from tideover.store.operations import Delete, Op, Put, Range, Result
from tideover.store.transactions import Txn
from tideover.testing import FaultyStore, MemoryStore

R = TypeVar("R", bound=Result)

pytestmark = pytest.mark.anyio


def at(store: MemoryStore, key: str) -> bytes | None:
    """Return the value of a key in etcd."""
    entry = store._newest.get(f"/{key}".encode())
    return None if entry is None else entry.value


def puts(key: str) -> Callable[[Op[Result]], bool]:
    """Return whether an operation is a transaction that puts a key."""
    full = f"/{key}".encode()
    return lambda op: isinstance(op, Txn) and any(isinstance(s, Put) and s.key == full for s in op.then)


def deletes(op: Op[Result]) -> bool:
    """Return whether an operation is a transaction that deletes."""
    return isinstance(op, Txn) and any(isinstance(step, Delete) for step in op.then)


def lose_all(store: MemoryStore) -> None:
    """Let every member refuse connections."""
    store.down = set(store.members)
    store.touch()


def heal(store: MemoryStore) -> None:
    """Let every member be well."""
    store.down = set()
    store.touch()


class LateStore(FaultyStore):
    """A store in which chosen writes fail now and are applied later: when `arrive` is called."""

    def __init__(self, memory: MemoryStore) -> None:
        super().__init__(memory)
        self.memory = memory
        self.late: list[Op[Any]] = []
        self.delay: Callable[[Op[Any]], bool] = lambda op: False

    async def call(self, op: Op[R], *, member: str, timeout: float) -> R:
        if self.delay(op):
            self.late.append(op)
            await anyio.lowlevel.checkpoint()
            raise StoreFault(classify("UNAVAILABLE", "etcdserver: request timed out"))
        return await super().call(op, member=member, timeout=timeout)

    async def arrive(self) -> None:
        """Apply what is late."""
        for op in self.late:
            await self.memory.call(op, member=self.memory.members[0], timeout=1)
        self.late.clear()


# Writing --------------------------------------------------------------------------------------------------------


async def test_put_makes_a_key_only_if_it_is_free() -> None:
    """A key of somebody else is refused; one of our own is written again, with the same create revision."""
    store = MemoryStore()
    await store.call(Put(b"/theirs", b"1"), member=store.members[0], timeout=1)
    async with connected(store) as tide, tide.session(ttl=15) as session:
        with pytest.raises(KeyTaken) as caught:
            await session.put("theirs", "2")
        assert caught.value.key == "theirs"
        key = await session.put("ours", "1")
        assert key.create_revision == key.mod_revision == store.revision
        again = await session.put("ours", "2")
        assert again is key
        assert again.mod_revision > again.create_revision
        assert at(store, "ours") == b"2"
        assert at(store, "theirs") == b"1"
        assert await session.delete("ours")
        assert at(store, "ours") is None
        assert await session.delete("ours")
        assert key.gone.reason == "its owner gave it back"


async def test_a_claim_reads_in_the_same_transaction() -> None:
    """`claim` hands back what it was asked to read, as of the revision of its own write."""
    store = MemoryStore()
    await store.call(Put(b"/q/1", b"1"), member=store.members[0], timeout=1)
    async with connected(store) as tide, tide.session(ttl=15) as session:
        own = await session.claim("q/2", reads=[Range(b"/q/", b"/q0")])
        assert list(own.reads[0].entries) == [b"/q/1", b"/q/2"]
        assert own.reads[0].header.revision == own.create_revision


@pytest.mark.parametrize("bad", ["", "a\0b"])
async def test_a_key_without_a_name_is_refused(bad: str) -> None:
    """An empty key, or one with NUL, is refused with its value in the message."""
    async with connected(MemoryStore()) as tide, tide.session(ttl=15) as session:
        with pytest.raises(ValueError, match="not empty"):
            await session.put(bad)


@pytest.mark.parametrize("applied", [True, False])
@pytest.mark.parametrize("rewriting", [True, False])
async def test_a_lost_reply_to_put_is_settled(applied: bool, rewriting: bool) -> None:
    """The reply to a put is lost: whether it was applied or not, the key is there once, is ours, and stays."""
    store = FaultyStore(memory := MemoryStore())
    async with connected(store) as tide, tide.session(ttl=15) as session:
        if rewriting:
            await session.put("a", "0")
        store.inject("UNAVAILABLE", "Stream removed (Socket closed)", when=puts("a"), applied=applied)
        key = await session.put("a", "1")
        entry = memory._newest[b"/a"]
        assert (entry.create_revision, entry.mod_revision) == (key.create_revision, key.mod_revision)
        assert entry.value == b"1"
        await anyio.sleep(60)
        assert not key.gone
        assert session.state is SessionState.ALIVE


@pytest.mark.parametrize("applied", [True, False])
async def test_a_lost_reply_to_the_grant_is_settled(applied: bool) -> None:
    """The reply to the grant, or to the making of the session's own key, is lost: one lease all the same."""
    for strikes in (LeaseGrant, Txn):
        store = FaultyStore(memory := MemoryStore())
        async with connected(store) as tide:
            store.inject("UNAVAILABLE", "Stream removed (Socket closed)", op=strikes, applied=applied)
            async with tide.session(ttl=15) as session:
                assert memory.leases == {session.lease_id}
                await anyio.sleep(30)
                assert session.state is SessionState.ALIVE
        assert not memory.leases


async def test_a_put_given_up_leaves_nothing() -> None:
    """A put without a verdict raises OutcomeUnknown; applied after all, the key goes with the next renewal."""
    store = FaultyStore(memory := MemoryStore())
    async with connected(store) as tide, tide.session(ttl=15) as session:
        store.inject("UNAVAILABLE", "etcdserver: request timed out", when=puts("a"), applied=True, times=1)
        store.inject("UNAVAILABLE", "etcdserver: request timed out", when=puts("a"), times=1000)
        with pytest.raises(OutcomeUnknown):
            await session.put("a", "1")
        store._injections.clear()
        await anyio.sleep(6)
        assert at(memory, "a") is None
        assert session.state is SessionState.ALIVE
        assert tide.status().sessions[0].debris == 0


async def test_a_put_that_arrives_late_is_refused() -> None:
    """Writes of a put that was given up arrive ten seconds later: none makes the key under the living lease."""
    store = LateStore(memory := MemoryStore())
    async with connected(store) as tide, tide.session(ttl=15) as session:
        store.delay = puts("a")
        with pytest.raises(OutcomeUnknown):
            await session.put("a", "1")
        assert len(store.late) > 1
        store.delay = lambda op: False
        await anyio.sleep(10)
        await store.arrive()
        assert at(memory, "a") is None
        key = await session.put("a", "2")
        await anyio.sleep(60)
        assert not key.gone
        assert session.state is SessionState.ALIVE


async def test_a_delete_that_arrives_late_strikes_no_later_key() -> None:
    """A delete that arrives after the name was used again leaves the new key alone."""
    store = LateStore(memory := MemoryStore())
    async with connected(store) as tide, tide.session(ttl=15) as session:
        await session.put("a", "1")
        store.delay = lambda op: deletes(op) and not store.late
        assert await session.delete("a")
        key = await session.put("a", "2")
        await store.arrive()
        await anyio.sleep(10)
        assert at(memory, "a") == b"2"
        assert not key.gone


async def test_a_refused_put_costs_nothing() -> None:
    """In a declared outage a put is refused without a packet, and nothing is to be cleared away for it."""
    store = MemoryStore()
    async with connected(store) as tide, tide.session(ttl=60) as session:
        lose_all(store)
        await tide.health.wait_for(HealthState.UNAVAILABLE)
        began = trio.current_time()
        with pytest.raises(CircuitOpen):
            await session.put("a")
        assert trio.current_time() == began
        assert tide.status().sessions[0].debris == 0
        with pytest.raises(CircuitOpen):
            async with tide.session(ttl=15):
                pass


# Debris ---------------------------------------------------------------------------------------------------------


async def test_what_is_given_back_in_an_outage_goes_before_recovery_counts() -> None:
    """A key given back while etcd is away is deleted before the session is ALIVE again; then the name is free."""
    store = MemoryStore()
    async with connected(store) as tide, tide.session(ttl=60) as session:
        await session.put("a")
        kept = await session.put("b")
        lose_all(store)
        assert not await session.delete("a")
        await anyio.sleep(10)
        assert at(store, "a") is not None
        assert tide.status().sessions[0].debris == 1
        heal(store)
        with anyio.fail_after(5):
            while session.state is not SessionState.ALIVE:
                await anyio.sleep(0.001)
        assert at(store, "a") is None
        assert session.keys == (kept,)
        await tide.health.wait_for(HealthState.AVAILABLE, timeout=5)
        again = await session.put("a", "2")
        await anyio.sleep(20)
        assert not again.gone


async def test_much_debris_is_no_reason_to_lose_the_session() -> None:
    """A thousand keys given back in one outage, at 20 ms an answer, are gone 2 s after the lease can be proven."""
    store = MemoryStore()
    async with connected(store) as tide, tide.session(ttl=15, on_outage="wait") as session:
        async with anyio.create_task_group() as tasks:
            for number in range(1000):
                tasks.start_soon(session.put, f"k{number}")
        lose_all(store)
        async with anyio.create_task_group() as tasks:
            for number in range(1000):
                tasks.start_soon(session.delete, f"k{number}")
        assert tide.status().sessions[0].debris == 1000
        store.delay = 0.02
        heal(store)
        with anyio.fail_after(4):
            while session.state is not SessionState.ALIVE:
                await anyio.sleep(0.01)
        assert tide.status().sessions[0].debris == 0


async def test_a_name_is_not_used_again_before_it_is_clear() -> None:
    """Used again right after the outage, a name is first cleared: the new key has a new create revision."""
    store = FaultyStore(memory := MemoryStore())
    async with connected(store) as tide, tide.session(ttl=60) as session:
        old = await session.put("a", "1")
        store.inject("UNAVAILABLE", "etcdserver: request timed out", when=deletes, times=10_000)
        assert not await session.delete("a")
        store._injections.clear()
        new = await session.put("a", "2")
        assert new.create_revision > old.create_revision
        assert at(memory, "a") == b"2"


async def test_what_cannot_be_cleared_away_costs_the_lease() -> None:
    """If debris cannot be deleted for a whole TTL, the lease is given up, and etcd ends it with its keys."""
    store = FaultyStore(memory := MemoryStore())
    async with connected(store) as tide:
        session = await tide._parts.sessions.open(6)
        await session.put("a")
        await anyio.sleep(1)
        store.inject("PERMISSION_DENIED", "etcdserver: permission denied", when=deletes, times=10_000)
        given_up_at = trio.current_time()
        assert not await session.delete("a")
        why = await session.lost
        assert "could not be deleted" in why
        assert 6 <= trio.current_time() - given_up_at < 8
        await tide._parts.sessions.close(session)
        await anyio.sleep(10)
        assert at(memory, "a") is None


class SlowReads(FaultyStore):
    """A store in which the reply to a put comes late, and the first question whose a key is goes out late."""

    def __init__(self, memory: MemoryStore, key: str) -> None:
        super().__init__(memory)
        self.key, self.late = f"/{key}".encode(), True
        self.replies = 0
        self.reads = anyio.Event()
        self.go_on = anyio.Event()

    async def call(self, op: Op[R], *, member: str, timeout: float) -> R:
        guards = op.compares if isinstance(op, Txn) else ()
        if self.late and any(each.key == self.key and each.lease is not None for each in guards):
            self.late = False
            self.reads.set()
            await self.go_on.wait()
        found = await super().call(op, member=member, timeout=timeout)
        steps = op.then if isinstance(op, Txn) else ()
        if not self.replies and any(isinstance(step, Put) and step.key == self.key for step in steps):
            self.replies += 1
            await anyio.sleep(0.5)
        return found


async def test_debris_cleared_away_twice_at_once_strikes_no_later_key() -> None:
    """A sweep is overtaken by who needs the name: what it reads afterwards is the new key, and that stays."""
    store = SlowReads(memory := MemoryStore(), "a")
    async with connected(store) as tide, tide.session(ttl=15) as session:
        with anyio.move_on_after(0.1):
            await session.put("a", "1")
        await store.reads.wait()
        assert at(memory, "a") == b"1"
        key = await session.put("a", "2")
        store.go_on.set()
        await anyio.sleep(10)
        assert at(memory, "a") == b"2"
        assert not key.gone
        assert tide.status().sessions[0].debris == 0


async def test_a_key_made_behind_the_fence_is_no_debris() -> None:
    """Two tasks put a key, one is cancelled; the put of the other, refused by the fence and tried again, stays."""
    store = SlowReads(memory := MemoryStore(), "a")
    store.replies = 1
    async with connected(store) as tide, tide.session(ttl=15) as session, anyio.create_task_group() as tasks:
        store.inject("UNAVAILABLE", "etcdserver: request timed out", when=puts("a"), times=1000)

        async def cancelled() -> None:
            with anyio.move_on_after(0.05):
                await session.put("a", "1")

        async def allow() -> None:
            await store.reads.wait()
            store._injections.clear()

        tasks.start_soon(cancelled)
        tasks.start_soon(allow)
        key = await session.put("a", "2")
        store.go_on.set()
        await anyio.sleep(10)
        assert at(memory, "a") == b"2"
        assert not key.gone


# Cancellation ---------------------------------------------------------------------------------------------------


class CancelAt(trio.abc.Instrument):
    """Cancels a scope after so many steps of this task."""

    def __init__(self, place: int, scope: anyio.CancelScope) -> None:
        self.place = place
        self.steps = 0
        self._scope = scope
        self._task = trio.lowlevel.current_task()

    def after_task_step(self, task: trio.lowlevel.Task) -> None:
        if task is self._task:
            self.steps += 1
            if self.steps == self.place:
                self._scope.cancel()


async def cancelled_at_every_await(
    run: Callable[[], Awaitable[object]], after: Callable[[int], Awaitable[None]]
) -> int:
    """Cancel an operation at its first await, its second, and so on until it ends by itself; count them."""
    for place in range(1, 200):
        with anyio.CancelScope() as scope:
            instrument = CancelAt(place, scope)
            trio.lowlevel.add_instrument(instrument)
            try:
                await run()
            finally:
                trio.lowlevel.remove_instrument(instrument)
        await after(place)
        if instrument.steps < place:
            return place
    raise AssertionError("it never ended by itself")


async def test_put_cancelled_at_every_await_leaves_nothing() -> None:
    """Wherever a put is cancelled, the key is gone a moment later, the session is ALIVE, and the name is free."""
    memory = MemoryStore()
    memory.delay = 0.001
    async with connected(memory) as tide, tide.session(ttl=15) as session:

        async def after(place: int) -> None:
            held = any(own.key == "a" for own in session.keys)
            await anyio.sleep(1)
            assert (at(memory, "a") is not None) == held, place
            assert session.state is SessionState.ALIVE
            await session.delete("a")
            assert at(memory, "a") is None

        assert await cancelled_at_every_await(lambda: session.put("a"), after) > 2


async def test_delete_cancelled_at_every_await_is_done_all_the_same() -> None:
    """Wherever a delete is cancelled, the key is gone a moment later."""
    memory = MemoryStore()
    memory.delay = 0.001
    async with connected(memory) as tide, tide.session(ttl=15) as session:
        await session.put("a")

        async def after(place: int) -> None:
            await anyio.sleep(1)
            assert at(memory, "a") is None, place
            await session.put("a")

        assert await cancelled_at_every_await(lambda: session.delete("a"), after) > 1


async def test_opening_cancelled_at_every_await_leaves_no_lease() -> None:
    """Wherever opening, the body or closing is cancelled, no lease stays."""
    memory = MemoryStore()
    memory.delay = 0.001
    async with connected(memory) as tide:

        async def run() -> None:
            async with tide.session(ttl=15) as session:
                await session.put("a")

        async def after(place: int) -> None:
            await anyio.sleep(1)
            assert not memory.leases, place
            assert tide.status().sessions == ()

        assert await cancelled_at_every_await(run, after) > 8


# The pool -------------------------------------------------------------------------------------------------------


async def test_locks_share_one_session_per_ttl() -> None:
    """Asked for at the same time by many, one session is opened per TTL; after a loss, another one."""
    store = MemoryStore()
    async with connected(store) as tide:
        found: list[Session] = []

        async def ask(ttl: int) -> None:
            found.append(await tide._parts.sessions.shared(ttl))

        async with anyio.create_task_group() as tasks:
            for ttl in (15, 15, 6, 15, 6):
                tasks.start_soon(ask, ttl)
        assert len(set(found)) == 2
        assert len(store.leases) == 2
        first = await tide._parts.sessions.shared(15)
        store.revoke(first.lease_id)
        await first.lost
        second = await tide._parts.sessions.shared(15)
        assert second is not first
        assert second.state is SessionState.ALIVE
        await anyio.sleep(1)
        assert len(store.leases) == 2
    assert not store.leases


async def test_a_reset_ends_all() -> None:
    """What is told of a reset ends all sessions for good."""
    async with connected(MemoryStore()) as tide:
        session = await tide._parts.sessions.open(15)
        tide._parts.sessions.reset("the cluster was restored", 1)
        assert await session.lost == "the cluster was restored"


async def test_a_task_that_fails_is_started_again(caplog: pytest.LogCaptureFixture) -> None:
    """An unexpected error in a session's task is logged, and the lease is renewed again in time."""
    store = MemoryStore()
    async with connected(store) as tide:
        session = await tide._parts.sessions.open(15)
        key = await session.put("a")
        genuine, failures = session._direct.store.keep_alive, iter([True, True])

        def broken(*, member: str) -> Any:
            if next(failures, False):
                raise ZeroDivisionError("a bug")
            return genuine(member=member)

        session._direct.store.keep_alive = broken  # type: ignore[method-assign]
        store.down = {session._tenure.member}
        store.touch()
        await anyio.sleep(60)
        assert "a bug" in caplog.text
        assert tide.status().restarts == 2
        assert session.state is SessionState.ALIVE
        assert not key.gone
        store.revoke(session.lease_id)
        await anyio.sleep(0.1)
        with pytest.raises(SessionLost):
            session.check()


async def test_a_session_is_entered_once() -> None:
    """A block is single-use, and outside a coordinator's block there are no sessions."""
    async with connected(MemoryStore()) as tide:
        block = tide.session(ttl=15)
        async with block:
            pass
        with pytest.raises(RuntimeError, match="only once"):
            await block.__aenter__()
    with pytest.raises(RuntimeError, match="closed"):
        async with tide.session(ttl=15):
            pass


async def entered(tide: Coordinator) -> Session:
    """Open a session as a lock would."""
    return await tide._parts.sessions.shared(15)


async def test_a_refused_session_key_leaves_no_lease() -> None:
    """If the session's own key may not be written, opening raises, and the lease is taken back."""
    store = FaultyStore(memory := MemoryStore())
    async with connected(store) as tide:
        store.inject("PERMISSION_DENIED", "etcdserver: permission denied", op=Txn)
        with pytest.raises(Exception, match="permission denied"):
            await entered(tide)
        await anyio.sleep(1)
        assert not memory.leases
        assert LeaseRevoke in {type(op) for _, op in memory.calls}
        assert LeaseTimeToLive not in {type(op) for _, op in memory.calls}


async def test_thousands_of_keys_leave_time_for_renewals() -> None:
    """However many keys are made and given back at once, so many calls are under way and no more."""

    class Crowd(FaultyStore):
        """Counts the transactions under way."""

        now = most = 0

        async def call(self, op: Op[R], *, member: str, timeout: float) -> R:
            self.now += isinstance(op, Txn)
            self.most = max(self.most, self.now)
            try:
                return await super().call(op, member=member, timeout=timeout)
            finally:
                self.now -= isinstance(op, Txn)

    store = Crowd(memory := MemoryStore())
    memory.delay = 0.01
    async with connected(store) as tide, tide.session() as session:
        async with anyio.create_task_group() as tasks:
            for number in range(500):
                tasks.start_soon(session.put, f"k/{number}")
        assert len(session.keys) == 500
        assert 30 < store.most < 100
        store.most = 0
        async with anyio.create_task_group() as tasks:
            for number in range(500):
                tasks.start_soon(session.delete, f"k/{number}")
        assert session.keys == ()
        assert 30 < store.most < 100
