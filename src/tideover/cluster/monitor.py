"""The active prober: it finds out, so that no user's call has to.

While all is well it asks the member in use for one linearizable read now and then, and real traffic counts as
that. After a miss it asks every member in parallel: for a linearizable read, which needs a quorum, and for a
serializable one, which needs only the member. Which of the two tells something new, how soon the next round comes,
and what the answers mean is decided in `rules`; whom to use from now on is decided here.

Prior art: etcd's `Status` and `/health` explain, but lag by 1 to 2 s, and a member that lost its quorum goes on
accepting connections; nothing short of asking for a linearizable read tells.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import anyio
from anyio.abc import TaskGroup

from tideover.cluster.answers import ALIVE, Asked
from tideover.cluster.breakers.state_machine import Assessment, Health, HealthRules
from tideover.cluster.prober import Prober
from tideover.cluster.reconnector import Reconnector
from tideover.cluster.rules.diagnosis import Answer, diagnose
from tideover.cluster.rules.questions import pause_after
from tideover.cluster.state import ClusterState
from tideover.store.operations import Lane, Range
from tideover.store.protocol import Store
from tideover.ticker import Ticker
from tideover.types import Diagnosis

# Another member's good answer is preferred only if the member in use stays silent for so long.
_PATIENCE = 0.1
# Between the two good probes that close the breaker, and at least between any two rounds.
_CONFIRM_INTERVAL = 0.1
_MOMENT = 0.001


class Monitor:
    """Probes in the background and owns the health state.

    Of `probes`, linearizable reads that cost etcd little, one is used until it is denied, for what is denied tells
    no revision; then the next. `on_transition` gets the health before and after, whenever the state changed.
    """

    def __init__(
        self,
        store: Store,
        cluster: ClusterState,
        *,
        probes: Sequence[Range],
        rules: HealthRules,
        ticker: Ticker,
        on_transition: Callable[[Health, Health], None],
    ) -> None:
        self._cluster = cluster
        self._prober = Prober(
            store, cluster, probes=probes, slow_after=rules.slow_after, patience=rules.start_patience
        )
        self._connections = Reconnector(store, cluster, prober=self._prober, ticker=ticker)
        self._rules = rules
        self._clock = cluster.clock
        self._on_transition = on_transition
        self._touched_at = cluster.clock.monotonic()
        self._missing_since: float | None = None
        self._tasks: TaskGroup | None = None
        # How many questions had been asked when the present round began.
        self._asked = 0

    async def run(self) -> None:
        """Probe until cancelled."""
        async with anyio.create_task_group() as probes:
            self._tasks = probes
            probes.start_soon(self._connections.run)
            while True:
                began = self._clock.monotonic()
                await self._round(probes, began)
                await self._pause(began)

    async def still_answers(self, member: str, lane: Lane, within: float) -> bool:
        """Return whether a member answers a small question `within` so many seconds, and what the link takes."""
        return self._tasks is not None and await self._prober.ping(self._tasks, member, lane, within)

    async def _round(self, probes: TaskGroup, began: float) -> None:
        cluster, prober = self._cluster, self._prober
        self._asked = prober.asked
        if cluster.health.quorum.closed and cluster.health.decided and not cluster.breakers.suspected:
            active = cluster.active
            asked = prober.ask(probes, active, Lane.QUORUM)
            self._touch_others(probes, began)
            await prober.until(lambda: asked.answer is not None, [asked], _PATIENCE)
            if asked.judged is Answer.OK:
                self._conclude([active], began)
                return
            cluster.breakers.suspected, cluster.breakers.suspected_at = True, began
        members = cluster.members
        questions: list[Asked] = []
        for member in members:
            questions += prober.ask_what_tells(probes, member)
        await self._until_decided(members, began, questions)
        while unasked := prober.answers.unasked(members, began):
            questions += [prober.ask(probes, member, Lane.QUORUM) for member in unasked]
            await self._until_decided(members, began, questions)
        self._conclude(members, began)

    async def _until_decided(self, members: Sequence[str], began: float, questions: Iterable[Asked]) -> None:
        prober = self._prober

        def done() -> bool:
            return self._decided(members, began) or bool(prober.answers.unasked(members, began))

        await prober.until(done, questions, _PATIENCE)

    def _touch_others(self, probes: TaskGroup, now: float) -> None:
        if now - self._touched_at >= self._rules.touch_every:
            self._touched_at = now
            for member in self._cluster.members:
                if member != self._cluster.active:
                    self._prober.ask(probes, member, Lane.MEMBER)

    def _decided(self, members: Sequence[str], began: float) -> bool:
        prober, active = self._prober, self._cluster.active
        if prober.answers.is_good(active, began) or prober.answers.all_answered(members, began):
            return True
        if not self._cluster.health.decided and prober.only_members_answer(began, self._clock.monotonic()):
            return True
        asked = prober.answers.newest.get((active, Lane.QUORUM))
        patient = asked and asked.answer is None and self._clock.monotonic() < asked.sent_at + _PATIENCE
        return not patient and any(prober.answers.is_good(member, began) for member in members)

    def _conclude(self, asked: Iterable[str], began: float) -> None:
        """Judge the round and write the verdict."""
        cluster, now = self._cluster, self._clock.monotonic()
        # Some may have left meanwhile.
        answers = {m: self._prober.answers.of_member(m, began) for m in asked if m in cluster.members}
        if not answers:
            return
        good = [member for member, answer in answers.items() if answer.quorum is Answer.OK]
        if good:
            self._missing_since = None
            cluster.breakers.suspected = False
        elif self._missing_since is None:
            self._missing_since = began
        diagnosis = diagnose(
            list(answers.values()),
            members=cluster.roll.size,
            answering=cluster.roll.counted([member for member, answer in answers.items() if answer.alive]),
            leaderless=0.0 if self._missing_since is None else now - self._missing_since,
            leader_change=self._rules.leader_change,
            alarms=cluster.alarms or (),
        )
        well = frozenset(m for m, a in answers.items() if {a.quorum, a.member} & ALIVE)
        # A round that is decided early says nothing bad about those that were not waited for.
        failed = frozenset(m for m in answers if m not in well and self._prober.answers.has_failed(m, began))
        left = frozenset({cluster.active} - set(good)) if good else frozenset[str]()
        known = cluster.well, cluster.unwell, cluster.health.diagnosis, cluster.health.state
        cluster.well = (cluster.well | well) - failed - left
        cluster.unwell = (cluster.unwell | failed) - well
        cluster.forget_versions()
        if left:
            cluster.set_active(good[0])
        elif well and cluster.active not in well:
            cluster.set_active(min(well, key=cluster.members.index))
        cluster.blackouts += diagnosis is Diagnosis.CUT_OFF
        before = cluster.health
        cluster.set_health(
            before.assess(
                Assessment(diagnosis, quorum_ok=bool(good), member_ok=bool(well), sent_at=began, now=now),
                self._rules,
            )
        )
        news = known != (cluster.well, cluster.unwell, cluster.health.diagnosis, cluster.health.state)
        cluster.breakers.retry_at = max(now, began + self._interval(began, news=news))
        self._announce(before)

    def declare(self) -> None:
        """Declare that no member answers, as after `outage_after` of it: tests see to that, and do not wait."""
        cluster, before, now = self._cluster, self._cluster.health, self._clock.monotonic()
        cluster.well, cluster.unwell = frozenset(), frozenset(cluster.members)
        cluster.blackouts += 1
        cluster.set_health(
            before.assess(
                Assessment(Diagnosis.CUT_OFF, False, False, sent_at=now - self._rules.outage_after, now=now),
                self._rules,
            )
        )
        cluster.breakers.suspect()
        self._announce(before)

    def retry(self) -> None:
        """Ask again now: tests know when a member answers."""
        self._prober.revived.fire()

    def _announce(self, before: Health) -> None:
        """Tell all whom a verdict concerns."""
        cluster = self._cluster
        cluster.changed.fire()
        if cluster.health.quorum.closed and not before.quorum.closed:
            cluster.breakers.returned.fire()
        if cluster.health.state is not before.state or not before.decided:
            self._on_transition(before, cluster.health)

    def _interval(self, began: float, *, news: bool) -> float:
        """Return seconds from this round to the next; jittered, so that many clients do not probe in step."""
        cluster, rules = self._cluster, self._rules
        if not cluster.health.quorum.closed and cluster.health.quorum.good:
            return _CONFIRM_INTERVAL
        if cluster.health.quorum.closed and not cluster.breakers.suspected:
            return rules.idle_interval * (0.7 + 0.3 * self._cluster.random())
        pause = pause_after(
            self._prober.asked - self._asked,
            least=rules.outage_interval,
            news=news,
            diagnosis=cluster.health.diagnosis,
        )
        pause *= 0.8 + 0.2 * self._cluster.random()
        failing = cluster.health.quorum.failing_since
        left = math.inf if failing is None else failing + rules.outage_after + _MOMENT - began
        # The round that declares an outage comes when that is due.
        return left if 0 < left < 1.5 * pause else pause

    async def _pause(self, began: float) -> None:
        cluster = self._cluster
        if not cluster.health.quorum.closed or cluster.breakers.suspected:
            revived = self._prober.revived.next()
            await anyio.sleep(_CONFIRM_INTERVAL / 2)
            with anyio.move_on_after(max(0.0, cluster.breakers.retry_at - self._clock.monotonic())):
                await revived.wait()
            return
        interval = cluster.breakers.retry_at - self._clock.monotonic()
        while not cluster.breakers.suspected:
            # Real linearizable reads count as probes: each one puts the next probe off.
            newest = cluster.proof.sent_at if cluster.proof else began
            left = max(began, newest) + interval - self._clock.monotonic()
            if left <= 0:
                return
            await cluster.breakers.evidence.wait(left)
        await anyio.sleep(max(0.0, began + _CONFIRM_INTERVAL - self._clock.monotonic()))
