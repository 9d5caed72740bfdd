"""The health state machine: from rounds of probes to one of three states, without flapping.

    AVAILABLE    <- the quorum lane is closed
    DEGRADED     <- the quorum lane is open, the member lane is closed
    UNAVAILABLE  <- both are open, or no member has been asked yet

A lane opens when its probes have failed for `outage_after`; a leader change does not count towards that. At
the start there is nothing to protect from flapping, so the very first round decides.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from tideover.cluster.breakers.breaker import Breaker
from tideover.cluster.rules.health import sentence
from tideover.types import Diagnosis, HealthState


@dataclass(frozen=True, slots=True)
class HealthRules:
    """The numbers of the state machine, in seconds.

    Attributes:
        outage_after: Of failing before an outage is declared.
        leader_change: That a leader change may take before it counts as failing.
        slow_after: Within which a probe must be answered.
        idle_interval: Between probes while all is well, at the most.
        outage_interval: Between rounds of probes while it is not.
        touch_every: Between two questions to each member that is not in use: etcd's simple tokens expire at each
            member that does not see them, and after the loss of the quorum nothing renews them. Infinite where
            etcd knows no user.
        start_patience: That the first round waits for any member to answer; 0 means `slow_after`.

    Raises:
        ValueError: A number is not positive.
    """

    outage_after: float = 3.0
    leader_change: float = 2.0
    slow_after: float = 0.5
    idle_interval: float = 5.0
    outage_interval: float = 0.5
    touch_every: float = math.inf
    start_patience: float = 0.0

    def __post_init__(self) -> None:
        """Reject numbers that cannot work."""
        for name in ("outage_after", "leader_change", "slow_after", "idle_interval", "outage_interval"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be more than 0 seconds, not {getattr(self, name)}")


@dataclass(frozen=True, slots=True)
class Assessment:
    """One round of probes: was a linearizable read answered in time, and any serializable one?"""

    diagnosis: Diagnosis
    quorum_ok: bool
    member_ok: bool
    sent_at: float
    now: float


@dataclass(frozen=True, slots=True)
class Health:
    """The state of the state machine.

    Attributes:
        diagnosis: Of the last round; may be LEADER_CHANGE while the state is still AVAILABLE.
        since: When the present state began, in monotonic seconds.
        lost_at: When the state last left AVAILABLE; a proof sent before that proves nothing now.
        quorum: The breaker of linearizable reads and writes.
        member: The breaker of serializable reads.
        decided: Whether a first round has been judged.
        unauthorized: Whether a quorum has been refusing this client's credentials for as long as an outage takes.
        outage_declared: Whether an outage of the quorum is declared, and it is no refusal of these credentials.
        is_away: Whether an outage is declared, or about to be, and no leader change explains it.
    """

    state: HealthState = HealthState.UNAVAILABLE
    diagnosis: Diagnosis = Diagnosis.STARTING
    since: float = 0.0
    lost_at: float = -math.inf
    quorum: Breaker = field(default_factory=lambda: Breaker(close_after=2))
    member: Breaker = field(default_factory=Breaker)
    decided: bool = False
    unauthorized: bool = field(init=False, repr=False, compare=False)
    outage_declared: bool = field(init=False, repr=False, compare=False)
    is_away: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Compute what every call asks."""
        refused, declared = self.diagnosis is Diagnosis.UNAUTHORIZED, not self.quorum.closed
        failing = self.quorum.failing_since is not None
        object.__setattr__(self, "unauthorized", declared and refused)
        object.__setattr__(self, "outage_declared", declared and not refused)
        object.__setattr__(self, "is_away", (failing or declared) and not refused)

    @property
    def brief(self) -> str:
        """What is wrong, in words."""
        return sentence(self.diagnosis)

    def assess(self, seen: Assessment, rules: HealthRules) -> Health:
        """Return the health after a round of probes; `since` moves only if the state changed."""
        trip_after = rules.outage_after if self.decided else 0.0
        excused = self.decided and seen.diagnosis is Diagnosis.LEADER_CHANGE
        if seen.quorum_ok:
            quorum = self.quorum.passed()
        elif excused:
            quorum = self.quorum.excused()
        else:
            quorum = self.quorum.failed(seen.sent_at, seen.now, trip_after=trip_after)
        if seen.member_ok:
            member = self.member.passed()
        else:
            # A quorum that is given up while no member answers is given up with them: no client is half there.
            given_up = self.quorum.closed and not quorum.closed
            member = self.member.failed(seen.sent_at, seen.now, trip_after=0.0 if given_up else trip_after)
        # A quorum cannot be lost less than its last member: no gap in which no member answers and yet all is well.
        if quorum.closed:
            state = HealthState.AVAILABLE
        elif quorum.good:
            # Half open: the next good probe makes it AVAILABLE. Not a state of its own for a tenth of a second.
            state = self.state
        elif member.closed:
            state = HealthState.DEGRADED
        else:
            state = HealthState.UNAVAILABLE
        lost = self.state is HealthState.AVAILABLE and state is not HealthState.AVAILABLE
        since = self.since if self.decided and state is self.state else seen.now
        return replace(
            self,
            state=state,
            diagnosis=seen.diagnosis,
            since=since,
            lost_at=seen.now if lost else self.lost_at,
            quorum=quorum,
            member=member,
            decided=True,
        )
