"""Elections with the policy "peers", on a cluster and a network in memory: who leads when something is cut."""

from __future__ import annotations

import json
import logging
import math
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import anyio
import pytest
import trio

from tests.canaries import canary
from tests.elections.peers.switchboard import Line, Switchboard
from tests.support import connected
from tideover import Coordinator, ElectionMismatch, Failsafe, LeadershipLost, Standing, Term
from tideover.store.operations import Delete
from tideover.store.transactions import Txn
from tideover.testing import FaultyStore, MemoryStore

pytestmark = pytest.mark.anyio

KEY = b"/elections/reaper"
SECRET = canary("peering-secret")


@dataclass
class Process:
    """One process: its coordinator, its line to the others, and whether etcd is cut off from it."""

    tide: Coordinator
    line: Line
    cut: list[bool]
    store: FaultyStore
    term: Term | None = None
    terms: int = 0
    lost: str = ""
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)

    async def lead(self, **options: Any) -> None:
        """Lead whenever possible."""
        with self.scope:
            while True:
                try:
                    async with self.tide.leader("reaper", **options) as term:
                        self.term = term
                        self.terms += 1
                        await anyio.sleep_forever()
                except LeadershipLost as exc:
                    self.lost = str(exc)

    @property
    def standing(self) -> str | Any:
        """On what ground it leads now; empty if it does not."""
        return str(self.term.standing) if self.term is not None and self.term.leads else ""


class Fleet:
    """Some processes on one cluster."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self.store = MemoryStore()
        self.board = Switchboard()
        self._stack = stack

    async def add(self, **options: Any) -> Process:
        """Connect one more process."""
        store, line, cut = FaultyStore(self.store), self.board.line(), [False]
        store.inject("UNAVAILABLE", "failed to connect to all addresses", times=10**9, when=lambda op: cut[0])
        given = {"secret": SECRET, "advertise": line.host} | options
        tide = await self._stack.enter_async_context(connected(store, network=line, failsafe=Failsafe(**given)))
        return Process(tide, line, cut, store)

    def record(self) -> dict[str, Any]:
        """Return what the record says."""
        entry = self.store._newest[KEY]
        found: dict[str, Any] = json.loads(entry.value)
        return found

    def outage(self, away: bool) -> None:
        """Take all members away, or bring them back."""
        self.store.down = set(self.store.members) if away else set()
        self.store.touch()

    def unlink(self, one: Process, other: Process) -> None:
        """Cut two processes off from each other."""
        self.board.cut.add(frozenset({one.line.address, other.line.address}))


@asynccontextmanager
async def fleet(size: int, **options: Any) -> AsyncIterator[tuple[Fleet, list[Process], anyio.abc.TaskGroup]]:
    """Run processes that all want to lead; the first does."""
    async with AsyncExitStack() as stack:
        made = Fleet(stack)
        processes = [await made.add(**options) for _ in range(size)]
        async with anyio.create_task_group() as tasks:
            for process in processes:
                tasks.start_soon(process.lead)
                await anyio.sleep(0.5)
            await anyio.sleep(10)
            assert [process.terms for process in processes] == [1] + [0] * (size - 1)
            yield made, processes, tasks
            tasks.cancel_scope.cancel()


async def test_the_leader_goes_on_confirmed() -> None:
    """With etcd away for two minutes the leader leads on, CONFIRMED without a gap; then HELD, with its token."""
    async with fleet(3) as (made, (one, two, three), _):
        assert len(made.record()["candidates"]) == 2
        assert one.term is not None
        token = one.term.token
        made.outage(True)
        seen = set()
        for _ in range(240):
            await anyio.sleep(0.5)
            assert one.standing
            seen.add(one.standing)
            assert one.term.remaining > 0
        assert seen == {"held", "confirmed"}
        assert one.standing == "confirmed"
        status = one.tide.status().elections[0]
        assert (status.standing, status.peers, status.silent) == (Standing.CONFIRMED, 2, ())
        assert one.tide._life.instruments.observe_leaders() == {("reaper", "confirmed"): 1}
        made.outage(False)
        await anyio.sleep(20)
        assert one.standing == "held"
        assert (one.term.token, one.terms, two.terms, three.terms) == (token, 1, 0, 0)


async def test_the_leader_alone_is_cut_off_from_etcd() -> None:
    """A leader that only the others reach leads on, and nobody else does, though they all reach etcd."""
    async with fleet(3) as (_, (one, two, three), _):
        one.cut[0] = True
        await anyio.sleep(100)
        assert one.standing == "confirmed"
        one.cut[0] = False
        await anyio.sleep(20)
        assert one.standing == "held"
        assert (one.terms, two.terms, three.terms) == (1, 0, 0)


async def test_one_silent_candidate_ends_it() -> None:
    """Cut off from etcd and from one candidate, the leader stops by its deadline, and only then another leads."""
    async with fleet(3) as (made, (one, two, three), _):
        one.cut[0] = True
        await anyio.sleep(60)
        assert one.standing == "confirmed"
        made.unlink(one, three)
        stopped = math.inf
        for _ in range(800):
            await anyio.sleep(0.1)
            if not one.standing:
                stopped = min(stopped, anyio.current_time())
            assert sum(bool(p.standing) for p in (one, two, three)) <= 1
        assert two.standing or three.standing
        assert "could not be renewed" in one.lost


async def test_an_outage_with_a_candidate_cut_off() -> None:
    """In an outage a leader that does not reach one candidate stops; when etcd is back it leads again."""
    async with fleet(2) as (made, (one, two), _):
        made.outage(True)
        await anyio.sleep(30)
        assert one.standing == "confirmed"
        made.unlink(one, two)
        await anyio.sleep(14)
        assert not one.standing
        made.outage(False)
        await anyio.sleep(5)
        assert one.standing == "held"
        assert two.terms == 0


async def test_a_killed_candidate_is_struck_off_while_etcd_is_there() -> None:
    """A candidate that vanishes is off the list within a ttl and a half, and costs nothing in a later outage."""
    async with fleet(3) as (made, (one, two, three), _):
        del made.board.handlers[three.line.address]
        await anyio.sleep(22)
        assert len(made.record()["candidates"]) == 1
        made.outage(True)
        await anyio.sleep(60)
        assert one.standing == "confirmed"
        assert not two.standing


class Steps(trio.abc.Instrument):
    """Counts how often tasks wake up, by their names."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        """Take in that a task goes on."""
        self.counts[task.name.rpartition("tideover.")[2]] += 1


async def test_nobody_wakes_up_for_nothing() -> None:
    """While all is well, candidates wake up with what happens, not by a clock of their own: a leader a few times
    per renewal, the others once. Who leads looks at the clock besides, who waits to be elected does not."""
    async with fleet(3):
        steps = Steps()
        await anyio.sleep(15)
        trio.lowlevel.add_instrument(steps)
        await anyio.sleep(600)
        trio.lowlevel.remove_instrument(steps)
    # 600 s are 120 renewals. Ten looks a second would be 18,000 for three candidates, four looks 7,200.
    assert steps.counts["failsafe.peering.Peering.run"] < 2000
    assert steps.counts["elections.term.Candidacy._tell"] < 4000


async def test_a_candidate_that_takes_its_leave() -> None:
    """A candidate that ends properly in an outage does not cost the leadership; nor does its successor."""
    async with AsyncExitStack() as stack:
        made = Fleet(stack)
        one, two = await made.add(), await made.add()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(one.lead)
            await anyio.sleep(1)
            async with anyio.create_task_group() as others:
                others.start_soon(two.lead)
                await anyio.sleep(5)
                assert len(made.record()["candidates"]) == 1
                made.outage(True)
                await anyio.sleep(30)
                others.cancel_scope.cancel()
            two.scope = anyio.CancelScope()
            tasks.start_soon(two.lead)
            await anyio.sleep(60)
            assert one.standing == "confirmed"
            made.outage(False)
            await anyio.sleep(20)
            assert one.standing == "held"
            # Its successor, another incarnation, is the one on the list now.
            assert len(made.record()["candidates"]) == 1
            assert made.record()["candidates"][0].endswith(two.line.address)
            tasks.cancel_scope.cancel()


async def test_failover() -> None:
    """A dead leader is replaced within ttl, margin and 2 s; who comes next is the only one."""
    async with fleet(3) as (made, (one, two, three), _):
        one.cut[0] = True
        del made.board.handlers[one.line.address]
        made.board.cut |= {frozenset({one.line.address, p.line.address}) for p in (two, three)}
        died = anyio.current_time()
        while not (two.standing or three.standing):
            await anyio.sleep(0.1)
        assert anyio.current_time() - died < 16.5 + 2
        first, second = (two, three) if two.standing else (three, two)
        one.cut[0] = False
        made.board.handlers.clear()
        await anyio.sleep(1)
        assert not one.standing
        assert not second.standing
        assert first.standing == "held"


async def test_two_ttls_after_a_confirmation() -> None:
    """When a confirmed leader dies, another leads within two ttls and 2 s."""
    async with fleet(3) as (made, (one, two, three), _):
        one.cut[0] = True
        await anyio.sleep(60)
        made.board.cut |= {frozenset({one.line.address, p.line.address}) for p in (two, three)}
        died = anyio.current_time()
        while not (two.standing or three.standing):
            await anyio.sleep(0.1)
            if one.standing:
                assert anyio.current_time() - died < 15
        assert anyio.current_time() - died < 2 * 15 + 2


async def test_handover() -> None:
    """A leader that leaves is followed within 200 ms, and the next one knows at once whom to ask."""
    async with fleet(3) as (made, (one, two, three), _):
        left = anyio.current_time()
        one.scope.cancel()
        while not (two.standing or three.standing):
            await anyio.sleep(0.02)
        assert anyio.current_time() - left < 0.2
        assert len(made.record()["candidates"]) == 1
        made.outage(True)
        await anyio.sleep(60)
        assert {two.standing, three.standing} == {"", "confirmed"}


async def test_an_unlisted_candidate_waits_for_the_limit() -> None:
    """Who is not listed leads only after confirm_limit and a margin, when the leader has stopped."""
    async with AsyncExitStack() as stack:
        made = Fleet(stack)
        one = await made.add(confirm_limit=120)
        two = await made.add(confirm_limit=120)
        made.unlink(one, two)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(one.lead)
            await anyio.sleep(1)
            tasks.start_soon(two.lead)
            await anyio.sleep(20)
            assert made.record()["candidates"] == []
            assert [s.listed for s in two.tide.status().elections] == [False]
            one.cut[0] = True
            cut = anyio.current_time()
            await anyio.sleep(119)
            assert not two.standing
            while not two.standing:
                await anyio.sleep(0.5)
            assert 120 < anyio.current_time() - cut < 120 + 2 * 12 + 10
            tasks.cancel_scope.cancel()


@pytest.mark.parametrize(("alone", "standing"), [("step_down", ""), ("stay", "confirmed")])
async def test_a_lone_leader(alone: str, standing: str) -> None:
    """A leader that never had another to ask steps down, or stays until the limit if that was asked for."""
    async with AsyncExitStack() as stack:
        made = Fleet(stack)
        one = await made.add(alone=alone, confirm_limit=100)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(one.lead)
            await anyio.sleep(10)
            made.outage(True)
            await anyio.sleep(60)
            assert one.standing == standing
            await anyio.sleep(60)
            assert not one.standing
            tasks.cancel_scope.cancel()


async def test_confirmed_no_longer_than_the_limit() -> None:
    """However often it is confirmed, a leader stops at confirm_limit after its last renewal."""
    async with fleet(2, confirm_limit=60) as (made, (one, _), _):
        made.outage(True)
        await anyio.sleep(54)
        assert one.standing == "confirmed"
        await anyio.sleep(7)
        assert not one.standing


async def test_another_secret_is_silence(caplog: pytest.LogCaptureFixture) -> None:
    """A candidate with another secret is not listed; both sides say so, and no line shows a secret."""
    other = "another secret altogether"
    with caplog.at_level(logging.INFO, "tideover"):
        async with AsyncExitStack() as stack:
            made = Fleet(stack)
            one, two = await made.add(), await made.add(secret=other)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(one.lead)
                await anyio.sleep(1)
                tasks.start_soon(two.lead)
                await anyio.sleep(60)
                assert made.record()["candidates"] == []
                tasks.cancel_scope.cancel()
    assert "have all processes the same secret?" in caplog.text
    assert "does not list this candidate" in caplog.text
    assert SECRET not in caplog.text
    assert other not in caplog.text


async def test_secrets_are_changed_without_a_stop() -> None:
    """With the new secret accepted everywhere first, processes that sign with the old and the new one agree."""
    async with AsyncExitStack() as stack:
        made = Fleet(stack)
        new = "the next secret, 32 bytes or so"
        one = await made.add(secret=[SECRET, new])
        two = await made.add(secret=[new, SECRET])
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(one.lead)
            await anyio.sleep(1)
            tasks.start_soon(two.lead)
            await anyio.sleep(5)
            made.outage(True)
            await anyio.sleep(60)
            assert one.standing == "confirmed"
            tasks.cancel_scope.cancel()


async def test_recorded_messages_are_worth_nothing() -> None:
    """Every message that was ever sent, sent again, moves nothing: no promise, no entry on the list."""
    async with fleet(2) as (made, (one, two), _):
        one.cut[0] = True
        await anyio.sleep(60)
        assert one.standing == "confirmed"
        recorded = list(made.board.sent)
        candidate = next(iter(two.tide._parts.elections._running)).record
        promised = candidate.state.promised
        made.unlink(one, two)
        await anyio.sleep(10)
        for _, to, body in recorded:
            handler = made.board.handlers[to]
            handler(body)
        assert candidate.state.promised == promised


async def test_changed_messages_are_silence() -> None:
    """A message of which anything was changed on the way is not followed, and the leader stops in time."""
    async with fleet(2) as (made, (one, two), _):
        made.board.change = lambda body: body.replace(b'"term": 1', b'"term": 2')
        made.outage(True)
        await anyio.sleep(20)
        assert not one.standing
        assert next(iter(two.tide._parts.elections._running)).record.state.promised == -math.inf


async def test_other_policies_are_refused() -> None:
    """Who asks for another policy than the record says gets `ElectionMismatch`, in both directions."""
    async with fleet(2) as (_, (_, two), _):
        with pytest.raises(ElectionMismatch, match="on_outage='peers'"):
            async with two.tide.leader("reaper", on_outage="step_down"):
                pass
        async with two.tide.leader("other", on_outage="step_down"):
            with pytest.raises(ElectionMismatch, match="on_outage='step_down'"):
                async with two.tide.leader("other"):
                    pass


async def test_a_limit_below_the_ttl_is_refused() -> None:
    """With a `confirm_limit` below the ttl nobody could ever be confirmed; one that equals it is taken."""
    async with fleet(2, confirm_limit=15) as (_, (one, _), _):
        with pytest.raises(ValueError, match=r"confirm_limit=15\) is less than ttl=16"):
            one.tide.leader("another", ttl=16)
        one.tide.leader("another", ttl=16, on_outage="step_down")


async def test_peers_needs_a_failsafe() -> None:
    """Without one, "peers" is refused by name; with one it is the default of the profile "safety"."""
    async with connected(MemoryStore()) as tide:
        with pytest.raises(ValueError, match=r"connect\(failsafe=Failsafe\(secret=\.\.\.\)\)"):
            tide.leader("reaper", on_outage="peers")
    async with fleet(1) as (made, (one,), _):
        assert made.record()["policy"] == "peers"
        assert made.record()["entered"] is True
        found = await one.tide.election("reaper").current()
        assert found is not None
        assert found.in_office


async def test_a_deleted_record_under_a_confirmed_leader() -> None:
    """A newcomer that founds a deleted record waits until no leader can be confirmed any more."""
    async with AsyncExitStack() as stack:
        made = Fleet(stack)
        one, two, new = [await made.add(confirm_limit=90) for _ in range(3)]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(one.lead)
            await anyio.sleep(1)
            tasks.start_soon(two.lead)
            await anyio.sleep(5)
            one.cut[0] = two.cut[0] = True
            await anyio.sleep(20)
            assert one.standing == "confirmed"
            await made.store.call(Delete(KEY), member=made.store.members[0], timeout=1)
            tasks.start_soon(new.lead)
            while not new.standing:
                assert anyio.current_time() < 300
                await anyio.sleep(0.5)
            assert not one.standing
            assert anyio.current_time() > 26 + 90
            tasks.cancel_scope.cancel()


async def test_a_new_policy_is_not_held_up() -> None:
    """After a record of another policy, or one that was given up, was deleted, ttl and margin are waited for."""
    async with AsyncExitStack() as stack:
        made = Fleet(stack)
        one = await made.add()
        async with one.tide.leader("reaper", on_outage="step_down"):
            await anyio.sleep(1)
        await made.store.call(Delete(KEY), member=made.store.members[0], timeout=1)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(one.lead)
            await anyio.sleep(20)
            assert one.standing == "held"
            tasks.cancel_scope.cancel()


async def test_a_holder_that_has_promised_is_shown_as_not_in_office() -> None:
    """What was taken while a promise was given is held, is shown, and is entered when the promise has ended."""
    async with fleet(2) as (_, (one, two), _):
        record = next(iter(two.tide._parts.elections._running)).record
        # Its takeover is applied, and the answer is long in coming.
        two.store.inject("", op=Txn, applied=True)
        one.scope.cancel()
        await anyio.sleep(0.5)
        assert record.state.draft
        promised = anyio.current_time() + 30
        record.set_state(replace(record.state, promised=promised))
        await anyio.sleep(10)
        found = await two.tide.election("reaper").current()
        assert found is not None
        assert (found.holder, found.in_office) == (record.state.me, False)
        assert not two.standing
        await anyio.sleep(promised - anyio.current_time() + 0.5)
        assert two.standing == "held"
        found = await two.tide.election("reaper").current()
        assert found is not None
        assert found.in_office
