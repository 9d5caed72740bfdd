"""Sessions on a cluster in memory: until when they may be believed in, and how they end."""

from __future__ import annotations

import logging
import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import trio

from tests.support import connected
from tideover import Closed, Coordinator, HealthState, SessionLost, SessionState
from tideover.clock import Clock
from tideover.options import Options
from tideover.store.faults import Fault
from tideover.store.leases import LeaseGrant, LeaseKeepAlive, LeaseRevoke
from tideover.store.operations import Delete, LeaseResult, Put
from tideover.store.protocol import Store
from tideover.testing import FaultyStore, MemoryStore
from tideover.testing.memory import MemoryKeepAlive

pytestmark = pytest.mark.anyio


async def value(store: MemoryStore, key: str) -> bytes | None:
    """Read as another client would."""
    entry = store._newest.get(f"/{key}".encode())
    return None if entry is None else entry.value


async def write(store: MemoryStore, op: Any) -> None:
    """Write as another client would."""
    member = next(m for m in store.members if m not in store.down | store.frozen)
    await store.call(op, member=member, timeout=1)


def renewals(store: MemoryStore) -> int:
    """Count the renewals that reached a member."""
    return sum(isinstance(op, LeaseKeepAlive) for _, op in store.calls)


class SkippingClock:
    """A boot-time clock that counts through suspends, which the other clocks do not."""

    def __init__(self) -> None:
        self.suspended = 0.0

    def boot(self) -> float:
        return trio.current_time() + self.suspended

    def clock(self) -> Clock:
        return Clock(monotonic=trio.current_time, boot=self.boot, wall=trio.current_time, boot_id="mock")


@asynccontextmanager
async def connected_on(store: Store, clock: Clock) -> AsyncIterator[Coordinator]:
    """Run a coordinator on a clock of one's own."""
    options = Options(endpoints=tuple(store.members), cache_dir=False)
    async with Coordinator(options, store=store, clock=clock, chance=random.Random(7).random) as tide:
        yield tide


def lose_all(store: MemoryStore) -> None:
    """Let every member refuse connections."""
    store.down = set(store.members)
    store.touch()


def heal(store: MemoryStore) -> None:
    """Let every member be well."""
    store.down, store.frozen, store.electing = set(), set(), False
    store.touch()


# Life -----------------------------------------------------------------------------------------------------------


async def test_a_session_lives_as_long_as_it_is_renewed() -> None:
    """Ten minutes with all well: ALIVE throughout, the deadline always ahead, one renewal per third of the TTL."""
    store = MemoryStore()
    async with connected(store) as tide, tide.session(ttl=15) as session:
        key = await session.put("workers/7", "here")
        for _ in range(600):
            await anyio.sleep(1)
            session.check()
            assert session.state is SessionState.ALIVE
            assert 8 < session.deadline - trio.current_time() <= 13.5
        assert await value(store, "workers/7") == b"here"
        assert not key.gone
        assert 115 < renewals(store) < 125
        (status,) = tide.status().sessions
        assert (status.ttl, status.state, status.keys, status.error) == (15, "alive", ("workers/7",), None)
        assert status.last_proof <= 5.1
        assert status.lease_id == f"{session.lease_id:x}"


async def test_leaving_takes_lease_and_keys_away() -> None:
    """After the block its lease is revoked, its keys are gone, and `status()` shows no session any more."""
    store = MemoryStore()
    async with connected(store) as tide:
        async with tide.session(ttl=15) as session:
            key = await session.put("a")
            assert len(store.leases) == 1
        assert not store.leases
        assert await value(store, "a") is None
        assert key.gone.reason == "closed by its owner"
        assert tide.status().sessions == ()
        assert session.state is SessionState.LOST
        with pytest.raises(SessionLost, match="closed by its owner"):
            session.check()


async def test_closing_the_coordinator_closes_its_sessions() -> None:
    """A coordinator that is left takes open sessions with it: no lease stays."""
    store = MemoryStore()
    async with connected(store) as tide:
        session = await tide._parts.sessions.open(15)
        await session.put("a")
    assert not store.leases
    assert session.lost


async def test_an_orphan_is_left_to_itself() -> None:
    """`orphan` keeps lease and keys, renews no more, and leaving the block then is no loss."""
    store = MemoryStore()
    async with connected(store) as tide:
        async with tide.session(ttl=15) as session:
            await session.put("a", "1")
            session.orphan()
            assert await session.lost == "orphaned by its owner"
            with pytest.raises(SessionLost, match="orphaned"):
                session.check()
        await anyio.sleep(10)
        assert await value(store, "a") == b"1"
        await anyio.sleep(6)
        assert not store.leases


@pytest.mark.parametrize("ttl", [1, 2, 4])
async def test_a_ttl_without_room_for_a_failure_is_refused(ttl: int) -> None:
    """A TTL too short is refused with both numbers, before anything is sent."""
    async with connected(MemoryStore()) as tide:
        with pytest.raises(ValueError, match=rf"4\.\d\d s, not {ttl} s|3\.\d\d s, not {ttl} s"):
            tide.session(ttl=ttl)
        with pytest.raises(TypeError, match="whole"):
            tide.session(ttl=6.5)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="'lose' or 'wait'"):
            tide.session(ttl=6, on_outage="stay")  # type: ignore[arg-type]


# Loss -----------------------------------------------------------------------------------------------------------


async def test_the_body_is_cancelled_at_the_deadline() -> None:
    """Cut off for good, the body is cancelled when the deadline passes, not before; leaving raises SessionLost."""
    store = MemoryStore()
    async with connected(store) as tide:
        ended_at = 0.0
        with pytest.raises(SessionLost, match="no renewal could be proven") as caught:
            async with tide.session(ttl=15) as session:
                lose_all(store)
                deadline = session.deadline
                try:
                    await anyio.sleep_forever()
                finally:
                    ended_at = trio.current_time()
        assert deadline <= ended_at < deadline + 0.2
        assert caught.value.definite
        assert session.state is SessionState.LOST


async def test_a_body_that_ends_after_the_loss_raises_all_the_same() -> None:
    """A body that heeds no await and ends after the deadline has not held what it thought: SessionLost."""
    store = MemoryStore()
    async with connected(store) as tide:
        with pytest.raises(SessionLost):
            async with tide.session(ttl=15):
                lose_all(store)
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(20)


async def test_an_exception_of_the_body_is_kept() -> None:
    """The body's own exception comes out, with the loss as a note on it."""
    store = MemoryStore()
    async with connected(store) as tide:
        with pytest.raises(KeyError) as caught:
            async with tide.session(ttl=15):
                lose_all(store)
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(20)
                raise KeyError("mine")
        assert any("no renewal could be proven" in note for note in caught.value.__notes__)


async def test_a_lease_taken_away_is_noticed_at_once() -> None:
    """etcd takes the lease away early: the loss is there with the watch's delivery, long before the deadline."""
    store = MemoryStore()
    async with connected(store) as tide:
        with pytest.raises(SessionLost, match="etcd has ended the lease") as caught:
            async with tide.session(ttl=15) as session:
                key = await session.put("a")
                await anyio.sleep(1)
                store.revoke(session.lease_id)
                taken_at = trio.current_time()
                await anyio.sleep_forever()
        assert trio.current_time() - taken_at < 0.01
        assert caught.value.definite
        assert key.gone


async def test_a_key_deleted_by_somebody_is_noticed_and_costs_only_itself() -> None:
    """One key deleted by an operator: its notice is given at once, the session and its other keys live on."""
    store = MemoryStore()
    async with connected(store) as tide, tide.session(ttl=15) as session:
        first, second = await session.put("a"), await session.put("b")
        await anyio.sleep(0.1)
        await write(store, Delete(b"/a"))
        with anyio.fail_after(0.1):
            assert "deleted" in await first.gone
        assert session.keys == (second,)
        again = await session.put("a")
        assert again.create_revision > first.create_revision
        await anyio.sleep(60)
        assert session.state is SessionState.ALIVE
        assert not again.gone


async def test_the_awaitable_tells_why() -> None:
    """`await session.lost` returns the reason, in any task, and the notice is true from then on."""
    store = MemoryStore()
    async with connected(store) as tide:
        session = await tide._parts.sessions.open(15)
        heard: list[str] = []

        async def listen() -> None:
            heard.append(await session.lost)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listen)
            await anyio.sleep(1)
            assert not session.lost
            store.revoke(session.lease_id)
        assert "etcd has ended the lease" in heard[0]
        assert session.lost
        await tide._parts.sessions.close(session)


# Suspend and stall ----------------------------------------------------------------------------------------------


async def test_after_a_suspend_nothing_is_believed() -> None:
    """The machine was suspended beyond the deadline: `check` raises at once, bodies are cancelled within 0.1 s."""
    skipping = SkippingClock()
    store = MemoryStore()
    async with connected_on(store, skipping.clock()) as tide:
        woke_at = 0.0
        with pytest.raises(SessionLost, match="stood still"):
            async with tide.session(ttl=15) as session:
                await anyio.sleep(1)
                session.check()
                skipping.suspended = 60.0
                woke_at = trio.current_time()
                with pytest.raises(SessionLost, match="stood still"):
                    session.check()
                assert session.state is SessionState.LOST
                await anyio.sleep_forever()
        assert trio.current_time() - woke_at <= 0.11


async def test_after_a_suspend_bodies_end_before_anything_else_is_done() -> None:
    """Two hundred bodies of a machine that was suspended: all have ended before the first line is logged about it,
    and before the first of their sessions is closed."""
    skipping, count = SkippingClock(), 200
    ended = 0
    at_first_line: list[int] = []
    at_first_revoke: list[int] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if not at_first_line:
                at_first_line.append(ended)

    def revokes(op: object) -> bool:
        if isinstance(op, LeaseRevoke) and not at_first_revoke:
            at_first_revoke.append(ended)
        return False

    store = FaultyStore(MemoryStore())
    store.inject("UNAVAILABLE", when=revokes)
    logger, listener = logging.getLogger("tideover"), Listener(logging.WARNING)
    async with connected_on(store, skipping.clock()) as tide, anyio.create_task_group() as tasks:

        async def body() -> None:
            nonlocal ended
            with pytest.raises(SessionLost):
                async with tide.session(ttl=15):
                    try:
                        await anyio.sleep_forever()
                    finally:
                        ended += 1

        for _ in range(count):
            tasks.start_soon(body)
        await anyio.sleep(1)
        logger.addHandler(listener)
        try:
            skipping.suspended = 60.0
            await anyio.sleep(0.2)
        finally:
            logger.removeHandler(listener)
    assert (ended, at_first_line, at_first_revoke) == (count, [count], [count])


async def test_a_suspend_that_ends_in_time_is_survived() -> None:
    """Suspended for less than the deadline, a renewal follows within a second and the session goes on."""
    skipping = SkippingClock()
    store = MemoryStore()
    async with connected_on(store, skipping.clock()) as tide, tide.session(ttl=15) as session:
        await anyio.sleep(1)
        skipping.suspended = 10.0
        session.check()
        await anyio.sleep(1.1)
        assert session.deadline - skipping.boot() > 12


async def test_a_renewal_answered_after_the_deadline_revives_no_strict_session() -> None:
    """A proof that comes in after a strict session's deadline moves nothing: lost is lost."""
    skipping = SkippingClock()
    store = MemoryStore()
    async with connected_on(store, skipping.clock()) as tide:
        session = await tide._parts.sessions.open(15, strict=True)
        skipping.suspended = 14.0
        await anyio.sleep(30)
        assert session.state is SessionState.LOST
        with pytest.raises(SessionLost):
            session.check()
        await tide._parts.sessions.close(session)


# Outages --------------------------------------------------------------------------------------------------------


async def test_the_same_lease_comes_back() -> None:
    """Quorum lost for three TTLs: SUSPENDED, not LOST; afterwards the same lease, the same keys, ALIVE."""
    store = MemoryStore()
    async with connected(store) as tide, tide.session(ttl=15, on_outage="wait") as session:
        key = await session.put("a", "1")
        lease = session.lease_id
        store.down = set(store.members[:2])
        store.touch()
        await anyio.sleep(10)
        assert session.state is SessionState.SUSPENDED
        session.check()
        await anyio.sleep(35)
        assert session.state is SessionState.SUSPENDED
        assert not session.lost
        with pytest.raises(SessionLost) as caught:
            session.check()
        assert not caught.value.definite
        (status,) = tide.status().sessions
        assert status.state == "suspended"
        assert status.error is not None
        assert status.seconds_left == 0
        heal(store)
        await anyio.sleep(2)
        session.check()
        assert tide.status().sessions[0].state == "alive"
        assert (session.lease_id, session.keys) == (lease, (key,))
        assert await value(store, "a") == b"1"


async def test_a_declared_outage_is_not_hammered(monkeypatch: pytest.MonkeyPatch) -> None:
    """A minute without etcd: no watch is tried, a renewal about once a second; both are back 0.1 s afterwards."""
    store = MemoryStore()
    opened: Counter[str] = Counter()

    def counting(where: object, name: str) -> None:
        genuine = getattr(where, name)

        def counted(*args: Any, **options: Any) -> Any:
            opened[name] += 1
            return genuine(*args, **options)

        monkeypatch.setattr(where, name, counted)

    async with connected(store, follow=()) as tide, tide.session(ttl=15, on_outage="wait") as session:
        await session.put("a")
        await anyio.sleep(6)
        store.down = set(store.members)
        store.touch()
        await tide._parts.client.state.breakers.wait_for(HealthState.UNAVAILABLE)
        counting(store, "watch_group")
        counting(MemoryKeepAlive, "renew_all")
        await anyio.sleep(60)
        assert opened["watch_group"] == 0
        # Three members are asked in one round.
        assert 3 * 60 / 2.4 * 0.9 < opened["renew_all"] < 3 * 60 / 0.6
        heal(store)
        await tide._parts.client.state.breakers.wait_for(HealthState.AVAILABLE)
        await anyio.sleep(0.1)
        session.check()
        assert opened["watch_group"] == 1


@pytest.mark.parametrize("kept", [False, True])
async def test_only_what_another_history_may_have_is_revoked(kept: bool) -> None:
    """After a rebuild from nothing no lease of the time before is asked for; one that may have come along is."""
    store = MemoryStore()
    async with connected(store) as tide:
        for n in range(10):
            await write(store, Put(b"/x", str(n).encode()))
        session = await tide._parts.sessions.open(15)
        made_at = session._tenure.anchor.create_revision
        await anyio.sleep(6)
        store.rebuild({}, revision=made_at + 1 if kept else 1)
        await session.lost
        asked: list[object] = []
        genuine = store.call

        async def noting(op: Any, **options: Any) -> Any:
            asked.append(op)
            return await genuine(op, **options)

        store.call = noting  # type: ignore[method-assign]
        await anyio.sleep(6)
        assert tide.epoch == 2
        await tide._parts.sessions.close(session)
        assert any(isinstance(op, LeaseRevoke) for op in asked) is kept


async def test_one_member_less_is_no_trouble() -> None:
    """The member in use dies or freezes: the next one is asked within the same renewal, and nothing is lost."""
    for broken in ("down", "frozen"):
        store = MemoryStore()
        async with connected(store) as tide, tide.session(ttl=6) as session:
            await anyio.sleep(3)
            setattr(store, broken, {tide._parts.client.state.active})
            store.touch()
            for _ in range(600):
                await anyio.sleep(0.1)
                session.check()
            assert session.state is SessionState.ALIVE


async def test_a_leader_change_costs_nothing() -> None:
    """Two seconds without a leader: even a session of 6 s is never past its deadline."""
    store = MemoryStore()
    async with connected(store) as tide, tide.session(ttl=6) as session:
        for _ in range(20):
            await anyio.sleep(2.7)
            store.electing = True
            store.touch()
            await anyio.sleep(2)
            store.electing, store.raft_term = False, store.raft_term + 1
            store.touch()
            session.check()
        assert not session.lost


async def test_an_acknowledgement_is_no_proof() -> None:
    """All members acknowledge in an old term: nothing moves the deadline, and it passes."""
    store = MemoryStore()
    async with connected(store) as tide:
        session = await tide._parts.sessions.open(6)
        await anyio.sleep(0.1)
        before = session.deadline
        store.stale = set(store.members)
        await anyio.sleep(4)
        assert renewals(store) > 3
        assert session.deadline == before
        assert session.state is SessionState.SUSPENDED
        assert "term" in (tide.status().sessions[0].error or "")
        await tide._parts.sessions.close(session)


class DenyingStore(MemoryStore):
    """Members that do not know any lease, as one that was cut off before the grant."""

    def __init__(self) -> None:
        super().__init__()
        self.denying: set[str] = set()
        self.denied = 0

    @asynccontextmanager
    async def keep_alive(self, *, member: str) -> AsyncIterator[MemoryKeepAlive]:
        await anyio.lowlevel.checkpoint()
        yield DenyingStream(self, member)


class DenyingStream(MemoryKeepAlive):
    """A stream at such a member."""

    def _renew(self, lease: int) -> LeaseResult | Fault:
        store = self._store
        assert isinstance(store, DenyingStore)
        if self._member not in store.denying:
            return super()._renew(lease)
        store.denied += 1
        return LeaseResult(store._header(self._member, store.revision), lease, 0)


async def test_a_member_that_denies_the_lease_is_not_believed() -> None:
    """Members say TTL 0 of a lease whose key the quorum shows: not lost; the session goes on where it is known."""
    store = DenyingStore()
    async with connected(store) as tide, tide.session(ttl=15) as session:
        store.denying = set(store.members[:2])
        for _ in range(120):
            await anyio.sleep(0.5)
            session.check()
        assert store.denied
        store.denying = set(store.members)
        await anyio.sleep(6)
        assert session.state is SessionState.SUSPENDED
        assert not session.lost


async def test_a_rebuilt_cluster_is_the_end() -> None:
    """Another history on the same members: the session is lost, also with a key of the same name in it."""
    store = MemoryStore()
    async with connected(store) as tide:
        session = await tide._parts.sessions.open(15)
        await session.put("a")
        for n in range(10):
            await write(store, Put(b"/x", str(n).encode()))
        await anyio.sleep(6)
        store.rebuild({f"/tideover/sessions/{session.lease_id:x}".encode(): b"imposter"})
        await anyio.sleep(6)
        assert session.state is SessionState.LOST
        assert "another" in (session.lost.reason or "") or "gone" in (session.lost.reason or "")
        await tide._parts.sessions.close(session)


async def test_closing_the_coordinator_ends_bodies_elsewhere() -> None:
    """A body in another task is cancelled when the coordinator is closed under it, and is told why."""
    store = MemoryStore()
    heard: list[str] = []

    async def body(tide: Coordinator) -> None:
        try:
            async with tide.session(ttl=15):
                await anyio.sleep_forever()
        except SessionLost as exc:
            heard.append(str(exc))

    async with anyio.create_task_group() as tasks:
        async with connected(store) as tide:
            tasks.start_soon(body, tide)
            await anyio.sleep(1)
    assert "closed by its owner" in heard[0]
    assert not store.leases


async def test_closing_the_coordinator_ends_an_opening_elsewhere() -> None:
    """A session that another task is just opening when the coordinator is closed is refused with `Closed`."""
    store = MemoryStore()
    heard: list[BaseException] = []

    async def body(tide: Coordinator) -> None:
        try:
            async with tide.session(ttl=15):
                await anyio.sleep_forever()
        except Exception as exc:  # that is the question
            heard.append(exc)

    async with anyio.create_task_group() as tasks:
        async with connected(store) as tide:
            store.frozen = set(store.members)
            tasks.start_soon(body, tide)
            await anyio.sleep(0.1)
        await anyio.sleep(30)
        tasks.cancel_scope.cancel()
    assert [type(exc) for exc in heard] == [Closed]


async def test_nothing_is_bound_to_a_session_that_was_closed() -> None:
    """A body bound to a session that is closed already is cancelled at once: nobody looks at the clock for it."""
    async with connected(MemoryStore()) as tide:
        session = await tide._parts.sessions.open(15)
        await tide._parts.sessions.close(session)
        for at_deadline in (True, False):
            with anyio.CancelScope() as scope:
                session.bind(scope, at_deadline=at_deadline)
                await anyio.sleep(1)
            assert scope.cancelled_caught


async def test_a_loss_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """Past the deadline there is one line with the reason, and one when the session is proven again."""
    caplog.set_level("INFO", logger="tideover")
    store = MemoryStore()
    async with connected(store) as tide, tide.session(ttl=15, on_outage="wait"):
        lose_all(store)
        await anyio.sleep(60)
        heal(store)
        await anyio.sleep(5)
    lines = [line for line in caplog.messages if "session" in line]
    assert ["no renewal could be proven" in line or "proven again" in line for line in lines] == [True, True]


async def test_leases_stand_still_without_a_leader() -> None:
    """In a total outage a `MemoryStore` keeps its leases, and then gives them their full TTL, as etcd does."""
    store = MemoryStore()
    await write(store, LeaseGrant(6, 7))
    lose_all(store)
    await anyio.sleep(60)
    heal(store)
    assert store.leases == {7}
    await anyio.sleep(5)
    assert store.leases == {7}
    await anyio.sleep(2)
    assert not store.leases
