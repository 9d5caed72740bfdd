"""What is known about the members: shared by those who call etcd and the one who probes it.

Callers ask here whether a call may go out and to whom, and leave here what they saw. The monitor judges and
writes the verdict here. Nothing in this module waits for etcd.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tideover.broadcast import Broadcast
from tideover.clock import Clock
from tideover.cluster.breakers.breakers import Breakers
from tideover.cluster.breakers.state_machine import Health
from tideover.cluster.closing_budget import ClosingBudget
from tideover.cluster.in_flight import InFlightReads
from tideover.cluster.members import Members
from tideover.cluster.rules.diagnosis import diagnosis_of
from tideover.cluster.rules.round_trips import Burst
from tideover.cluster.timeline import Timeline
from tideover.store.faults import Fault, FaultKind
from tideover.store.operations import Lane, Op, Range
from tideover.types import Diagnosis, Header, HealthState

# Not an outage, and yet a reason to probe.
_SUSPICIOUS = frozenset({FaultKind.AUTHENTICATION, FaultKind.AUTH_TOKEN})
# What a write is refused with, and the alarm that is the reason.
_ALARMING = {FaultKind.NO_SPACE: "NOSPACE", FaultKind.CORRUPT: "CORRUPT"}
# Seconds: by less an answer lowers no estimate of a round trip, since limits are longer by far.
_NOTHING = 0.01
# Seconds for which proofs of one revision are as good as the first of them; those of probes are always announced.
_ANNOUNCED_EVERY = 0.1


@dataclass(frozen=True, slots=True)
class Proof:
    """A read that was answered, and when it was sent, in monotonic seconds."""

    sent_at: float
    header: Header


class ClusterState:
    """What is known of the members and their alarms, and the member in use.

    Many attributes: all tasks of the cluster meet here, and each fact has one writer.

    Attributes:
        closing: How long what is closed may try to let etcd know.
        active: The member in use: all calls go there as long as it answers.
        well: Members that answered when they were last asked; `unwell` those that did not.
        errors: For members that answered with an error, the newest one in words.
        proof: The newest linearizable read that was answered.
        heard: For members, the newest serializable read that was answered to a probe.
        versions: For members that answer, the version they told last.
        alarms: What etcd has raised; None before the first answer.
        untold: What etcd does not tell this user, and why not, in words.
        blackouts: How often no member at all was found.
        changed: Fires when any of these changed.
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
        self.changed = Broadcast()
        # Plain, and the breakers' own: every call reads it.
        self.health = Health()
        self.breakers = Breakers(self.roll, clock=clock, random=random, changed=self.changed)
        self.waiting = InFlightReads(clock, self.breakers.suspect, self.limit)
        self.closing = ClosingBudget(clock.monotonic, lambda: not self.health.quorum.closed)
        self.timeline = Timeline(clock)
        self._round_trips: dict[str, Burst] = {}
        self.well: frozenset[str] = frozenset()
        self.unwell: frozenset[str] = frozenset()
        self.errors: dict[str, str] = {}
        self.proof: Proof | None = None
        self.heard: dict[str, Proof] = {}
        self.versions: dict[str, str] = {}
        self.alarms: frozenset[str] | None = None
        self.untold: dict[str, str] = {}
        self.blackouts = 0
        self._announced_at = 0.0
        self.alarm_evidence = Broadcast()

    def __repr__(self) -> str:
        """Show the state, the diagnosis and the member in use."""
        return f"<ClusterState {self.health.state} ({self.health.diagnosis}), active {self.active}>"

    def set_health(self, health: Health) -> None:
        """Set the state of the state machine, with the breaker of each lane."""
        self.health = self.breakers.health = health

    @property
    def members(self) -> tuple[str, ...]:
        """The members that may be asked; never empty."""
        return self.roll.members

    def begin(self, members: Sequence[str], active: str) -> None:
        """Begin with other members than were known first: names stand for addresses."""
        self.roll.given, self.active = tuple(members), active

    @property
    def sentence(self) -> str:
        """What is wrong, in words, with what the members say if it takes that to put it right."""
        text, errors = self.health.brief, self.errors
        if self.health.diagnosis is Diagnosis.CUT_OFF:
            said: dict[str, list[str]] = {}
            for member in self.members:
                said.setdefault(errors.get(member, "silent"), []).append(member)
            grouped = (f"{', '.join(members)}: {error}" for error, members in said.items())
            return f"{text} ({'; '.join(grouped)})"
        if self.health.diagnosis is Diagnosis.UNAUTHORIZED and errors:
            return f"{text}: {next(iter(errors.values()))}"
        return text

    def admit(self, lane: Lane) -> None:
        """Let a call through, or refuse it without a packet; see `Breakers.refuse` for what that raises."""
        if not (self.health.quorum if lane is Lane.QUORUM else self.health.member).closed:
            self.breakers.refuse(self.sentence)

    def pick(self, lane: Lane, avoid: Collection[str] = ()) -> str:
        """Choose whom to ask: the active member, or one known to be well, or any that is not in `avoid`."""
        usable = self.health.quorum.closed or (lane is Lane.MEMBER and self.active in self.well)
        if usable and self.active not in avoid:
            return self.active
        preferred = [self.active] if usable else []
        well = (member for member in self.members if member in self.well)
        ranked = dict.fromkeys([*preferred, *well, *self.members])
        return next((m for m in ranked if m not in avoid), next(iter(ranked)))

    def record_round_trip(self, member: str, seconds: float) -> None:
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
        """Return seconds to wait for a small answer, `least` where the link takes none (`rules.round_trips`)."""
        known = self._round_trips.get(member)
        return least if known is None else known.now.limit(least)

    def set_active(self, member: str) -> None:
        """Send calls to this member from now on; reads that wait for the former one are asked again."""
        left, self.active = self.active, member
        if left != member:
            self.waiting.abandon(left)

    def mark_member(self, member: str, *, well: bool) -> None:
        """Record whether a member answers that was asked outside of the monitor's rounds."""
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
        self.mark_member(member, well=True)

    def leave(self, member: str) -> None:
        """Forget a member, unless it is the last one."""
        others = [m for m in self.members if m != member]
        if not others or len(others) == len(self.members):
            return
        if self.active == member:
            self.set_active(next((m for m in others if m in self.well), others[0]))
        self.well, self.unwell = self.well - {member}, self.unwell - {member}
        for known in self.errors, self._round_trips, self.heard, self.versions:
            known.pop(member, None)
        self.roll.remove(member)
        self.changed.fire()

    def succeeded(self, op: Op[Any], sent_at: float, header: Header) -> None:
        """Record a call that was answered."""
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
            since = self.breakers.suspected_at if self.breakers.suspected else None
            self.timeline.leader_changed(header.raft_term, since=since)

    def failed(self, fault: Fault) -> None:
        """Record a call that failed: evidence, upon which the monitor probes at once."""
        if fault.kind in _ALARMING:
            self.set_alarms((self.alarms or frozenset()) | {_ALARMING[fault.kind]})
            self.alarm_evidence.fire()
        if fault.outage or fault.kind in _SUSPICIOUS:
            self.breakers.suspect()

    @property
    def diagnosis_of_alarms(self) -> Diagnosis:
        """What a cluster that answers in time is called, for its alarms."""
        return diagnosis_of(self.alarms or ())

    def not_alarmed(self) -> None:
        """Record a write that an alarm would have stopped."""
        if self.alarms:
            self.set_alarms(frozenset())
            self.alarm_evidence.fire()

    def set_alarms(self, alarms: frozenset[str]) -> None:
        """Set the raised alarms; if the quorum answers, the diagnosis changes at once."""
        if alarms == self.alarms:
            return
        before, self.alarms = self.diagnosis_of_alarms, alarms
        if self.health.diagnosis is before:
            self.set_health(replace(self.health, diagnosis=self.diagnosis_of_alarms))
        self.changed.fire()

    def record_untold(self, what: str, why: str | None) -> bool:
        """Record what etcd refuses to tell this user, or with None that it does tell; say whether that is news."""
        before = self.untold.get(what)
        if why is None:
            self.untold.pop(what, None)
        else:
            self.untold[what] = why
        return (before is None) is not (why is None)

    def answers(self, member: str) -> bool | None:
        """Whether a member answered when it was last asked; None if that is not known."""
        return True if member in self.well else False if member in self.unwell else None
