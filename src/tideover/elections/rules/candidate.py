"""Who may believe to hold a record, and who may take it over: one candidate's side, as a pure state machine.

A record is a key in etcd, changed only by compare-and-swap on its revision. Its holder renews it; whoever else
wants it watches it stand still.

1.  The holder trusts it until just before its last successful renewal was *sent*, plus ttl, minus margin. That
    renewal was applied later than it was sent, so
2.  a challenger that sees the record for the first time after it was applied, waits ttl plus margin on its own
    clock, and swaps only if nothing has changed meanwhile, comes later, as long as no clock runs off by more than
    the margin. For this the first look's *answer* counts, for the look itself happened before that.
3.  Existing holders stay: a challenger whose linearizable reads had a gap longer than ttl / 3 begins to count
    anew. Whatever kept it from reading may have kept the holder from renewing.
4.  A write whose answer is lost may be applied at once, ten seconds later or never. Each carries a random word,
    and all that are sent against one revision carry the same: at most one of them can win. If the next look
    shows that word, the record is ours at its new revision (*adopted*). The deadline is not moved: when it was
    applied is unknown, and the renewal that follows at once moves it.
5.  A record that is not there may be one that was just deleted under a living holder. So it is first *founded*,
    as nobody's, and then taken over like any other; at once only if etcd's history shows that it never existed.
6.  The token key changes only with the record's holder, and a renewal compares both. So a token that was deleted
    or written over by somebody else is a definite no: whatever is fenced by it is refused already. The record
    itself is still ours, and is taken anew at once, with a token that is larger, as all later revisions are.

Under the policy "peers" a holder may be confirmed by the other candidates (`failsafe`), so that:

7.  Who has promised not to take over keeps to it, unless that holder gives the record up itself: it takes nothing,
    is not in office with what it has taken meanwhile, does not declare that vacant, and begins to count anew when
    the promise has ended.
8.  The record lists who was asked. Who is not listed was not asked, and waits for as long as a holder may be
    confirmed at the most.

Source: the argument of leases by Gray and Cheriton (SOSP 1989), without a lease in the store; client-go's
`leaderelection` for the local clocks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from enum import StrEnum

# Seconds, some thirty years: what is added to them stays a time.
LONGEST = 1e9


@dataclass(frozen=True, slots=True)
class Timing:
    """The numbers of a record.

    Attributes:
        ttl: Seconds for which a renewal holds.
        rpc_timeout: Seconds for one attempt at one member, and what the link takes.

    Raises:
        TypeError: A number is not one.
        ValueError: One renewal could not fail without losing the record.
    """

    ttl: float
    rpc_timeout: float = 1.0
    interval: float = field(init=False)
    margin: float = field(init=False)

    def __post_init__(self) -> None:
        """Reject relations that cannot work."""
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
        """Seconds that an attempt may take on any link: two of them have room before the deadline."""
        return (self.ttl - self.interval - self.margin) / 2


def margin_of(ttl: float) -> float:
    """Return the seconds that clocks may be off within one ttl: a tenth, at least 1."""
    return max(1.0, 0.1 * ttl)


@dataclass(frozen=True, slots=True)
class Seen:
    """A record, as a linearizable answer showed it.

    Attributes:
        mod_revision: The revision that last changed it; 0 if there is none.
        holder: Who holds it; empty if it was only founded.
        write: The random word of the write that made it so.
        token: The revision that last changed the token key; 0 if there is none.
        candidates: Whom its holder asks in an outage.
        limit: Seconds for which its holder may be confirmed without a renewal; 0 if it never is.
    """

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
        """Whether nobody has ever held it in its present life."""
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
    """What to do, and when; look again then, for something may have changed.

    Attributes:
        at: When, in boot-time seconds; in the past means now.
    """

    do: Do
    at: float = -math.inf


@dataclass(frozen=True, slots=True)
class Candidate:
    """What one candidate knows of a record. All times are seconds on its own boot-time clock.

    Attributes:
        me: Its name, used by nobody else, ever.
        seen: The record as last seen; None before the first look.
        since: When the first answer came that showed the record as it is, with no gap after it.
        read_at: When the newest linearizable look was sent.
        held: Whether the record was ours when last seen.
        deadline: Until when the record may be trusted to be ours.
        written: The word of our newest write that is known to be applied.
        draft: The word of our writes against the revision last seen; empty if none was sent.
        suspicious: Whether another history of etcd was seen: what never existed in this one proves nothing.
        looked_back: The revision of the founded record whose history was looked at.
        unprecedented: Whether that history showed no earlier one.
        cleared: Whether it showed that no holder can be confirmed by others any more.
        unknowable: Whether there is no history any more that could tell.
        limit: Seconds for which a holder may be confirmed without a renewal; 0 if never.
        renewed_at: When the last successful renewal was sent.
        offered: The candidates listed by writes that were sent against the revision last seen.
        promised: Until when we have promised to leave it to another.
        heard: The holder that asked us last, and the number of its question.
        retired: Whether we have given it up for good.
    """

    me: str
    timing: Timing
    seen: Seen | None = None
    since: float = -math.inf
    read_at: float = -math.inf
    held: bool = False
    token: int = 0
    deadline: float = -math.inf
    renew_at: float = -math.inf
    written: str = ""
    draft: str = ""
    suspicious: bool = False
    looked_back: int = 0
    unprecedented: bool = False
    cleared: bool = False
    unknowable: bool = False
    loss: str = ""
    limit: float = 0.0
    renewed_at: float = -math.inf
    offered: frozenset[str] = frozenset()
    promised: float = -math.inf
    heard: tuple[str, int] = ("", 0)
    retired: bool = False

    def believes(self, now: float) -> bool:
        """Whether the record is ours for certain, and promised to nobody."""
        return self.held and self.promised <= now < self.deadline

    def confirmed_only(self, now: float) -> bool:
        """Whether it is ours for certain only because the other candidates have confirmed it."""
        return self.believes(now) and now >= self.renewed_at + self.timing.ttl - self.timing.margin

    @property
    def electorate(self) -> frozenset[str]:
        """Who may take over from us: whom the record lists, or may list by a write whose outcome is unknown."""
        return ((self.seen.candidates if self.seen else frozenset()) | self.offered) - {self.me}

    def owns(self, seen: Seen) -> bool:
        """Whether a record was made by a write of ours, and has the token of our tenure."""
        return self._wrote(seen) and seen.token != 0 and seen.token in (self.token, seen.mod_revision)

    def _wrote(self, seen: Seen) -> bool:
        ours = seen.write != "" and seen.write in (self.written, self.draft)
        return seen.holder == self.me and ours and not seen.vacant and not self.retired

    def may_vacate(self, now: float) -> bool:
        """Whether the record is ours to give up: not if we have promised it to the holder before us."""
        return self.seen is not None and self.owns(self.seen) and self.promised <= now

    @property
    def ripe_at(self) -> float:
        """When the record will have been seen unrenewed for long enough; infinite if that is not known."""
        if self.seen is None or not self.seen.mod_revision:
            return math.inf
        wait = self.seen.ttl + margin_of(self.seen.ttl)
        limit = max(self.limit, self.seen.limit)
        if limit and not self._may_succeed(self.seen):
            # Both clocks may run off for as long as this: ours, and that of the holder, who takes no margin off.
            wait = max(wait, limit + 2 * margin_of(limit))
        return self.since + wait

    def _may_succeed(self, seen: Seen) -> bool:
        """Whether a holder that is confirmed has asked us, or none can be."""
        if seen.founded:
            # Where anything tells that there was one, its holder may be alive, and be confirmed by others.
            return not self.suspicious and (self.cleared or (self.unknowable and not seen.token))
        return self.me in seen.candidates

    def step(self, now: float) -> Step:
        """Return what to do next."""
        seen = self.seen
        if seen is None:
            return Step(Do.READ)
        if self.held:
            # Who has waited for the end of a promise says so as soon as it is over.
            return Step(Do.RENEW, min(self.renew_at, self.promised) if now < self.promised else self.renew_at)
        if not seen.mod_revision:
            return Step(Do.FOUND)
        if self.owns(seen):
            return Step(Do.RENEW)
        if self._wrote(seen):
            # Without its token: as safe as a renewal, for nobody has written since.
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
        """Take in that a write is about to be sent."""
        return self if self.draft else replace(self, draft=word)

    def offering(self, candidates: frozenset[str]) -> Candidate:
        """Take in whom the write that is about to be sent lists: from now on they are asked."""
        return replace(self, offered=self.offered | candidates)

    def observed(self, seen: Seen, sent_at: float, now: float) -> Candidate:
        """Take in a linearizable look: a read, or the failed compare of a write."""
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
            # The one to whom it was promised has given it up: only a holder declares its record vacant.
            after = replace(after, promised=-math.inf)
        if before is not None and seen.mod_revision and seen.mod_revision < before.mod_revision:
            # Only another history can go back; what we wrote in the one is nothing in the other.
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
        """Take in that a write of ours was applied."""
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
        """Take in a look at the history of a founded record.

        Args:
            unprecedented: Whether it is whole and shows no earlier record.
            cleared: Whether the last one it shows was given up, or was never confirmed by others.
            unknowable: Whether it cannot be seen any more.
        """
        revision = self.seen.mod_revision if self.seen else 0
        return replace(
            self,
            looked_back=revision,
            unprecedented=unprecedented,
            cleared=cleared,
            unknowable=unknowable,
        )

    def vacated(self) -> Candidate:
        """Take in that the record is given up; whether etcd knows it yet does not matter."""
        return replace(self, held=False)

    def retire(self) -> Candidate:
        """Take in that we give up being a candidate, for good: whatever becomes of our writes, it is not ours."""
        return replace(self, held=False, retired=True)

    def refuted(self, why: str) -> Candidate:
        """Take in that another candidate knows better; if the record is still ours it can be renewed."""
        return replace(self._lost(why), renew_at=-math.inf)

    def expired(self, why: str = "it could not be renewed in time") -> Candidate:
        """Take in that the deadline has passed; if the record is still ours it can be renewed, token and all."""
        return replace(self._lost(why), renew_at=-math.inf)

    def doubted(self, why: str) -> Candidate:
        """Take in a definite no that came another way; what is so is to be looked at anew."""
        return replace(self._lost(why), seen=None)

    def reset(self) -> Candidate:
        """Take in that etcd shows another history: all that was known is void."""
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
