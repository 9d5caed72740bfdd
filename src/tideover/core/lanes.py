"""What is known about the members: shared by those who call etcd and the one who probes it.

Callers ask here whether a call may go out and to whom, and leave here what they saw. The monitor judges and
writes the verdict here. Nothing in this module waits for etcd.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import anyio

from tideover.clock import Clock
from tideover.core.signal import Signal
from tideover.errors import AuthenticationFailed, CircuitOpen
from tideover.etcd.faults import Fault, FaultKind
from tideover.etcd.store import Lane
from tideover.records import Diagnosis, Header, HealthState
from tideover.resilience.breaker import Breaker
from tideover.resilience.health import Health, sentence

# Not an outage, and yet a reason to probe.
_SUSPICIOUS = frozenset({FaultKind.NO_SPACE, FaultKind.AUTHENTICATION, FaultKind.AUTH_TOKEN})


@dataclass(frozen=True, slots=True)
class Proof:
    """A linearizable read that was answered.

    Attributes:
        sent_at: When it was sent, in monotonic seconds.
        header: Its answer's header.
    """

    sent_at: float
    header: Header


class Lanes:
    """The two lanes, their breakers, and the member in use.

    Args:
        members: The members' names.
        clock: The clocks.
        active: The member to begin with.

    Attributes:
        health: Where the state machine stands; written by the monitor.
        active: The member in use: all calls go there as long as it answers.
        well: Members that answered when they were last asked.
        unwell: Members that did not.
        errors: For members that answered with an error, the newest one in words.
        proof: The newest linearizable read that was answered.
        suspected: Whether something failed and the monitor has not yet said that all is well.
        no_space: Whether the last verdict on a write was that the quota is used up.
        blackouts: How often no member at all was found.
        retry_at: When the next probe is due, in monotonic seconds.
        changed: Fires when any of these changed.
        evidence: Fires when something failed.
    """

    def __init__(self, members: Sequence[str], *, clock: Clock, active: str) -> None:
        self.members = tuple(members)
        self.clock = clock
        self.active = active
        self.health = Health()
        self.well: frozenset[str] = frozenset()
        self.unwell: frozenset[str] = frozenset()
        self.errors: dict[str, str] = {}
        self.proof: Proof | None = None
        self.suspected = False
        self.no_space = False
        self.blackouts = 0
        self.retry_at = 0.0
        self.changed = Signal()
        self.evidence = Signal()

    def __repr__(self) -> str:
        """Show the state, the diagnosis and the member in use."""
        return f"<Lanes {self.health.state} ({self.health.diagnosis}), active {self.active}>"

    def breaker(self, lane: Lane) -> Breaker:
        """Return a lane's breaker."""
        return self.health.quorum if lane is Lane.QUORUM else self.health.member

    @property
    def sentence(self) -> str:
        """What is wrong, in words, with what the members say if it takes that to put it right."""
        text, errors = sentence(self.health.diagnosis), self.errors
        if self.health.diagnosis is Diagnosis.CUT_OFF:
            said = (f"{member}: {errors.get(member, 'silent')}" for member in self.members)
            return f"{text} ({'; '.join(said)})"
        if self.health.diagnosis is Diagnosis.UNAUTHORIZED and errors:
            return f"{text}: {next(iter(errors.values()))}"
        return text

    @property
    def unauthorized(self) -> bool:
        """Whether a quorum has been refusing this client's credentials for as long as an outage takes."""
        return self.health.diagnosis is Diagnosis.UNAUTHORIZED and not self.health.quorum.closed

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
            text = f"{self.sentence}; next probe in {retry_after:.1f} s"
            if self.unauthorized:
                raise AuthenticationFailed(text)
            raise CircuitOpen(text, retry_after=retry_after)

    def pick(self, lane: Lane, avoid: Collection[str] = ()) -> str:
        """Choose whom to ask.

        Args:
            lane: The lane the call travels in.
            avoid: Members that this call has tried in vain.

        Returns:
            The active member, or another that is known to be well, or any that was not tried yet.
        """
        usable = self.health.quorum.closed or (lane is Lane.MEMBER and self.active in self.well)
        if usable and self.active not in avoid:
            return self.active
        preferred = [self.active] if usable else []
        ranked = dict.fromkeys([*preferred, *sorted(self.well, key=self.members.index), *self.members])
        return next((m for m in ranked if m not in avoid), next(iter(ranked)))

    def succeeded(self, lane: Lane, sent_at: float, header: Header, *, wrote: bool) -> None:
        """Take in a call that was answered.

        Args:
            lane: The lane it travelled in.
            sent_at: When it was sent, in monotonic seconds.
            header: Its answer's header.
            wrote: Whether it was a write.
        """
        if wrote:
            self.no_space = False
        elif lane is Lane.QUORUM:
            self.prove(sent_at, header)

    def prove(self, sent_at: float, header: Header) -> None:
        """Publish a linearizable read as proof of what is current."""
        if self.proof is None or sent_at > self.proof.sent_at:
            self.proof = Proof(sent_at, header)
            self.changed.fire()

    def failed(self, fault: Fault) -> None:
        """Take in a call that failed: evidence, upon which the monitor probes at once.

        Args:
            fault: What it means.
        """
        if fault.kind is FaultKind.NO_SPACE:
            self.no_space = True
        if fault.outage or fault.kind in _SUSPICIOUS:
            self.suspect()

    def suspect(self) -> None:
        """Ask for a probe now."""
        self.suspected = True
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

    async def wait_for(self, state: HealthState) -> None:
        """Wait until the health state is `state`."""
        while self.health.state is not state:
            await self.changed.wait()
