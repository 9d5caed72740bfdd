"""Leases renewed and proven together: what one of them meets is nobody else's loss."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, TypeVar

import anyio
import pytest
import trio

from tests.support import connected
from tideover import Coordinator, SessionState
from tideover.sessions.session import Session
from tideover.store.faults import Fault, classify
from tideover.store.leases import Attachments, LeaseKeepAlive
from tideover.store.operations import Delete, LeaseResult, Op, Result
from tideover.store.protocol import Store, TakeRenewal
from tideover.testing import FaultyStore, MemoryStore
from tideover.testing.memory import MemoryKeepAlive

pytestmark = pytest.mark.anyio
R = TypeVar("R", bound=Result)

TTL = 15
INTERVAL = TTL / 3
# A renewal in time is sent with so many seconds left; nobody else's trouble may cost more than two thirds of that.
LEFT = TTL - 1.5 - INTERVAL
LEAST = TTL / 3 + 2


@asynccontextmanager
async def many(store: Store, count: int = 50) -> AsyncIterator[tuple[Coordinator, list[Session]]]:
    """Open sessions at one moment, which are renewed together from then on."""
    async with connected(store) as tide:
        yield tide, [await tide._parts.sessions.open(TTL) for _ in range(count)]


def anchor(session: Session) -> bytes:
    """Return the key that shows that the lease is there."""
    return session.tenure.anchor.full


def renewal_of(session: Session) -> Callable[[Op[Result]], bool]:
    """Match the renewals of one lease."""
    return lambda op: isinstance(op, LeaseKeepAlive) and op.lease == session.lease_id


def proof_of(session: Session) -> Callable[[Op[Result]], bool]:
    """Match the proofs that one lease is among."""
    return lambda op: isinstance(op, Attachments) and anchor(session) in op.keys


async def nearest(sessions: list[Session], seconds: float) -> float:
    """Return the fewest seconds that any session had left to its deadline, for a while."""
    least = float("inf")
    for _ in range(round(seconds / 0.05)):
        await anyio.sleep(0.05)
        least = min(least, *(session.deadline - trio.current_time() for session in sessions))
    return least


async def test_renewals_in_common_have_proofs_in_common() -> None:
    """200 sessions for a minute: each is renewed every third of its TTL, and up to 128 of them share a proof."""
    store = MemoryStore()
    async with many(store, 200) as (_, sessions):
        store.calls.clear()
        assert await nearest(sessions, 60) > LEFT - 0.2
        renewals = sum(isinstance(op, LeaseKeepAlive) for _, op in store.calls)
        proofs = [op for _, op in store.calls if isinstance(op, Attachments)]
        assert 200 * 11 <= renewals <= 200 * 13
        assert max(len(op.keys) for op in proofs) == 128
        assert len(proofs) <= 2 * 13


async def test_a_late_answer_holds_nobody_up() -> None:
    """One of fifty is not answered: the others are proven 0.1 s later, and that one at another member."""
    store = FaultyStore(memory := MemoryStore())
    async with many(store) as (_, sessions):
        late, others = sessions[0], sessions[1:]
        store.inject("", op=LeaseKeepAlive, when=renewal_of(late))
        before = late.tenure.member
        assert await nearest(others, INTERVAL + 0.4) > LEFT - 0.3
        assert all(session.state is SessionState.ALIVE for session in others)
        assert late.deadline < others[0].deadline
        assert await nearest(sessions, 1.2) > LEFT - 1.5
        assert late.state is SessionState.ALIVE
        assert late.tenure.member != before
        assert {session.tenure.member for session in others} == {before}
        assert memory.leases == {session.lease_id for session in sessions}


class Elects(MemoryStore):
    """Elects between an acknowledgement and its proof, once."""

    elects = False

    async def call(self, op: Op[R], *, member: str, timeout: float) -> R:
        if self.elects and isinstance(op, Attachments):
            self.elects = False
            self.raft_term += 1
        return await super().call(op, member=member, timeout=timeout)


async def test_an_election_before_the_proof_makes_it_none() -> None:
    """What was acknowledged in the term before moves no deadline; all are proven at the next member at once."""
    store = Elects()
    async with many(store) as (_, sessions):
        before, deadline = sessions[0].tenure.member, sessions[0].deadline
        store.elects = True
        sent: list[float] = []
        sessions[0].tenure.on_change = lambda: sent.append(sessions[0].deadline)
        assert await nearest(sessions, INTERVAL + 1) > LEFT - 0.5
        assert not store.elects
        assert sent[0] == deadline
        assert all(session.state is SessionState.ALIVE for session in sessions)
        assert before not in {session.tenure.member for session in sessions}


class Forwards(MemoryStore):
    """Lets another member acknowledge one lease, such as behind a balancer."""

    lease = 0

    @asynccontextmanager
    async def keep_alive(self, *, member: str) -> AsyncIterator[MemoryKeepAlive]:
        yield ForwardingStream(self, member)


class ForwardingStream(MemoryKeepAlive):
    """A stream of such a member."""

    def _renew(self, lease: int) -> LeaseResult | Fault:
        answer = super()._renew(lease)
        store = self._store
        assert isinstance(store, Forwards)
        if lease != store.lease or not isinstance(answer, LeaseResult):
            return answer
        return replace(answer, header=replace(answer.header, member_id=answer.header.member_id % 3 + 1))


async def test_another_members_acknowledgement_is_proven_by_none() -> None:
    """One lease is always acknowledged by another member: it is never proven, and all others always are."""
    store = Forwards()
    async with many(store) as (_, sessions):
        store.lease, deadline = sessions[7].lease_id, sessions[7].deadline
        others = [session for session in sessions if session is not sessions[7]]
        assert await nearest(others, 12) > LEFT - 0.3
        assert sessions[7].deadline == deadline
        assert sessions[7].state is SessionState.SUSPENDED
        assert "two members answered" in (sessions[7].report().error or "")


async def test_a_missing_anchor_ends_its_lease_alone() -> None:
    """Of a proof in common that shows all anchors but one, that one's session is lost, and no other in doubt."""
    store = MemoryStore()
    async with many(store) as (_, sessions):
        store.mute = set(store.members)
        await store.call(Delete(anchor(sessions[3])), member=store.members[0], timeout=1)
        await anyio.sleep(INTERVAL + 0.5)
        assert [session for session in sessions if session.lost] == [sessions[3]]
        assert all(session.state is SessionState.ALIVE for session in sessions if session is not sessions[3])
        store.mute.clear()


async def test_a_proof_that_is_refused_for_one_key_is_asked_for_each() -> None:
    """A read of fifty keys is refused for one: each is proven alone at once, and later all but one together."""
    store = FaultyStore(memory := MemoryStore())
    async with many(store) as (_, sessions):
        refused, others = sessions[5], [session for session in sessions if session is not sessions[5]]
        store.inject("PERMISSION_DENIED", "etcdserver: permission denied", times=999, when=proof_of(refused))
        assert await nearest(others, INTERVAL + 1) > LEFT - 0.4
        memory.calls.clear()
        assert await nearest(others, INTERVAL + 1) > LEFT - 0.4
        proofs = [op for _, op in memory.calls if isinstance(op, Attachments)]
        assert sorted(len(op.keys) for op in proofs) == [49]
        assert refused.state is SessionState.SUSPENDED


async def test_a_lease_that_is_refused_goes_on_alone() -> None:
    """A lease that etcd refuses to renew is asked for alone, with pauses, until its end; others never notice."""
    store = FaultyStore(MemoryStore())
    async with many(store) as (_, sessions):
        refused, others = sessions[5], [session for session in sessions if session is not sessions[5]]
        attempts: list[float] = []

        def matches(op: Op[Result]) -> bool:
            if renewal_of(refused)(op):
                attempts.append(trio.current_time())
                return True
            return False

        store.inject("PERMISSION_DENIED", "etcdserver: permission denied", times=999, when=matches)
        assert await nearest(others, 40) > LEFT - 0.3
        assert refused.state is SessionState.LOST
        assert 5 < len(attempts) < 20


class Trickles(MemoryStore):
    """Refuses a lease, and acknowledges all others one after the other."""

    refused, slow = 0, False

    @asynccontextmanager
    async def keep_alive(self, *, member: str) -> AsyncIterator[MemoryKeepAlive]:
        yield TricklingStream(self, member)


class TricklingStream(MemoryKeepAlive):
    """A stream of such a member."""

    async def renew_all(self, leases: Sequence[int], take: TakeRenewal) -> None:
        store = self._store
        assert isinstance(store, Trickles)
        for lease in leases:
            if lease == store.refused:
                take(lease, classify("PERMISSION_DENIED", "etcdserver: permission denied"))
        for lease in leases:
            if lease != store.refused:
                await anyio.sleep(0.5 * store.slow)
                await super().renew_all((lease,), take)


async def test_a_refused_lease_does_not_wait_for_answers_to_others() -> None:
    """Refused while others are acknowledged one after the other, a lease is tried again before the last."""
    store = Trickles()
    async with many(store, 7) as (_, sessions):
        refused, deadline = sessions[5], sessions[5].deadline
        store.refused, store.slow = refused.lease_id, True
        with anyio.fail_after(INTERVAL + 1):
            while not refused.tenure.failing:
                await anyio.sleep(0.05)
        store.refused = 0
        with anyio.fail_after(2):
            while refused.deadline == deadline:
                await anyio.sleep(0.05)
        assert sum(session.deadline == sessions[6].deadline for session in sessions) < 6
        assert await nearest(sessions, 6) > LEFT - 3.5


async def test_debris_delays_its_own_lease_alone() -> None:
    """A lease whose debris cannot be deleted is not proven; the others, due with it, are in time."""
    store = FaultyStore(MemoryStore())
    async with many(store) as (_, sessions):
        stuck, others = sessions[5], [session for session in sessions if session is not sessions[5]]
        await stuck.put("a")
        store.inject(
            "UNAVAILABLE",
            "etcdserver: request timed out",
            times=999,
            when=lambda op: any(isinstance(step, Delete) for step in getattr(op, "then", ())),
        )
        assert not await stuck.delete("a")
        deadline = stuck.deadline
        assert await nearest(others, 12) > LEFT - 0.3
        assert stuck.report().debris == 1
        assert stuck.deadline == deadline


@pytest.mark.parametrize("trouble", ["frozen", "down"])
async def test_a_members_end_costs_all_but_a_moment(trouble: str) -> None:
    """The member of all streams stops, or is killed: all are renewed at another, with time to spare."""
    store = MemoryStore()
    async with many(store, 200) as (_, sessions):
        before = sessions[0].tenure.member
        await anyio.sleep(INTERVAL - 0.5)
        getattr(store, trouble).add(before)
        store.touch()
        assert await nearest(sessions, 15) > LEAST
        assert before not in {session.tenure.member for session in sessions}
        assert all(session.state is SessionState.ALIVE for session in sessions)
        getattr(store, trouble).clear()
        store.touch()


async def test_a_thousand_idle_sessions_take_few_tasks() -> None:
    """The number of tasks does not grow with that of sessions."""
    async with connected(MemoryStore()) as tide:
        first = await tide._parts.sessions.open(TTL)
        await anyio.sleep(2)
        before: Any = trio.lowlevel.current_statistics().tasks_living
        for _ in range(200):
            await tide._parts.sessions.open(TTL)
        await anyio.sleep(2)
        assert trio.lowlevel.current_statistics().tasks_living <= before + 5
        first.check()
