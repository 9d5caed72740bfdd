"""What is known about the members: shared by those who call etcd and the one who probes it.

Callers ask here whether a call may go out and to whom, and leave here what they saw. The monitor judges and
writes the verdict here. Nothing in this module waits for etcd.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import anyio
import anyio.lowlevel

from tideover.broadcast import Broadcast
from tideover.clock import Clock
from tideover.cluster.closing_budget import ClosingBudget
from tideover.cluster.in_flight import InFlightReads
from tideover.cluster.members import Members
from tideover.cluster.rules.breaker import Breaker
from tideover.cluster.rules.diagnosis import diagnosis_of
from tideover.cluster.rules.health import Health, sentence
from tideover.cluster.rules.round_trips import Burst
from tideover.cluster.timeline import Timeline
from tideover.errors import AuthenticationFailed, CircuitOpen
from tideover.store.faults import Fault, FaultKind
from tideover.store.operations import Lane, Op, Range
from tideover.types import Diagnosis, Header, HealthState

# Not an outage, and yet a reason to probe.
_SUSPICIOUS = frozenset({FaultKind.AUTHENTICATION, FaultKind.AUTH_TOKEN})
# What a write is refused with, and the alarm that is the reason.
_ALARMING = {FaultKind.NO_SPACE: "NOSPACE", FaultKind.CORRUPT: "CORRUPT"}
# Seconds before all members are asked once more, full jitter above a half; at the most while the monitor has not
# decided, and at the most where nothing comes of it although it finds all well.
_ROUND = 0.4
_VERDICT = 1.5
_VAIN = 4.0
# In a declared outage: seconds between two questions of all who ask beside the monitor, full jitter above 0.6; and
# the longest that one of them waits for its turn.
_TURN = 1.05
_LONGEST_TURN = 6.0
# Seconds: by less an answer lowers no estimate of a round trip, since limits are longer by far.
_NOTHING = 0.01
# Seconds for which proofs of one revision are as good as the first of them; those of probes are always announced.
_ANNOUNCED_EVERY = 0.1


@dataclass(frozen=True, slots=True)
class Proof:
    """A read that was answered.

    Attributes:
        sent_at: When it was sent, in monotonic seconds.
        header: Its answer's header.
    """

    sent_at: float
    header: Header


class ClusterState:
    """The two lanes, their breakers, and the member in use.

    Args:
        members: The members' names.
        active: The member to begin with.

    Attributes:
        roll: Who the members are.
        waiting: The reads under way.
        closing: How long what is closed may try to let etcd know.
        timeline: What has happened lately.
        health: Where the state machine stands; written by the monitor.
        active: The member in use: all calls go there as long as it answers.
        well: Members that answered when they were last asked.
        unwell: Members that did not.
        errors: For members that answered with an error, the newest one in words.
        proof: The newest linearizable read that was answered.
        heard: For members, the newest serializable read that was answered to a probe.
        versions: For members that answer, the version they told last.
        suspected: Whether something failed and the monitor has not yet said that all is well.
        suspected_at: When that began, in monotonic seconds; of no meaning while nothing is suspected.
        suspicions: How often something failed.
        alarms: What etcd has raised; None before the first answer.
        untold: What etcd does not tell this user, and why not, in words.
        blackouts: How often no member at all was found.
        retry_at: When the next probe is due, in monotonic seconds.
        changed: Fires when any of these changed.
        returned: Fires when a declared outage of the quorum is over.
        evidence: Fires when something failed.
        alarm_evidence: Fires when a write was refused for an alarm, or went through although there was one.
    """

    def __init__(
        self,
        members: Sequence[str],
        *,
        clock: Clock,
        active: str,
        random: Callable[[], float] = random.random,
    ) -> None:
        self.roll = Members(members)
        self.clock = clock
        self.random = random
        self.active = active
        self.waiting = InFlightReads(clock, self.suspect, self.limit)
        self.closing = ClosingBudget(clock.monotonic, lambda: not self.health.quorum.closed)
        self.timeline = Timeline(clock)
        self._round_trips: dict[str, Burst] = {}
        self.health = Health()
        self.well: frozenset[str] = frozenset()
        self.unwell: frozenset[str] = frozenset()
        self.errors: dict[str, str] = {}
        self.proof: Proof | None = None
        self.heard: dict[str, Proof] = {}
        self.versions: dict[str, str] = {}
        self.suspected = False
        self.suspected_at = 0.0
        self.suspicions = 0
        self.alarms: frozenset[str] | None = None
        self.untold: dict[str, str] = {}
        self.blackouts = 0
        self.retry_at = 0.0
        self._turn_at = -math.inf
        self._announced_at = -math.inf
        self.changed = Broadcast()
        self.returned = Broadcast()
        self.evidence = Broadcast()
        self.alarm_evidence = Broadcast()

    def __repr__(self) -> str:
        """Show the state, the diagnosis and the member in use."""
        return f"<ClusterState {self.health.state} ({self.health.diagnosis}), active {self.active}>"

    @property
    def members(self) -> tuple[str, ...]:
        """The members that may be asked; never empty."""
        return self.roll.members

    def begin(self, members: Sequence[str], active: str) -> None:
        """Begin with other members than were known first: names stand for addresses."""
        self.roll = Members(members)
        self.active = active

    def breaker(self, lane: Lane) -> Breaker:
        """Return a lane's breaker."""
        return self.health.quorum if lane is Lane.QUORUM else self.health.member

    @property
    def brief(self) -> str:
        """What is wrong, in words."""
        return sentence(self.health.diagnosis)

    @property
    def sentence(self) -> str:
        """What is wrong, in words, with what the members say if it takes that to put it right."""
        text, errors = self.brief, self.errors
        if self.health.diagnosis is Diagnosis.CUT_OFF:
            said: dict[str, list[str]] = {}
            for member in self.members:
                said.setdefault(errors.get(member, "silent"), []).append(member)
            grouped = (f"{', '.join(members)}: {error}" for error, members in said.items())
            return f"{text} ({'; '.join(grouped)})"
        if self.health.diagnosis is Diagnosis.UNAUTHORIZED and errors:
            return f"{text}: {next(iter(errors.values()))}"
        return text

    @property
    def unauthorized(self) -> bool:
        """Whether a quorum has been refusing this client's credentials for as long as an outage takes."""
        return self.health.diagnosis is Diagnosis.UNAUTHORIZED and not self.health.quorum.closed

    @property
    def outage_declared(self) -> bool:
        """Whether an outage of the quorum is declared, and it is no refusal of this client's credentials."""
        return not self.health.quorum.closed and not self.unauthorized

    @property
    def is_away(self) -> bool:
        """Whether etcd is away: an outage is declared, or about to be, and no leader change explains it."""
        health = self.health
        failing = health.quorum.failing_since is not None and health.diagnosis is not Diagnosis.UNAUTHORIZED
        return failing or self.outage_declared

    def admit(self, lane: Lane) -> None:
        """Let a call through, or refuse it without a packet.

        Args:
            lane: The lane it would travel in.

        Raises:
            CircuitOpen: An outage of this lane has been declared.
            AuthenticationFailed: That etcd refuses this client's credentials has been declared.
        """
        if not self.breaker(lane).closed:
            retry_after = max(0.0, self.retry_at - self.clock.monotonic())
            probed = f"next probe in {retry_after:.1f} s" if retry_after >= 0.05 else "it is being probed now"
            text = f"{self.sentence}; {probed}"
            if self.unauthorized:
                raise AuthenticationFailed(text)
            raise CircuitOpen(text, retry_after=retry_after)

    def pick(self, lane: Lane, avoid: Collection[str] = ()) -> str:
        """Choose whom to ask.

        Args:
            lane: The lane the call travels in.
            avoid: Members that have not answered this call.

        Returns:
            The active member, or another that is known to be well, or any that was not tried yet.
        """
        usable = self.health.quorum.closed or (lane is Lane.MEMBER and self.active in self.well)
        if usable and self.active not in avoid:
            return self.active
        preferred = [self.active] if usable else []
        well = (member for member in self.members if member in self.well)
        ranked = dict.fromkeys([*preferred, *well, *self.members])
        return next((m for m in ranked if m not in avoid), next(iter(ranked)))

    def took(self, member: str, seconds: float) -> None:
        """Record how long a member took to answer a small question, over a connection that was there."""
        known = self._round_trips.get(member, Burst())
        self._round_trips[member] = known.after(seconds, self.clock.monotonic())

    def measured(self, member: str) -> bool:
        """Whether it is known how long a member takes to answer."""
        return member in self._round_trips

    def answered(self, member: str, seconds: float) -> None:
        """Record how long an answer of any size took: the link takes no longer than that."""
        known = self._round_trips.get(member)
        if known is not None and (known.now.smoothed or 0.0) > seconds + _NOTHING:
            self._round_trips[member] = known.at_most(seconds)

    def limit(self, member: str, least: float) -> float:
        """Return how long to wait for a small answer; see `rules.round_trips`.

        Args:
            least: Seconds to wait where the link takes no time.
        """
        known = self._round_trips.get(member)
        return least if known is None else known.now.limit(least)

    def use(self, member: str) -> None:
        """Send calls to this member from now on; reads that wait for the former one are asked again."""
        left, self.active = self.active, member
        if left != member:
            self.waiting.abandon(left)

    def found(self, member: str, *, well: bool) -> None:
        """Record whether a member answers that was asked outside of the monitor's rounds.

        Args:
            well: Whether it does.
        """
        if member not in self.members or self.answers(member) is well:
            return
        self.well = self.well | {member} if well else self.well - {member}
        self.unwell = self.unwell - {member} if well else self.unwell | {member}
        self.forget_versions()
        self.changed.fire()

    def forget_versions(self) -> None:
        """Forget the versions of members that do not answer: they may come back as others."""
        for member in self.unwell & self.versions.keys():
            del self.versions[member]

    def known_versions(self) -> Mapping[str, str]:
        """Return the version of each member, by endpoint; empty if it is unknown."""
        return {member: self.versions.get(member, "") for member in self.members}

    def join(self, member: str, *, learned: bool) -> None:
        """Add a member that has just answered."""
        if member not in self.members:
            self.roll.add(member, learned=learned)
        self.found(member, well=True)

    def leave(self, member: str) -> None:
        """Forget a member, unless it is the last one."""
        others = [m for m in self.members if m != member]
        if not others or len(others) == len(self.members):
            return
        if self.active == member:
            self.use(next((m for m in others if m in self.well), others[0]))
        self.well, self.unwell = self.well - {member}, self.unwell - {member}
        self.errors.pop(member, None)
        self._round_trips.pop(member, None)
        self.heard.pop(member, None)
        self.versions.pop(member, None)
        self.roll.remove(member)
        self.changed.fire()

    def succeeded(self, op: Op[Any], sent_at: float, header: Header) -> None:
        """Record a call that was answered.

        Args:
            sent_at: When it was sent, in monotonic seconds.
            header: Its answer's header.
        """
        # A view that is compared would else have all others compared, and they it again.
        compares = isinstance(op, Range) and op.changed_since > 0
        if op.linearizable and not op.writes and not compares:
            self.prove(sent_at, header)

    def prove(self, sent_at: float, header: Header) -> None:
        """Publish a linearizable read as proof of what is current.

        It is announced if it tells more than the one before: a busy process has one with each answer, and looks at
        all that is followed for each that is announced.
        """
        before = self.proof
        if before is None or sent_at > before.sent_at:
            if self.roll.belong(header.cluster_id):
                for member in self.roll.learned:
                    self.leave(member)
            if before is not None:
                self._compare_terms(before, header)
            self.proof = Proof(sent_at, header)
            if before is None or header != before.header or sent_at - self._announced_at >= _ANNOUNCED_EVERY:
                self._announced_at = sent_at
                self.changed.fire()

    def _compare_terms(self, before: Proof, header: Header) -> None:
        """Note a leader change that was no outage: since the proof before, etcd was available throughout."""
        grown = header.cluster_id == before.header.cluster_id and header.raft_term > before.header.raft_term
        if grown and self.health.state is HealthState.AVAILABLE and before.sent_at > self.health.lost_at:
            since = self.suspected_at if self.suspected else None
            self.timeline.leader_changed(header.raft_term, since=since)

    def failed(self, fault: Fault) -> None:
        """Record a call that failed: evidence, upon which the monitor probes at once."""
        if fault.kind in _ALARMING:
            self.note_alarms((self.alarms or frozenset()) | {_ALARMING[fault.kind]})
            self.alarm_evidence.fire()
        if fault.outage or fault.kind in _SUSPICIOUS:
            self.suspect()

    @property
    def diagnosis_of_alarms(self) -> Diagnosis:
        """What a cluster that answers in time is called, for its alarms."""
        return diagnosis_of(self.alarms or ())

    def not_alarmed(self) -> None:
        """Record a write that an alarm would have stopped."""
        if self.alarms:
            self.note_alarms(frozenset())
            self.alarm_evidence.fire()

    def note_alarms(self, alarms: frozenset[str]) -> None:
        """Set the raised alarms; if the quorum answers, the diagnosis changes at once."""
        if alarms == self.alarms:
            return
        before, self.alarms = self.diagnosis_of_alarms, alarms
        if self.health.diagnosis is before:
            self.health = replace(self.health, diagnosis=self.diagnosis_of_alarms)
        self.changed.fire()

    def note_untold(self, what: str, why: str | None) -> bool:
        """Record what etcd refuses to tell this user, or with None that it does tell; say whether that is news."""
        before = self.untold.get(what)
        if why is None:
            self.untold.pop(what, None)
        else:
            self.untold[what] = why
        return (before is None) is not (why is None)

    def suspect(self) -> None:
        """Ask for a probe now."""
        if not self.suspected:
            self.suspected, self.suspected_at = True, self.clock.monotonic()
        self.suspicions += 1
        self.evidence.fire()

    def answers(self, member: str) -> bool | None:
        """Whether a member answered when it was last asked; None if that is not known."""
        return True if member in self.well else False if member in self.unwell else None

    async def settled(self, timeout: float) -> None:
        """Wait until the monitor has cleared the suspicion or declared an outage.

        Args:
            timeout: Seconds to wait at the most.
        """
        with anyio.move_on_after(timeout):
            while self.suspected and self.health.quorum.closed:
                await self.changed.wait()

    async def rest(
        self,
        tried: set[str],
        *,
        factor: float = 1.0,
        rounds: int = 0,
        everybody: bool = False,
    ) -> None:
        """Go on at once while there are members left; else wait a moment, and begin again with all of them.

        While the monitor suspects something it asks them already, so that the moment is as long as it takes to
        say more. In a declared outage a moment follows each member, and ends with the outage; calls rest one after
        the other, for the members have all of them to refuse.

        Args:
            tried: Who has been asked without success; emptied when all have been.
            factor: How many times longer to wait, as long as no outage is declared.
            rounds: How often all of them have been asked without success before; each time doubles the moment.
            everybody: Whether one has spoken for all of them: a quorum has refused.
        """
        declared = not self.health.quorum.closed
        everybody = everybody or len(tried) >= len(self.members)
        if not everybody and not declared:
            await anyio.lowlevel.checkpoint()
            return
        if everybody:
            tried.clear()
        chance = self.random()
        jitter = 0.5 + 0.5 * chance
        if declared:
            now = self.clock.monotonic()
            turn_at = max(self._turn_at, now) + _TURN * (0.6 + 0.4 * chance)
            self._turn_at = min(turn_at, now + _LONGEST_TURN)
            await self.returned.wait(self._turn_at - now)
            return
        await anyio.sleep(min(_ROUND * factor * 2.0 ** min(rounds, 10), _VAIN) * jitter)
        await self.settled(_VERDICT * jitter)

    async def outage_over(self) -> None:
        """Wait until no outage of the quorum is declared."""
        while not self.health.quorum.closed:
            await self.returned.wait()

    async def wait_for(self, state: HealthState) -> None:
        """Wait until the health state is `state`."""
        while self.health.state is not state:
            await self.changed.wait()
