"""A record on a cluster in memory: renewal, takeover, lost answers, outages, and what others do to it."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TypeVar

import anyio
import anyio.abc
import pytest
import trio

from tests.support import client_of, mock_clock
from tideover.cluster.breakers.breaker import Breaker, BreakerState
from tideover.elections.claim import CandidateClaim
from tideover.elections.record import ElectionRecord
from tideover.elections.record_document import decode
from tideover.elections.rules.candidate import Timing
from tideover.errors import ElectionMismatch, PermissionDenied, RecordCorrupt
from tideover.store.faults import StoreFault, classify
from tideover.store.operations import Delete, Op, Put, Range, Result
from tideover.store.protocol import Store
from tideover.store.transactions import Txn
from tideover.testing import FaultyStore, MemoryStore
from tideover.types import Entry

R = TypeVar("R", bound=Result)

pytestmark = pytest.mark.anyio

KEY = b"/elections/reaper"
TTL = 15.0
WAIT = TTL + 1.5


def make(
    store: Store, *, policy: str = "step_down", ttl: float = TTL, boot: Callable[[], float] | None = None
) -> ElectionRecord:
    """Make a candidate as a process of its own would."""
    clock = mock_clock() if boot is None else replace(mock_clock(), boot=boot)
    return ElectionRecord(
        KEY,
        client_of(store, clock),
        timing=Timing(ttl),
        claim=CandidateClaim(policy, address="http://here", stays=policy == "stay"),
    )


@asynccontextmanager
async def running(record: ElectionRecord) -> AsyncIterator[ElectionRecord]:
    """Let a candidate run; at the end it is killed, without resigning."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(record.run)
        yield record
        tasks.cancel_scope.cancel()


async def entry(store: Store, key: bytes = KEY) -> Entry | None:
    """Read a key as another client would."""
    return (await store.call(Range(key), member=store.members[0], timeout=1)).entries.get(key)


async def held_within(record: ElectionRecord, seconds: float) -> float:
    """Wait until a record is held; return how long it took."""
    began = anyio.current_time()
    with anyio.fail_after(seconds):
        await record.wait(lambda: record.held)
    return anyio.current_time() - began


# Taking and keeping ---------------------------------------------------------------------------------------------


async def test_the_first_candidate_of_a_new_name_is_in_at_once() -> None:
    """A name that never existed is taken in one go; the token is the token key's revision."""
    async with running(make(store := MemoryStore())) as record:
        assert await held_within(record, 1) < 0.1
        token = await entry(store, KEY + b"/token")
        assert token is not None
        assert record.state.token == token.mod_revision
        raw = await entry(store)
        assert raw is not None
        found = decode(raw.value, KEY)
        assert (found.holder, found.policy, found.address, found.term) == (
            record.state.me,
            "step_down",
            "http://here",
            1,
        )


async def test_renewals() -> None:
    """A holder writes once every third of the ttl; the token stays, and a challenger never gets in."""
    store = MemoryStore()
    async with running(make(store)) as record, running(make(store)) as challenger:
        await record.wait(lambda: record.held or challenger.held)
        record, challenger = (record, challenger) if record.held else (challenger, record)
        token, before = record.state.token, store.revision
        for _ in range(600):
            await anyio.sleep(0.1)
            assert record.held
            assert record.left > TTL - 1.5 - TTL / 3 - 0.1
            assert not challenger.held
        assert record.state.token == token
        assert 11 <= store.revision - before <= 13


async def test_a_dead_holder_is_replaced_after_ttl_and_margin() -> None:
    """A challenger waits ttl plus margin from the last renewal it saw, not less, hardly more; the token grows."""
    store = MemoryStore()
    async with running(make(store)) as challenger:
        async with running(first := make(store)):
            await challenger.wait(lambda: first.held or challenger.held)
            first, challenger = (first, challenger) if first.held else (challenger, first)
            token = first.state.token
    async with running(make(store)) as record:
        assert WAIT <= await held_within(record, 30) < WAIT + 0.1
        assert record.state.token > token


async def test_failover_is_timed_from_the_last_renewal() -> None:
    """A challenger that was there before the death sees each renewal at once and counts from the last."""
    store = MemoryStore()
    async with anyio.create_task_group() as tasks:
        async with running(make(store)) as first:
            await held_within(first, 1)
            tasks.start_soon((record := make(store)).run)
            await anyio.sleep(4.9)
        # The renewal after the first third never came.
        assert WAIT - 5 <= await held_within(record, 30) < WAIT - 4.8
        tasks.cancel_scope.cancel()


async def test_resigning_hands_over_at_once() -> None:
    """A resignation is seen by a waiting candidate within 200 ms; who resigned holds nothing from its call on."""
    store = MemoryStore()
    async with anyio.create_task_group() as tasks:
        async with running(make(store)) as first:
            await held_within(first, 1)
            tasks.start_soon((second := make(store)).run)
            await anyio.sleep(7)
        assert first.held
        assert await first.resign(1)
        assert not first.held
        assert await held_within(second, 1) < 0.2
        tasks.cancel_scope.cancel()


async def test_a_vacant_record_is_taken_at_once() -> None:
    """Who comes to a vacant record waits for nothing."""
    store = MemoryStore()
    async with running(make(store)) as first:
        await held_within(first, 1)
    await first.resign(1)
    async with running(make(store)) as second:
        assert await held_within(second, 1) < 0.1


async def test_a_claim_is_written_at_once() -> None:
    """`proclaim` returns when the new value is in etcd; the token and the tenure stay."""
    store = MemoryStore()
    async with running(make(store)) as record:
        await held_within(record, 1)
        token = record.state.token
        await record.proclaim(replace(record.content.claim, value="hello"))
        raw = await entry(store)
        assert raw is not None
        assert decode(raw.value, KEY).value == "hello"
        assert (record.state.token, record.tenure) == (token, 1)


# Lost answers ---------------------------------------------------------------------------------------------------


async def test_a_renewal_whose_answer_was_lost_is_adopted() -> None:
    """The next look finds the write and goes on from it; not it, but the renewal after it moves the deadline."""
    store = FaultyStore(memory := MemoryStore())
    async with running(make(store)) as record:
        await held_within(record, 1)
        deadlines: list[float] = [record.state.deadline]
        store.inject("", op=Txn, applied=True)
        token = record.state.token
        while anyio.current_time() < 12:
            await record.changed.wait(0.05)
            if record.state.deadline != deadlines[-1]:
                deadlines.append(record.state.deadline)
        # At 5 s sent and lost, at 6 s seen as applied; at the same time renewed.
        assert deadlines[1] - deadlines[0] == pytest.approx(6, abs=0.1)
        assert (record.state.token, record.tenure) == (token, 1)
        assert memory.revision < 10


@pytest.mark.parametrize("nth", range(6))
@pytest.mark.parametrize("applied", [True, False])
async def test_any_write_may_lose_its_answer(nth: int, applied: bool) -> None:
    """Whichever write loses its answer, applied or not: the record is held within a ttl, and by one."""
    store = FaultyStore(MemoryStore())
    count = iter(range(1000))
    store.inject(
        "UNAVAILABLE", "Socket closed", when=lambda op: isinstance(op, Txn) and next(count) == nth, applied=applied
    )
    async with running(make(store)) as one, running(make(store)) as two:
        for _ in range(400):
            await anyio.sleep(0.1)
            assert not (one.held and two.held)
        assert one.held or two.held
        assert one.tenure + two.tenure == 1


class LateStore(FaultyStore):
    """A store whose writes can be given up on, and are applied later."""

    def __init__(self, store: MemoryStore, tasks: anyio.abc.TaskGroup) -> None:
        super().__init__(store)
        self._tasks = tasks
        self.late: list[float] = []

    async def call(self, op: Op[R], *, member: str, timeout: float) -> R:
        if not (isinstance(op, Txn) and self.late):
            return await super().call(op, member=member, timeout=timeout)

        async def apply(after: float) -> None:
            await anyio.sleep(after)
            await super(LateStore, self).call(op, member=member, timeout=1)

        self._tasks.start_soon(apply, self.late.pop(0))
        await anyio.sleep(timeout)
        raise StoreFault(classify("DEADLINE_EXCEEDED", "Deadline Exceeded"))


@pytest.mark.parametrize("after", [1.1, 5.0, 14.0, 20.0, 40.0])
async def test_late_writes(after: float) -> None:
    """Writes applied long after they were given up on, even when their sender is dead, make no second holder."""
    async with anyio.create_task_group() as tasks:
        store = LateStore(MemoryStore(), tasks)
        one, two = make(store), make(store)
        tasks.start_soon(two.run)
        async with running(one):
            await one.wait(lambda: one.held or two.held)
            store.late = [after] * 4
            for _ in range(100):
                await anyio.sleep(0.1)
                assert not (one.held and two.held)
        killed = anyio.current_time()
        while anyio.current_time() < killed + 70:
            await anyio.sleep(0.1)
        assert two.held
        tasks.cancel_scope.cancel()


# Outages --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [3.0, 20.0, 600.0])
async def test_after_an_outage_the_holder_stays(length: float) -> None:
    """However long etcd was away: nobody is elected meanwhile, and the same holder goes on with the same token."""
    store = MemoryStore()
    async with running(make(store)) as record:
        await held_within(record, 1)
        async with running(make(store)) as challenger:
            await anyio.sleep(12)
            token = record.state.token
            store.down = set(store.members)
            store.touch()
            await anyio.sleep(length)
            assert record.held is (length < 8)
            assert not challenger.held
            store.down = set()
            store.touch()
            assert await held_within(record, 2) < 2
            await anyio.sleep(60)
            assert record.held
            assert challenger.tenure == 0
        assert record.state.token == token
        assert record.tenure == (1 if length < 8 else 2)


async def test_a_holder_that_stays_is_unconfirmed_beyond_its_deadline() -> None:
    """Under "stay" the tenure outlasts ten minutes without etcd, but not as `held`; a changed record ends it."""
    store = MemoryStore()
    async with running(make(store, policy="stay")) as record:
        await held_within(record, 1)
        token = record.state.token
        store.down = set(store.members)
        store.touch()
        await anyio.sleep(600)
        assert (record.held, record.stands) == (False, True)
        store.down = set()
        store.touch()
        await held_within(record, 2)
        assert (record.state.token, record.tenure) == (token, 1)
        await store.call(Delete(KEY), member=store.members[0], timeout=1)
        await anyio.sleep(0.1)
        assert not record.stands
        assert "deleted" in record.state.loss


async def test_one_silent_member_costs_nothing() -> None:
    """The member in use freezes: renewals go through another in time, and the record is held without a break."""
    store = MemoryStore()
    async with running(make(store, ttl=6.0)) as record:
        await held_within(record, 1)
        store.frozen = {store.members[0]}
        store.touch()
        for _ in range(300):
            await anyio.sleep(0.1)
            assert record.held
        assert record.tenure == 1


async def test_an_open_breaker_refuses_no_renewal() -> None:
    """Renewals go on although an outage was declared: a breaker must not make the loss that it guards against."""
    store = MemoryStore()
    async with running(make(store)) as record:
        await held_within(record, 1)
        cluster = record._calls._cluster
        cluster.set_health(replace(cluster.health, quorum=Breaker(state=BreakerState.OPEN)))
        await anyio.sleep(60)
        assert record.tenure == 1
        assert record.held


async def test_a_suspended_machine_holds_nothing() -> None:
    """When the boot-time clock has run on, as it does in a suspended machine, `held` is False at once."""
    store, slept = MemoryStore(), [0.0]
    async with running(make(store, boot=lambda: trio.current_time() + slept[0])) as record:
        await held_within(record, 1)
        slept[0] = 100.0
        assert not record.held
        await anyio.sleep(0.3)
        assert "in time" in record.state.loss or record.tenure == 2


# What others do -------------------------------------------------------------------------------------------------


async def test_a_deleted_record_ends_the_tenure_and_is_not_taken_at_once() -> None:
    """Deleted under its holder: lost at once, and nobody takes the name before ttl plus margin are over."""
    store = MemoryStore()
    async with running(make(store)) as first, running(make(store)) as second:
        await first.wait(lambda: first.held or second.held)
        await anyio.sleep(6)
        await store.call(Delete(KEY, KEY + b"0"), member=store.members[0], timeout=1)
        deleted = anyio.current_time()
        await anyio.sleep(0.1)
        assert not first.held
        assert not second.held
        await first.wait(lambda: first.held or second.held)
        assert WAIT <= anyio.current_time() - deleted < WAIT + 0.5


async def test_a_newcomer_after_a_deletion_waits_too() -> None:
    """A process that never saw the record, because it was deleted before, finds its traces and waits."""
    store = MemoryStore()
    async with running(make(store)) as cut_off:
        await held_within(cut_off, 1)
    await store.call(Delete(KEY, KEY + b"0"), member=store.members[0], timeout=1)
    async with running(make(store)) as newcomer:
        assert WAIT <= await held_within(newcomer, 30) < WAIT + 0.2


async def test_compacted_history_proves_nothing() -> None:
    """Where the history was compacted nobody can know that the name is new: ttl plus margin are waited for."""
    store = MemoryStore()
    for number in range(5):
        await store.call(Put(b"x", str(number).encode()), member=store.members[0], timeout=1)
    store.compact(4)
    async with running(make(store)) as record:
        assert WAIT <= await held_within(record, 30) < WAIT + 0.2


async def test_a_rebuilt_cluster_ends_every_tenure() -> None:
    """Another history on the same members: the holder loses, and nobody who saw the old one is in at once."""
    store = MemoryStore()
    async with running(make(store)) as first, running(make(store)) as second:
        await first.wait(lambda: first.held or second.held)
        await anyio.sleep(6)
        holder = first if first.held else second
        store.rebuild({})
        rebuilt = anyio.current_time()
        await anyio.sleep(TTL / 3 + 0.1)
        assert not first.held
        assert not second.held
        assert "another history" in holder.state.loss
        await first.wait(lambda: first.held or second.held)
        assert anyio.current_time() - rebuilt >= WAIT


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello",
        b"[]",
        b"{}",
        b'{"needs":2}',
        b'{"needs":1,"holder":"x"}',
        b"\xff\xfe",
        b"[" * 99999,
        b'{"needs":1,"holder":"x","term":true,"policy":"step_down","ttl":9,"write":"w"}',
        b'{"needs":1,"holder":"x","term":1,"policy":"step_down","ttl":NaN,"write":"w"}',
        b'{"needs":1,"holder":"x","term":1,"policy":"step_down","ttl":1' + b"0" * 400 + b',"write":"w"}',
        b'{"needs":1,"holder":"x","term":1,"policy":"step_down","ttl":1e300,"write":"w"}',
        b'{"needs":1,"holder":"x","term":1,"policy":"peers","ttl":9,"limit":1e999,"write":"w"}',
        b'{"needs":1,"holder":"x","term":9223372036854775808,"policy":"step_down","ttl":9,"write":"w"}',
        rb'{"needs":1,"holder":"\ud800","term":1,"policy":"step_down","ttl":9,"write":"w"}',
        b'{"needs":1,"holder":"x","term":1,"policy":"step_down","ttl":9,"write":"w","term":2}',
    ],
)
async def test_foreign_content_is_left_alone_loudly(content: bytes) -> None:
    """What is no record that this version knows is reported by the candidate, and never written over."""
    store = MemoryStore()
    await store.call(Put(KEY, content), member=store.members[0], timeout=1)
    with pytest.raises(RecordCorrupt, match="reaper") as caught:
        await make(store).run()
    assert caught.value.key == "/elections/reaper"
    found = await entry(store)
    assert found is not None
    assert found.value == content


async def test_a_holder_whose_record_is_written_over_has_lost_it() -> None:
    """Garbage over a held record is a changed record: the holder no longer holds it, and leaves the garbage."""
    store = MemoryStore()
    record = make(store)

    async def write_over() -> None:
        await held_within(record, 1)
        await store.call(Put(KEY, b"garbage"), member=store.members[0], timeout=1)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(write_over)
        with pytest.raises(RecordCorrupt, match="not JSON"):
            await record.run()
    assert not record.held
    assert anyio.current_time() < 0.1
    found = await entry(store)
    assert found is not None
    assert found.value == b"garbage"


async def test_newer_versions_additions_survive() -> None:
    """Members that this version does not know are written back by whoever takes over, renews and resigns."""
    store = MemoryStore()
    raw = b'{"needs":1,"colour":"blue","holder":"x","term":4,"policy":"step_down","ttl":15,"write":"w"'
    raw += b',"vacant":true}'
    await store.call(Put(KEY, raw), member=store.members[0], timeout=1)
    async with running(make(store)) as record:
        await held_within(record, 1)
        await anyio.sleep(20)
    await record.resign(1)
    found = await entry(store)
    assert found is not None
    document = decode(found.value, KEY)
    assert document.extra == {"colour": "blue"}
    assert (document.term, document.vacant) == (5, True)


async def test_all_must_say_the_same_policy() -> None:
    """Whoever asks for another policy than the record's is refused, with both in the message."""
    store = MemoryStore()
    async with running(make(store)) as record:
        await held_within(record, 1)
        with pytest.raises(ElectionMismatch, match=r"'step_down'.*'stay'"):
            await make(store, policy="stay").run()


async def test_a_denial_is_no_outage() -> None:
    """Who may not read or write the record is told so at once instead of waiting for ever."""
    store = FaultyStore(MemoryStore())
    store.inject("PERMISSION_DENIED", "etcdserver: permission denied", times=100)
    with pytest.raises(PermissionDenied, match="reaper"):
        await make(store).run()


async def test_a_denial_ends_even_who_stays() -> None:
    """Under "stay" a holder that may not write any more is lost at its deadline: others may take over."""
    store = FaultyStore(MemoryStore())
    record = make(store, policy="stay")

    async def deny() -> None:
        await held_within(record, 1)
        store.inject("PERMISSION_DENIED", "etcdserver: permission denied", times=10_000)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(deny)
        with pytest.raises(PermissionDenied, match="reaper"):
            await record.run()
    assert not record.stands
    assert anyio.current_time() == pytest.approx(TTL - 1.5, abs=0.5)


async def test_a_longer_ttl_in_the_record_is_waited_for() -> None:
    """A challenger with a shorter ttl waits for the ttl that the holder relies on."""
    store = MemoryStore()
    async with running(make(store, ttl=60.0)) as first:
        await held_within(first, 1)
    async with running(make(store, ttl=6.0)) as second:
        assert 66 <= await held_within(second, 100) < 66.2


@pytest.mark.parametrize("ttl", [0, -1, 4, 1e10, math.nan, math.inf])
def test_relations_are_checked(ttl: float) -> None:
    """A ttl that one failed renewal would exhaust is refused, with both sides in the message."""
    with pytest.raises(ValueError, match=r"4 s is not more than .* = 4\.33333 s" if ttl == 4 else "ttl"):
        Timing(ttl)


# Cancellation ---------------------------------------------------------------------------------------------------


@dataclass
class Cancelling:
    """Passes calls through and cancels a scope at the nth, before it or after it was applied."""

    store: MemoryStore
    nth: int
    after: bool
    scope: anyio.CancelScope

    def __getattr__(self, name: str) -> object:
        return getattr(self.store, name)

    async def call(self, op: Op[R], *, member: str, timeout: float) -> R:
        self.nth -= 1
        if self.nth == 0 and not self.after:
            self.scope.cancel()
        result = await self.store.call(op, member=member, timeout=timeout)
        if self.nth == 0:
            self.scope.cancel()
            await anyio.lowlevel.checkpoint()
        return result


@pytest.mark.parametrize("nth", range(1, 8))
@pytest.mark.parametrize("after", [False, True])
async def test_cancelled_at_any_call(nth: int, after: bool) -> None:
    """Cancelled at whichever call, applied or not, a candidate that resigns leaves the name free at once."""
    store = MemoryStore()
    with anyio.CancelScope() as scope:
        record = make(Cancelling(store, nth, after, scope))  # type: ignore[arg-type]
        await record.run()
    assert scope.cancelled_caught
    # A write that was never sent cannot be told from one that is still under way.
    assert await record.resign(1) or (nth in (2, 3) and not after)
    assert not record.held
    async with running(make(store)) as other:
        assert await held_within(other, WAIT + 1) < 0.1
