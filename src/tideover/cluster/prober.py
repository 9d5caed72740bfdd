"""Asking members, over connections that are given up where they are dead; `answers` has what they answered."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import anyio
from anyio.abc import TaskGroup

from tideover.broadcast import Broadcast
from tideover.cluster.answers import ALIVE, Answers, Asked
from tideover.cluster.rules.diagnosis import Answer
from tideover.cluster.rules.questions import lanes_to_ask
from tideover.cluster.state import ClusterState, Proof
from tideover.store.attempts import attempt
from tideover.store.faults import UNANSWERED, Fault, FaultKind
from tideover.store.operations import Lane, Range
from tideover.store.protocol import Store

# A probe is judged after its limit, but left running for so many seconds: an answer that comes late tells a slow
# cluster from one that is away, and how slow it is.
_LATE_LIMIT = 6.0
# How much of a start is for the quorum, where members answer for themselves; the rest is for what they know.
_QUORUM_SHARE = 0.6
# A fresh connection to a silent member every so often; to one that refuses connections, every time it is asked.
_RENEW_SILENT_EVERY = 1.0
# A member of another cluster is let alone for longer each time, up to this: it is not away.
_REST_MOST = 30.0

_ANSWERS = {
    FaultKind.NO_LEADER: Answer.NO_LEADER,
    FaultKind.LEADER_CHANGED: Answer.NO_LEADER,
    FaultKind.UNREACHABLE: Answer.UNREACHABLE,
    FaultKind.CONNECTION_LOST: Answer.UNREACHABLE,
    FaultKind.DEADLINE: Answer.SILENT,
    FaultKind.AUTHENTICATION: Answer.REFUSED,
    FaultKind.AUTH_TOKEN: Answer.REFUSED,
    # The permission is checked after the quorum was asked, so this is an answer of the quorum.
    FaultKind.PERMISSION: Answer.OK,
    FaultKind.FOREIGN: Answer.UNREACHABLE,
}


class Prober:
    """Asks members and records what their answers say of them; `probes` as for the monitor.

    Args:
        slow_after: Seconds within which a probe must be answered, and what the link takes.
        patience: Seconds that the very first question to each member may take: a connection is made for it.

    Attributes:
        arrived: Fires with each answer.
        revived: Fires when a member answers that did not.
    """

    def __init__(
        self,
        store: Store,
        cluster: ClusterState,
        *,
        probes: Sequence[Range],
        slow_after: float,
        patience: float = 0.0,
    ) -> None:
        self._store = store
        self._cluster = cluster
        self._probes = tuple(probes)
        self._in_use = self._probes[0]
        self._slow_after = slow_after
        self._patience = max(slow_after, patience)
        self._clock = cluster.clock
        # Whose connection has answered before: the first answer over a new one tells how long making it took.
        self._warm: set[str] = set()
        self.answers = Answers(cluster.clock)
        self._renewed_at: dict[str, float] = {}
        # How often in a row a member turned out to be of another cluster.
        self._foreign: dict[str, int] = {}
        self.arrived = Broadcast()
        self.revived = Broadcast()
        self.asked = 0

    def ask(self, tasks: TaskGroup, member: str, lane: Lane) -> Asked:
        """Ask a member in the background; return the question, which gets the answer."""
        asked = self.answers.newest[member, lane] = self._asked(member)
        self.asked += 1
        tasks.start_soon(self.probe, member, lane, asked)
        return asked

    def _asked(self, member: str) -> Asked:
        limit = self._cluster.limit(member, self._slow_after) if self._cluster.health.decided else self._patience
        return Asked(self._clock.monotonic(), limit)

    def ask_what_tells(self, tasks: TaskGroup, member: str) -> list[Asked]:
        """Ask a member what may tell something new, over a fresh connection if the last one was of no use."""
        self.renew_if_dead(member)
        now, alone = self._clock.monotonic(), self.answers.newest.get((member, Lane.MEMBER))
        quorum, member_alone = (
            self.answers.recent(member, lane, -math.inf) if (member, lane) in self.answers.newest else None
            for lane in (Lane.QUORUM, Lane.MEMBER)
        )
        asked_ago = math.inf if alone is None else now - alone.sent_at
        foreign = member in self._foreign
        cluster = lanes_to_ask(quorum, member_alone, asked_ago=asked_ago, foreign=foreign)
        return [self.ask(tasks, member, lane) for lane in cluster]

    async def ping(self, tasks: TaskGroup, member: str, lane: Lane, within: float) -> bool:
        """Ask a member apart from the monitor's rounds; return whether it answered `within` so many seconds."""
        asked = Asked(self._clock.monotonic(), self._cluster.limit(member, within))
        tasks.start_soon(self.probe, member, lane, asked)
        with anyio.move_on_after(asked.limit):
            # A refusal is no answer, nor a reason to be quicker: an election may be over in a moment.
            while asked.answer is not Answer.OK:
                await self.arrived.wait()
        return asked.judged is Answer.OK

    async def probe(self, member: str, lane: Lane, asked: Asked) -> None:
        """Ask a member and wait for the answer."""
        probe = self._in_use
        op = probe if lane is Lane.QUORUM else replace(probe, serializable=True)
        cluster = self._cluster
        result = await attempt(self._store, op, member=member, timeout=max(_LATE_LIMIT, asked.limit))
        fault = result if isinstance(result, Fault) and result is not UNANSWERED else None
        if isinstance(result, Fault):
            answer = _ANSWERS.get(result.kind, Answer.FAILED)
            if result.kind is FaultKind.FOREIGN and member not in cluster.roll.given:
                # Addresses are given to others: another server answers where a learned member was.
                cluster.leave(member)
            if result.kind is FaultKind.PERMISSION and probe is self._in_use:
                self._in_use = self._probes[(self._probes.index(probe) + 1) % len(self._probes)]
        else:
            answer = Answer.OK
            if lane is Lane.QUORUM:
                cluster.prove(asked.sent_at, result.header)
            elif member in cluster.members:
                cluster.heard[member] = Proof(asked.sent_at, result.header)
            cluster.roll.identify(member, result.header)
        asked.answer, asked.answered_at = answer, self._clock.monotonic()
        if member in cluster.members:
            if answer is Answer.OK:
                if member in self._warm:
                    cluster.record_round_trip(member, asked.answered_at - asked.sent_at)
                self._warm.add(member)
            self._record(member, lane, asked, fault)
        self.arrived.fire()

    def _record(self, member: str, lane: Lane, asked: Asked, fault: Fault | None) -> None:
        """Remember what a member's answer says about it; `fault` is None if there was none."""
        cluster = self._cluster
        if fault is None:
            cluster.errors.pop(member, None)
        elif asked.sent_at >= self._renewed_at.get(member, -math.inf):
            # Else it may have ended because its connection was given up.
            cluster.errors[member] = fault.brief
        if fault is not None and fault.kind is FaultKind.FOREIGN:
            self._foreign[member] = self._foreign.get(member, 0) + 1
        elif asked.answer is not Answer.SILENT:
            self._foreign.pop(member, None)
        # One that is slow answers late each time.
        revived = asked.answer in ALIVE and not self.answers.was_late(member, lane)
        if asked.judged is Answer.LATE:
            self.answers.late_at[member, lane] = asked.answered_at
        if lane is Lane.MEMBER and self.answers.newest.get((member, lane)) is asked:
            # Also when the round it was asked in was decided without it.
            revived = revived and cluster.answers(member) is False
            cluster.mark_member(member, well=asked.answer in ALIVE)
            if revived:
                self.revived.fire()

    def forget_who_left(self) -> None:
        """Drop what is remembered of those who are no members any more."""
        members = self._cluster.members
        for member, lane in [key for key in self.answers.newest if key[0] not in members]:
            del self.answers.newest[member, lane]
            self.answers.late_at.pop((member, lane), None)
            self._renewed_at.pop(member, None)
            self._foreign.pop(member, None)
            self._warm.discard(member)

    def ask_again(self, tasks: TaskGroup, member: str) -> None:
        """Ask a member that has not answered, over a fresh connection, and take its silence for an answer.

        One that belongs to another cluster is asked seldom: it is not away.
        """
        if self._backs_off(member):
            return
        asked = self.answers.newest.get((member, Lane.MEMBER))
        if asked is not None and self._is_silent(asked):
            self._cluster.mark_member(member, well=False)
        self.renew_if_dead(member)
        self.ask(tasks, member, Lane.MEMBER)

    def renew_if_dead(self, member: str) -> None:
        """Give up the connection to a member that did not answer: gRPC itself would wait longer and longer."""
        asked = self.answers.newest.get((member, Lane.MEMBER))
        now = self._clock.monotonic()
        if asked is None or self.answers.was_late(member, Lane.MEMBER) or self._backs_off(member):
            return
        if self._is_silent(asked):
            # What it said before is not why it does not answer now; what lies before it may be.
            self._cluster.errors.pop(member, None)
            if way := self._store.way(member):
                self._cluster.errors[member] = f"silent ({way})"
        refused = asked.answer is Answer.UNREACHABLE
        due = now - self._renewed_at.get(member, -math.inf) >= _RENEW_SILENT_EVERY
        if refused or ((self._is_silent(asked) or asked.answer is Answer.SILENT) and due):
            self._renewed_at[member] = now
            self._warm.discard(member)
            self._store.renew(member)

    def _backs_off(self, member: str) -> bool:
        """Whether a member of another cluster was asked so lately that it is let alone."""
        times = self._foreign.get(member, 0)
        asked = self.answers.newest.get((member, Lane.MEMBER))
        if not times or asked is None:
            return False
        return self._clock.monotonic() - asked.sent_at < min(_REST_MOST, 2.0 ** min(times, 10))

    def _is_silent(self, asked: Asked) -> bool:
        return asked.answer is None and self._clock.monotonic() - asked.sent_at >= asked.limit * 0.9

    async def until(self, done: Callable[[], bool], asked: Iterable[Asked], patience: float) -> None:
        """Wait for answers until `done`, at most until the last is late, looking again every `patience`."""
        last = max(one.sent_at + one.limit for one in asked)
        with anyio.move_on_after(max(0.0, last - self._clock.monotonic())):
            while not done():
                await self.arrived.wait(patience)

    def only_members_answer(self, began: float, now: float) -> bool:
        """Whether, in the first round, members have answered for themselves and the quorum has had its time.

        Its time begins with their answers: before them the connection may only have been on its way.
        """
        answered_at = [
            asked.answered_at
            for (_, lane), asked in self.answers.newest.items()
            if lane is Lane.MEMBER and asked.sent_at >= began and asked.answer is Answer.OK
        ]
        waited = max(self._slow_after, self._patience * _QUORUM_SHARE)
        return bool(answered_at) and now - began >= waited and now - min(answered_at) >= self._slow_after
