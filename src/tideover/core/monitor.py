"""The active prober: it finds out, so that no user's call has to.

While all is well it asks the member in use for one linearizable read now and then, and real traffic counts as
that. After a miss it asks every member both questions in parallel, every half second: a linearizable read, which
needs a quorum, and a serializable one, which needs only the member. What the answers mean is decided in
`resilience`; whom to use from now on is decided here.

Prior art: etcd's `Status` and `/health` explain, but lag by 1 to 2 s, and a member that lost its quorum goes on
accepting connections; nothing short of asking for a linearizable read tells.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import anyio
from anyio.abc import TaskGroup

from tideover.clock import Clock
from tideover.core.lanes import Lanes
from tideover.core.signal import Signal
from tideover.etcd.faults import FaultKind, StoreFault
from tideover.etcd.store import Lane, Range, Store
from tideover.records import Diagnosis
from tideover.resilience.diagnosis import Answer, MemberAnswers, diagnose
from tideover.resilience.health import Assessment, Health, HealthRules

# A probe is judged after `slow_after`, but left running this long: an answer that comes late tells a slow
# cluster from one that is away.
_LATE_LIMIT = 2.0
# Another member's good answer is preferred only if the member in use stays silent for so long.
_PATIENCE = 0.1
# A fresh connection to a silent member every so often; to one that refuses connections, every round.
_RENEW_SILENT_EVERY = 1.0
# Between the two good probes that close the breaker, and at least between any two rounds.
_CONFIRM_INTERVAL = 0.1

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
}
_ALIVE = {Answer.OK, Answer.LATE}


@dataclass(slots=True)
class Asked:
    """One question to one member.

    Attributes:
        sent_at: When, in monotonic seconds.
        answer: The answer; None as long as there is none.
        answered_at: When it came.
    """

    sent_at: float
    answer: Answer | None = None
    answered_at: float = 0.0

    def judged(self, slow_after: float) -> Answer:
        """Return the answer as it counts in its own round."""
        if self.answer is Answer.OK and self.answered_at - self.sent_at > slow_after:
            return Answer.LATE
        return Answer.SILENT if self.answer is None else self.answer


class Monitor:
    """Probes in the background and owns the health state.

    Args:
        store: The cluster.
        lanes: Where the verdict is written.
        probes: Linearizable reads that cost etcd little. One is used until it is denied, for what is denied tells
            no revision; then the next.
        rules: The numbers.
        clock: The clocks.
        chance: Draws a number uniformly from [0, 1).
        on_transition: Called with the health before and after, whenever the state changed.
        touch_every: Seconds between two questions to each member that is not in use: etcd's simple tokens expire
            at each member that does not see them, and after the loss of the quorum nobody can renew them. None
            asks them only when something is wrong.
    """

    def __init__(
        self,
        store: Store,
        lanes: Lanes,
        *,
        probes: Sequence[Range],
        rules: HealthRules,
        clock: Clock,
        chance: Callable[[], float],
        on_transition: Callable[[Health, Health], None],
        touch_every: float | None = None,
    ) -> None:
        self._store = store
        self._lanes = lanes
        self._probes = tuple(probes)
        self._probe_in_use = self._probes[0]
        self._rules = rules
        self._clock = clock
        self._chance = chance
        self._on_transition = on_transition
        self._touch_every = math.inf if touch_every is None else touch_every
        self._touched_at = clock.monotonic()
        self._newest: dict[tuple[str, Lane], Asked] = {}
        self._late_at: dict[tuple[str, Lane], float] = {}
        self._renewed_at: dict[str, float] = {}
        self._missing_since: float | None = None
        self._arrived = Signal()

    def __repr__(self) -> str:
        """Show what the monitor last found."""
        return f"<Monitor {self._lanes!r}>"

    async def run(self) -> None:
        """Probe until cancelled."""
        async with anyio.create_task_group() as probes:
            for member in self._lanes.members:
                probes.start_soon(self._report_disconnects, member)
            while True:
                began = self._clock.monotonic()
                await self._round(probes, began)
                await self._pause(began)

    async def _round(self, probes: TaskGroup, began: float) -> None:
        lanes = self._lanes
        if lanes.health.quorum.closed and lanes.health.decided and not lanes.suspected:
            self._ask(probes, lanes.active, Lane.QUORUM)
            asked = self._newest[lanes.active, Lane.QUORUM]
            self._touch_others(probes, began)
            await self._until(lambda: asked.answer is not None, began)
            if asked.judged(self._rules.slow_after) is Answer.OK:
                self._conclude([lanes.active], began)
                return
            lanes.suspected = True
        for member in lanes.members:
            self._renew_if_dead(member)
            self._ask(probes, member, Lane.QUORUM)
            self._ask(probes, member, Lane.MEMBER)
        await self._until(lambda: self._decided(began), self._clock.monotonic())
        self._conclude(lanes.members, began)

    def _touch_others(self, probes: TaskGroup, now: float) -> None:
        if now - self._touched_at >= self._touch_every:
            self._touched_at = now
            for member in self._lanes.members:
                if member != self._lanes.active:
                    self._ask(probes, member, Lane.MEMBER)

    def _ask(self, probes: TaskGroup, member: str, lane: Lane) -> None:
        asked = self._newest[member, lane] = Asked(self._clock.monotonic())
        probes.start_soon(self._probe, member, lane, asked)

    async def _probe(self, member: str, lane: Lane, asked: Asked) -> None:
        probe = self._probe_in_use
        op = probe if lane is Lane.QUORUM else replace(probe, serializable=True)
        try:
            with anyio.fail_after(_LATE_LIMIT):
                result = await self._store.call(op, member=member, timeout=_LATE_LIMIT)
        except TimeoutError:
            answer = Answer.SILENT
            self._lanes.errors.pop(member, None)
        except StoreFault as exc:
            self._lanes.errors[member] = exc.fault.brief
            answer = _ANSWERS.get(exc.fault.kind, Answer.FAILED)
            if exc.fault.kind is FaultKind.PERMISSION and probe is self._probe_in_use:
                self._probe_in_use = self._probes[(self._probes.index(probe) + 1) % len(self._probes)]
        else:
            answer = Answer.OK
            self._lanes.errors.pop(member, None)
            if lane is Lane.QUORUM:
                self._lanes.prove(asked.sent_at, result.header)
        asked.answer, asked.answered_at = answer, self._clock.monotonic()
        if asked.judged(self._rules.slow_after) is Answer.LATE:
            self._late_at[member, lane] = asked.answered_at
        self._arrived.fire()

    async def _until(self, done: Callable[[], bool], since: float) -> None:
        """Wait for answers until `done`, at most `slow_after` from `since`."""
        with anyio.move_on_after(max(0.0, since + self._rules.slow_after - self._clock.monotonic())):
            while not done():
                # Patience with the member in use may end without an answer arriving.
                await self._arrived.wait(_PATIENCE)

    def _answer(self, member: str, lane: Lane, began: float) -> Answer:
        """Return a member's answer in the round that began then."""
        asked = self._newest.get((member, lane))
        if asked is None or asked.sent_at < began:
            return Answer.SILENT
        return asked.judged(self._rules.slow_after)

    def _good(self, member: str, began: float) -> bool:
        return self._answer(member, Lane.QUORUM, began) is Answer.OK

    def _decided(self, began: float) -> bool:
        lanes = self._lanes
        if self._good(lanes.active, began):
            return True
        if all(asked.answer is not None for asked in self._newest.values() if asked.sent_at >= began):
            return True
        asked_active = self._newest[lanes.active, Lane.QUORUM]
        patient = asked_active.answer is None and self._clock.monotonic() < asked_active.sent_at + _PATIENCE
        return not patient and any(self._good(member, began) for member in lanes.members)

    def _conclude(self, asked: Iterable[str], began: float) -> None:
        """Judge the round and write the verdict."""
        lanes, now = self._lanes, self._clock.monotonic()
        answers = {
            member: MemberAnswers(
                self._recent(member, Lane.QUORUM, began, now), self._recent(member, Lane.MEMBER, began, now)
            )
            for member in asked
        }
        good = [member for member, answer in answers.items() if answer.quorum is Answer.OK]
        if good:
            self._missing_since = None
            lanes.suspected = False
        elif self._missing_since is None:
            self._missing_since = began
        diagnosis = diagnose(
            list(answers.values()),
            members=len(lanes.members),
            leaderless=0.0 if self._missing_since is None else now - self._missing_since,
            leader_change=self._rules.leader_change,
            alarms=lanes.alarms or (),
        )
        well = frozenset(m for m, a in answers.items() if {a.quorum, a.member} & _ALIVE)
        if good and lanes.active not in good:
            lanes.active = good[0]
        elif well and lanes.active not in well:
            lanes.active = min(well, key=lanes.members.index)
        # A healthy round asks one member only and so says nothing about the others.
        everybody = len(answers) == len(lanes.members)
        lanes.well = well if everybody else lanes.well | well
        # One that is decided early says nothing bad about those that were not waited for.
        unwell = frozenset(m for m in answers if m not in well and self._has_failed(m, began, now))
        lanes.unwell = unwell if everybody else lanes.unwell - well
        lanes.blackouts += diagnosis is Diagnosis.CUT_OFF
        before = lanes.health
        lanes.health = before.assess(
            Assessment(diagnosis, quorum_ok=bool(good), member_ok=bool(well), sent_at=began, now=now),
            self._rules,
        )
        lanes.retry_at = now + self._interval()
        lanes.changed.fire()
        if lanes.health.state is not before.state or not before.decided:
            self._on_transition(before, lanes.health)

    def _recent(self, member: str, lane: Lane, began: float, now: float) -> Answer:
        """Return a member's answer; one that came late, to an earlier round, counts until contradicted."""
        answer = self._answer(member, lane, began)
        return Answer.LATE if answer is Answer.SILENT and self._was_late(member, lane, now) else answer

    def _has_failed(self, member: str, began: float, now: float) -> bool:
        """Whether a member that gave no good answer in this round has had the time to give one."""
        asked = self._newest.get((member, Lane.MEMBER), self._newest[member, Lane.QUORUM])
        patience = self._rules.slow_after if asked.answer is None else 0.0
        return asked.sent_at >= began and now - asked.sent_at >= patience * 0.9

    def _was_late(self, member: str, lane: Lane, now: float) -> bool:
        return now - self._late_at.get((member, lane), -math.inf) < _LATE_LIMIT

    def _renew_if_dead(self, member: str) -> None:
        asked = self._newest.get((member, Lane.MEMBER))
        now = self._clock.monotonic()
        if asked is None or self._was_late(member, Lane.MEMBER, now):
            return
        refused = asked.answer is Answer.UNREACHABLE
        silent = asked.answer is None and now - asked.sent_at >= self._rules.slow_after * 0.9
        due = now - self._renewed_at.get(member, -math.inf) >= _RENEW_SILENT_EVERY
        if refused or ((silent or asked.answer is Answer.SILENT) and due):
            self._renewed_at[member] = now
            self._store.renew(member)

    def _interval(self) -> float:
        """Return seconds until the next round; jittered, so that many clients do not probe in step."""
        lanes, rules = self._lanes, self._rules
        if not lanes.health.quorum.closed and lanes.health.quorum.good:
            return _CONFIRM_INTERVAL
        if lanes.health.quorum.closed and not lanes.suspected:
            return rules.idle_interval * (0.7 + 0.3 * self._chance())
        return rules.outage_interval * (0.8 + 0.2 * self._chance())

    async def _pause(self, began: float) -> None:
        lanes = self._lanes
        if not lanes.health.quorum.closed or lanes.suspected:
            await anyio.sleep(max(_CONFIRM_INTERVAL / 2, lanes.retry_at - self._clock.monotonic()))
            return
        interval = lanes.retry_at - self._clock.monotonic()
        while not lanes.suspected:
            # Real linearizable reads count as probes: each one puts the next probe off.
            newest = lanes.proof.sent_at if lanes.proof else began
            left = max(began, newest) + interval - self._clock.monotonic()
            if left <= 0:
                return
            await lanes.evidence.wait(left)
        await anyio.sleep(max(0.0, began + _CONFIRM_INTERVAL - self._clock.monotonic()))

    async def _report_disconnects(self, member: str) -> None:
        """Probe at once when a connection breaks, to whichever member: it is the first sign of trouble.

        The member in use may well survive the loss of its quorum, so its own connection says nothing.
        """
        while True:
            await self._store.wait_disconnected(member)
            self._lanes.suspect()
            await anyio.sleep(_CONFIRM_INTERVAL)
