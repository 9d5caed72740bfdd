"""When a candidate may trust that it holds a record, and when it may take one over: a pure state machine.

A record is a key in etcd, changed only by compare-and-swap on its revision. Its holder renews it; challengers
watch for a record that stands still.

Guarantee: at most one candidate trusts a record at a time, as long as no clock drifts by more than the margin
within a ttl. The rules:

1.  A holder trusts its record until its last successful renewal was *sent*, plus ttl, minus margin. That renewal
    was applied later than it was sent, so
2.  a challenger comes later if it sees the renewed record, waits ttl plus margin on its own clock, and swaps only
    an unchanged record. The wait starts at the first look's *answer*: the look itself happened before.
3.  Holders stay: a challenger whose linearizable reads had a gap longer than ttl / 3 restarts its wait. What kept
    the challenger from reading may have kept the holder from renewing.
4.  A write whose answer is lost may be applied at once, ten seconds later or never. Each write carries a random
    word, and all writes against one revision carry the same word: at most one of them can win. If the next look
    shows that word, the candidate holds the record at its new revision (*adopted*). The deadline stays: the time
    of that write is unknown. The renewal that follows at once moves the deadline.
5.  A missing record may have been deleted under a living holder. So a candidate first *founds* the record, without
    a holder, and then takes it over like any other; at once only if etcd's history shows no earlier record.
6.  The token key changes only with the record's holder, and a renewal compares both. A token that was deleted or
    overwritten is a definite no: etcd refuses all that is fenced by it. The candidate still holds the record, and
    takes it again at once, with a larger token, since all later revisions are larger.

Under the policy "peers" the other candidates may confirm a holder (`failsafe`), so:

7.  A candidate that has promised not to take over takes nothing, does not lead by what it took meanwhile, does not
    vacate the record, and restarts its wait when the promise ends; unless the promised holder itself vacates it.
8.  The record lists the candidates that are asked. A candidate that is not listed waits for the longest time for
    which a holder may be confirmed.

Not guaranteed: anything, if a clock drifts by more than the margin; a fencing token then protects what is written.

Prior art: Gray and Cheriton, "Leases" (SOSP 1989), here without a lease in the store; client-go's `leaderelection`
for the local clocks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from enum import StrEnum

# Seconds, some thirty years: what is added to them stays a time.
LONGEST = 1e9


@dataclass(frozen=True, slots=True)
class Timing:
    """The durations of a record, in seconds.

    Raises:
        TypeError: A duration is not a number.
        ValueError: One failed renewal would lose the record.
    """

    ttl: float  # for how long a renewal holds
    rpc_timeout: float = 1.0  # for one attempt at one member, beyond the link's own time
    interval: float = field(init=False)
    margin: float = field(init=False)

    def __post_init__(self) -> None:
        if isinstance(self.ttl, bool) or not isinstance(self.ttl, int | float):
            raise TypeError(f"ttl must be a number of seconds, not {self.ttl!r}")
        if not (self.ttl > 0 and self.rpc_timeout > 0):
            raise ValueError(
                f"ttl and rpc_timeout must be positive, not ttl={self.ttl}, rpc_timeout={self.rpc_timeout}"
            )
        if self.ttl > LONGEST:
            raise ValueError(f"ttl must be at most {LONGEST:g} s")
        object.__setattr__(self, "interval", self.ttl / 3)
        object.__setattr__(self, "margin", margin_of(self.ttl))
        needed = 2 * self.rpc_timeout + self.interval + self.margin
        if not self.ttl > needed:
            raise ValueError(
                f"ttl must be more than 2 * rpc_timeout + interval + margin, but {self.ttl:g} s is not more than "
                f"2 * {self.rpc_timeout:g} s + {self.interval:g} s + {self.margin:g} s = {needed:g} s: one failed "
                "renewal would lose it"
            )

    @property
    def longest_rpc(self) -> float:
        """Seconds for an attempt on any link: two attempts fit before the deadline."""
        return (self.ttl - self.interval - self.margin) / 2


def margin_of(ttl: float) -> float:
    """Return the seconds by which clocks may drift within one ttl: a tenth of the ttl, at least 1."""
    return max(1.0, 0.1 * ttl)


@dataclass(frozen=True, slots=True)
class Seen:
    """A record, as a linearizable answer showed it (`RecordDocument`); revisions are 0 without such a key."""

    mod_revision: int = 0
    holder: str = ""
    write: str = ""
    vacant: bool = False
    ttl: float = 0.0
    token: int = 0
    term: int = 0
    candidates: frozenset[str] = frozenset()
    limit: float = 0.0
    name: str = ""

    @property
    def founded(self) -> bool:
        """Whether the record was created and has had no holder yet."""
        return self.mod_revision > 0 and not self.holder and not self.vacant


class Do(StrEnum):
    """What a candidate does next."""

    READ = "read"
    FOUND = "found"
    LOOK_BACK = "look_back"
    TAKE = "take"
    RENEW = "renew"


@dataclass(frozen=True, slots=True)
class Step:
    """The next step of a candidate, to be recomputed when `at` has come."""

    do: Do
    at: float = -math.inf  # in boot-time seconds; in the past means now


@dataclass(frozen=True, slots=True)
class Candidate:
    """What one candidate knows of a record. All times are seconds on the candidate's own boot-time clock."""

    me: str  # the candidate's name: random, and never used again
    timing: Timing
    seen: Seen | None = None  # the record as last seen; None before the first look
    since: float = -math.inf  # when the first answer came that showed the record as it is, with no gap after it
    read_at: float = -math.inf  # when the newest linearizable look was sent
    held: bool = False  # whether this candidate held the record when last seen
    token: int = 0
    deadline: float = -math.inf  # until when this candidate may trust that it holds the record
    renew_at: float = -math.inf
    written: str = ""  # the word of this candidate's newest write that is known to be applied
    draft: str = ""  # the word of writes against the revision last seen; empty if none was sent
    suspicious: bool = False  # another history of etcd was seen: a key missing from the present one proves nothing
    looked_back: int = 0  # the revision of the founded record whose history was read
    unprecedented: bool = False  # whether that history showed no earlier record
    cleared: bool = False  # whether that history showed that peers can confirm no holder any more
    unknowable: bool = False  # whether etcd has compacted that history
    loss: str = ""
    limit: float = 0.0  # seconds for which peers may confirm a holder without a renewal; 0 under other policies
    renewed_at: float = -math.inf  # when the last successful renewal was sent
    offered: frozenset[str] = frozenset()  # candidates that writes listed, sent against the revision last seen
    promised: float = -math.inf  # until when this candidate has promised not to take over
    heard: tuple[str, int] = ("", 0)  # the holder that asked last, and the number of its question
    retired: bool = False  # whether this candidate has withdrawn for good

    def believes(self, now: float) -> bool:
        """Whether this candidate certainly holds the record, and has promised it to no other."""
        return self.held and self.promised <= now < self.deadline

    def confirmed_only(self, now: float) -> bool:
        """Whether this candidate certainly holds the record only because its peers have confirmed it."""
        return self.believes(now) and now >= self.renewed_at + self.timing.ttl - self.timing.margin

    @property
    def electorate(self) -> frozenset[str]:
        """The other candidates that the record lists, or may list by a write whose outcome is unknown."""
        return ((self.seen.candidates if self.seen else frozenset()) | self.offered) - {self.me}

    def owns(self, seen: Seen) -> bool:
        """Whether this candidate wrote a record, and its token is the one of this tenure."""
        return self._wrote(seen) and seen.token != 0 and seen.token in (self.token, seen.mod_revision)

    def _wrote(self, seen: Seen) -> bool:
        ours = seen.write != "" and seen.write in (self.written, self.draft)
        return seen.holder == self.me and ours and not seen.vacant and not self.retired

    def may_vacate(self, now: float) -> bool:
        """Whether this candidate may vacate the record: not while the record is promised to the last holder."""
        return self.seen is not None and self.owns(self.seen) and self.promised <= now

    @property
    def ripe_at(self) -> float:
        """When the record may be taken over if it is not renewed; infinite if that is not known."""
        if self.seen is None or not self.seen.mod_revision:
            return math.inf
        wait = self.seen.ttl + margin_of(self.seen.ttl)
        limit = max(self.limit, self.seen.limit)
        if limit and not self._may_succeed(self.seen):
            # Both clocks may drift for so long: this one, and that of the holder, which subtracts no margin.
            wait = max(wait, limit + 2 * margin_of(limit))
        return self.since + wait

    def _may_succeed(self, seen: Seen) -> bool:
        """Whether a confirmed holder has asked this candidate, or peers can confirm no holder."""
        if seen.founded:
            # Where anything hints at an earlier record, its holder may be alive and confirmed by peers.
            return not self.suspicious and (self.cleared or (self.unknowable and not seen.token))
        return self.me in seen.candidates

    def step(self, now: float) -> Step:
        """Return what to do next."""
        seen = self.seen
        if seen is None:
            return Step(Do.READ)
        if self.held:
            # The end of a promise is written into the record at once.
            return Step(Do.RENEW, min(self.renew_at, self.promised) if now < self.promised else self.renew_at)
        if not seen.mod_revision:
            return Step(Do.FOUND)
        if self.owns(seen):
            return Step(Do.RENEW)
        if self._wrote(seen):
            # Without its token: as safe as a renewal, for no write has come since.
            return Step(Do.TAKE)
        if seen.founded and not self.suspicious and self.looked_back != seen.mod_revision:
            return Step(Do.LOOK_BACK)
        if now < self.promised:
            return Step(Do.READ, min(self.read_at + self._gap / 3, self.promised))
        if seen.vacant or (seen.founded and self.unprecedented):
            return Step(Do.TAKE)
        if now >= self.ripe_at:
            return Step(Do.READ if self._gapped(now) else Do.TAKE)
        # A third of the gap allowed: one look may fail and the next one still comes in time.
        return Step(Do.READ, min(self.read_at + self._gap / 3, self.ripe_at))

    @property
    def _gap(self) -> float:
        return (self.seen.ttl if self.seen and self.seen.mod_revision else self.timing.ttl) / 3

    def _gapped(self, now: float) -> bool:
        return now - self.read_at > self._gap

    def drafted(self, word: str) -> Candidate:
        """Set the word of the writes that are about to be sent."""
        return self if self.draft else replace(self, draft=word)

    def offering(self, candidates: frozenset[str]) -> Candidate:
        """Add the candidates listed by the write that is about to be sent: from now on they are asked."""
        return replace(self, offered=self.offered | candidates)

    def observed(self, seen: Seen, sent_at: float, now: float) -> Candidate:
        """Apply a linearizable look: a read, or the failed compare of a write."""
        before = self.seen
        changed = before is None or seen.mod_revision != before.mod_revision
        after = replace(
            self,
            seen=seen,
            since=now if changed or self._gapped(now) or now < self.promised else self.since,
            read_at=sent_at,
            offered=frozenset() if changed else self.offered,
        )
        if seen.vacant and seen.holder == self.heard[0]:
            # The promised holder has vacated the record, which only a holder does.
            after = replace(after, promised=-math.inf)
        if before is not None and seen.mod_revision and seen.mod_revision < before.mod_revision:
            # Only another history can go back, and this candidate's writes are not in that one.
            after = replace(after, written="", draft="", suspicious=True, unprecedented=False, cleared=False)
            return after._lost("etcd shows an older record: restored or rebuilt")
        ours = self.owns(seen)
        if self._wrote(seen) and seen.write == self.draft:
            token = seen.token if ours else self.token
            after = replace(after, written=self.draft, draft="", token=token, renew_at=-math.inf)
        elif changed:
            after = replace(after, draft="")
        return after if ours else after._lost("its token was deleted" if self._wrote(seen) else _why(seen))

    def succeeded(
        self, do: Do, revision: int, sent_at: float, now: float, candidates: frozenset[str] = frozenset()
    ) -> Candidate:
        """Apply a write of this candidate that etcd has confirmed."""
        mine, before = do is not Do.FOUND, self.seen or Seen()
        seen = Seen(
            revision,
            holder=self.me if mine else "",
            write=self.draft,
            ttl=self.timing.ttl,
            token=revision if do is Do.TAKE else before.token,
            term=before.term + (do is Do.TAKE),
            candidates=candidates,
            limit=self.limit,
        )
        after = replace(
            self, seen=seen, since=now, read_at=sent_at, written=self.draft, draft="", offered=frozenset()
        )
        if not mine:
            return after
        return replace(
            after,
            held=True,
            loss="",
            token=seen.token,
            deadline=max(self.deadline, sent_at + self.timing.ttl - self.timing.margin),
            renewed_at=sent_at,
            renew_at=sent_at + self.timing.interval,
        )

    def looked_at_history(
        self, *, unprecedented: bool, cleared: bool = False, unknowable: bool = False
    ) -> Candidate:
        """Apply what etcd's history says of a founded record: see `Past`, `cleared` is OVER."""
        revision = self.seen.mod_revision if self.seen else 0
        return replace(
            self, looked_back=revision, unprecedented=unprecedented, cleared=cleared, unknowable=unknowable
        )

    def vacated(self) -> Candidate:
        """Record that this candidate has vacated the record, whether etcd knows yet or not."""
        return replace(self, held=False)

    def retire(self) -> Candidate:
        """Withdraw for good: whatever becomes of earlier writes, this candidate does not hold the record."""
        return replace(self, held=False, retired=True)

    def refuted(self, why: str) -> Candidate:
        """Record a peer's veto; a renewal follows at once, if this candidate still holds the record."""
        return replace(self._lost(why), renew_at=-math.inf)

    def expired(self, why: str = "it could not be renewed in time") -> Candidate:
        """Record that the deadline has passed; a renewal may still succeed, and then the token stays."""
        return replace(self._lost(why), renew_at=-math.inf)

    def doubted(self, why: str) -> Candidate:
        """Record a definite no that came another way; the next step reads the record."""
        return replace(self._lost(why), seen=None)

    def reset(self) -> Candidate:
        """Forget what was known: etcd shows another history."""
        lost = self._lost("etcd shows another history: restored or rebuilt")
        return replace(
            lost,
            seen=None,
            written="",
            draft="",
            suspicious=True,
            unprecedented=False,
            cleared=False,
            offered=frozenset(),
        )

    def _lost(self, why: str) -> Candidate:
        return replace(self, held=False, loss=why) if self.held else self


def _why(seen: Seen) -> str:
    if not seen.mod_revision:
        return "its record was deleted"
    if seen.vacant:
        return "its record was declared vacant"
    if not seen.holder:
        return "its record was deleted and founded anew"
    return f"{seen.name or seen.holder} has taken over"
