"""What one session knows of its lease, shared by those who renew it, watch it, and write under it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from tideover.broadcast import Broadcast
from tideover.clock import Clock
from tideover.errors import SessionLost
from tideover.sessions.key import LeasedKey, Notice
from tideover.sessions.rules import Lease, LeaseRules, newest_of, reset_between
from tideover.types import Header, SessionState


class LeaseState:
    """One lease, from its grant to its end.

    `turned` is called when the lease is in doubt, out of doubt again, or over, with None, and when the lease is
    renewed elsewhere from now on, with the member that it has left.
    """

    def __init__(
        self, lease: Lease, *, lease_id: int, anchor: LeasedKey, known: Header, clock: Clock, member: str
    ) -> None:
        self.lease_id = lease_id
        self.anchor = anchor  # the session's own key: there as long as the lease is, and so the witness of it
        self.lost = Notice()  # given when the lease has ended, for good
        self.changed = Broadcast()  # fires whenever any of this changed
        self.on_change: Callable[[], object] = _nothing  # called whenever any of this changed, in any thread
        self.on_hurry: Callable[[], object] = _nothing  # called when there is reason not to wait for a renewal
        self.proven_at = lease.sent_at  # when the last proof came in, in boot-time seconds
        self.turned: Callable[[LeaseState, str | None], object] = lambda lease, left: None
        self._lease = lease
        # Of terms only proven ones count: a member about to stand for election may show one that never rules.
        self._known = replace(known, raft_term=0)
        self._clock = clock
        self._member = member

    @property
    def lease(self) -> Lease:
        """What is known about the lease now. Changes nothing, so that any thread may ask."""
        return self._lease.at(self._clock.boot())

    @property
    def failing(self) -> bool:
        """Whether the newest renewal is not proven."""
        return self._lease.failing is not None

    @property
    def deadline(self) -> float:
        """Until when the lease may be believed in, unless it has ended; in boot-time seconds."""
        return self._lease.deadline

    @property
    def sent_at(self) -> float:
        """When the last renewal that is proven was sent, or the grant, in boot-time seconds."""
        return self._lease.sent_at

    @property
    def rules(self) -> LeaseRules:
        """The lease's numbers."""
        return self._lease.rules

    @property
    def state(self) -> SessionState:
        """The state now."""
        return self.lease.state(self._clock.boot())

    @property
    def left(self) -> float:
        """Seconds until the deadline; negative after it."""
        return self._lease.deadline - self._clock.boot()

    @property
    def known(self) -> Header:
        """The newest that is known of the quorum."""
        return self._known

    @property
    def member(self) -> str:
        """The member at which the lease is renewed."""
        return self._member

    def settle(self) -> None:
        """Give notice of the loss, if the deadline of a strict lease has passed."""
        over = self.lease.over
        if over is not None and not self.lost:
            self.end(over)

    def loss(self) -> SessionLost | None:
        """Return why what stands under the lease may not be believed in now; None if it may."""
        now = self._clock.boot()
        if self._lease.over is None and now < self._lease.deadline:
            return None
        lease = self._lease.at(now)
        doubt = lease.doubt(now)
        if doubt is None:
            return None
        return SessionLost(f"session {self.lease_id:x}: {doubt}", definite=lease.over is not None)

    def prove(self, sent_at: float, acknowledged: float, header: Header) -> None:
        """Record a proven renewal: when it was sent, in boot-time seconds, and the TTL that was acknowledged."""
        was_failing = self.failing
        self.proven_at = self._clock.boot()
        self._known = newest_of(self._known, header)
        self._lease = self._lease.proven(sent_at, acknowledged, now=self.proven_at)
        self._announce()
        if was_failing:
            self.turned(self, None)

    def doubt(self, why: str) -> None:
        """Record that a renewal was not proven, and why."""
        if self._lease.failing != why:
            self._lease = self._lease.unproven(why, now=self._clock.boot())
            self._announce()
            self.turned(self, None)

    def learn(self, header: Header, known: Header) -> None:
        """Record the header of a linearizable answer; one of another history ends the lease.

        `known` is the header that was known when the question was sent.
        """
        if header.cluster_id == known.cluster_id and header.revision >= known.revision:
            # The usual answer, of the same history. Its term says nothing: see `rules`.
            if header.revision > self._known.revision:
                known = self._known
                self._known = Header(known.cluster_id, known.member_id, known.raft_term, header.revision)
            return
        reset = reset_between(known, header)
        if reset is not None:
            self.end(reset)

    def move(self, member: str) -> None:
        """Renew at another member from now on."""
        if member != self._member:
            left, self._member = self._member, member
            self._announce()
            self.turned(self, left)

    def hasten(self) -> None:
        """Let the lease be proven now: something is the matter."""
        self.on_hurry()

    def end(self, why: str) -> None:
        """Record a definite no, or that the owner has closed the session."""
        self._lease = self._lease.at(self._clock.boot()).ended(why)
        self.lost.give(self._lease.over or why)
        self.anchor.gone.give(why)
        self._announce()
        self.turned(self, None)

    def _announce(self) -> None:
        self.changed.fire()
        self.on_change()


def _nothing() -> None:
    pass
