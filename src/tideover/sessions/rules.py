"""When a lease may be believed in: pure decisions about deadlines and proofs.

*Guarantee.* Until its deadline, by the boot-time clock, no other owner can have what stands under the lease,
however slow, late or wrong the answers are. *Not guaranteed*: etcd may take a living lease away early, when a
paused leader wakes up and revokes what had expired on its own clock. No arithmetic helps; the watch on our own key
tells, and fencing tokens make it harmless (docs/explanation/leases-and-deadlines.md has the measurements).

An acknowledged renewal is no proof. A member that was paused while another leader was elected answers from its own
table, and so does one that is cut off from the others. A renewal is proven when a linearizable read, made *after*
its acknowledgement at the *same* member, shows a key of ours under the lease, and both answers carry the same
member id and raft term: then that member, or the leader it had passed the renewal on to, still ruled.

There is one witness of the contrary: a linearizable read, or a watch, in which our key is gone. A member that
denies the lease is none; it may just not know it yet.

Prior art: Gray and Cheriton, "Leases" (SOSP 1989), for counting from the moment of sending with a margin for the
clocks' rates; etcd #15247 for what goes wrong with leases alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from enum import StrEnum

from tideover.types import Header, SessionState

# Seconds for a renewal and its proof together.
RPC_TIMEOUT = 1.0
# Seconds; etcd grants no longer lease (`MaxLeaseTTL` in its `lease/lessor.go`).
_LONGEST = 9_000_000_000


@dataclass(frozen=True, slots=True)
class LeaseRules:
    """The numbers of one lease, in seconds.

    Raises:
        TypeError: `ttl` is not a whole number.
        ValueError: `ttl` leaves no room for one failed renewal and one good one before the deadline, or is longer
            than any lease.
    """

    ttl: int  # whole, because etcd counts in whole seconds
    rpc_timeout: float = RPC_TIMEOUT  # for a renewal and its proof together, and what the link takes
    renew_interval: float = field(init=False, repr=False, compare=False)  # from one to the next

    def __post_init__(self) -> None:
        """Reject numbers that cannot work."""
        if isinstance(self.ttl, bool) or not isinstance(self.ttl, int):
            raise TypeError(f"ttl must be a whole number of seconds, not {self.ttl!r}")
        if abs(self.ttl) > _LONGEST:
            raise ValueError(f"ttl must be at most {_LONGEST:,} s, the longest lease that etcd grants")
        object.__setattr__(self, "renew_interval", self.ttl / 3)
        needed = 2 * self.rpc_timeout + self.renew_interval + self.margin
        if not self.ttl > needed:
            raise ValueError(
                f"ttl must be more than 2 * rpc_timeout + renew_interval + margin = {needed:.2f} s, "
                f"not {self.ttl} s: else a single renewal that fails costs the session"
            )

    @property
    def longest_rpc(self) -> float:
        """Seconds that a renewal and its proof may take on any link: two of them have room before the deadline."""
        return (self.ttl - self.renew_interval - self.margin) / 2

    @property
    def margin(self) -> float:
        """Seconds by which the deadline precedes the lease's end: for clocks that run at different rates."""
        return max(1.0, self.ttl / 10)


@dataclass(frozen=True, slots=True)
class Lease:
    """What is known about one lease. All times are seconds of the boot-time clock."""

    rules: LeaseRules
    granted: float  # by etcd
    sent_at: float  # when the last renewal that is proven was sent, or the grant
    acknowledged: float = math.inf  # the TTL in the answer to it
    strict: bool = False  # whether passing the deadline is the end of the lease, for good
    failing: str | None = None  # why the newest renewal is not proven; None if it is
    over: str | None = None  # why the lease has ended; None while it has not
    deadline: float = field(init=False, repr=False, compare=False)  # until when to believe in the lease

    def __post_init__(self) -> None:
        """Work out the deadline once: it is compared with the clock far more often than it moves."""
        shortest = min(self.rules.ttl, self.granted, self.acknowledged)
        object.__setattr__(self, "deadline", self.sent_at + shortest - self.rules.margin)

    def state(self, now: float) -> SessionState:
        """Return its state; see `SessionState`."""
        if self.at(now).over is not None:
            return SessionState.LOST
        return SessionState.SUSPENDED if self.failing or now >= self.deadline else SessionState.ALIVE

    def at(self, now: float) -> Lease:
        """Return it as it stands at a time: a strict one ends with its deadline."""
        if self.strict and self.over is None and now >= self.deadline:
            return self.ended(self._unproven_until_deadline())
        return self

    def doubt(self, now: float) -> str | None:
        """Return why it may not be believed in at a time; None if it may."""
        over = self.at(now).over
        if over is not None:
            return over
        return self._unproven_until_deadline() if now >= self.deadline else None

    def proven(self, sent_at: float, acknowledged: float, *, now: float) -> Lease:
        """Return the lease after a renewal that was proven; `acknowledged` is the TTL in the answer."""
        lease = self.at(now)
        if lease.over is not None or sent_at < lease.sent_at:
            return lease
        return Lease(self.rules, self.granted, sent_at, acknowledged, self.strict)

    def unproven(self, why: str, *, now: float) -> Lease:
        """Return the lease after a renewal that was not proven: it moves nothing."""
        lease = self.at(now)
        return lease if lease.over is not None else replace(lease, failing=why)

    def ended(self, why: str) -> Lease:
        """Return the lease after its end; the first reason counts."""
        return self if self.over is not None else replace(self, over=why)

    def _unproven_until_deadline(self) -> str:
        why = f": {self.failing}" if self.failing else ", or this process or machine stood still"
        return f"no renewal could be proven until the deadline{why}"


class Verdict(StrEnum):
    """What a renewal and the read after it say together."""

    PROVEN = "proven"
    UNPROVEN = "unproven"
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict with its reason."""

    verdict: Verdict
    why: str = ""  # in words; empty if all is well


_PROVEN = Judgement(Verdict.PROVEN)


def judge(*, ttl: int, acknowledged: Header, read: Header, shown: bool, known: Header) -> Judgement:
    """Say what a renewal is worth, by the headers of its acknowledgement and of a linearizable read made after it.

    `ttl` is in the acknowledgement; `shown` says whether that read shows our key, as we have created it and under
    the lease; `known` is the newest header known to be of the quorum before the read was sent.
    """
    reset = reset_between(known, read)
    if reset is not None:
        return Judgement(Verdict.GONE, reset)
    if not shown:
        return Judgement(Verdict.GONE, f"its key is gone at revision {read.revision}: etcd has ended the lease")
    if read.raft_term < known.raft_term:
        # After catching up from a snapshot a member says the term of before. A reset is not for us to announce.
        return Judgement(Verdict.UNPROVEN, f"term {read.raft_term} was answered after {known.raft_term}")
    if acknowledged.member_id != read.member_id:
        return Judgement(Verdict.UNPROVEN, "two members answered where one was asked")
    if acknowledged.raft_term != read.raft_term:
        words = f"the acknowledgement is of term {acknowledged.raft_term}, and term {read.raft_term} rules"
        return Judgement(Verdict.UNPROVEN, words)
    if ttl <= 0:
        return Judgement(Verdict.UNPROVEN, "the member does not know the lease, but the quorum shows its key")
    return _PROVEN


def reset_between(known: Header, now: Header) -> str | None:
    """Return why an answer is of another cluster or history than a header of the quorum; None if it is not.

    Within one history a linearizable answer never has a lower revision than what was known before it was asked
    for. It may have a lower term, see `epoch.marker.catch_up`; what that means is decided in `epoch.tracker`.
    """
    if now.cluster_id != known.cluster_id:
        return f"this is another cluster: id {now.cluster_id:x} instead of {known.cluster_id:x}"
    if now.revision < known.revision:
        return f"this is another history: revision {now.revision} after {known.revision}"
    return None


def newest_of(known: Header, seen: Header) -> Header:
    """Return what is known of the quorum after one more linearizable answer of the same history."""
    term, revision = max(known.raft_term, seen.raft_term), max(known.revision, seen.revision)
    if term == known.raft_term and revision == known.revision:
        return known
    return Header(known.cluster_id, known.member_id, term, revision)
