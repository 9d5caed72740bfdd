"""How old a followed prefix is, and what that means for a read.

*In sync as of t* means: a linearizable read sent at t returned revision R, and the view has reached R. The
newest such t is the only thing age is counted from. It is computed at each use, never stored.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum

from tideover.foreign_bytes import decimal
from tideover.policies import StalenessLimit


@dataclass(frozen=True, slots=True)
class Freshness:
    """What is known about how fresh a view is. All times are monotonic seconds; minus infinity if there is none.

    Two linearizable reads are remembered that the view has not caught up with: the oldest, because under constant
    traffic newer ones could replace each other without end, and the newest, because it says the most in the end.
    """

    reached: int = 0  # the revision that the view's content corresponds to
    synced_at: float = -math.inf  # the newest moment proven in sync
    asked_at: float = -math.inf  # when the oldest such read was sent
    wanted: int = 0  # its revision; 0 if the view lags behind nothing
    newest_at: float = -math.inf  # when the newest such read was sent, if it is not the oldest
    newest: int = 0  # its revision; 0 if there is none

    @property
    def lags(self) -> bool:
        """Whether a quorum has shown a revision that the view has not reached."""
        return self.wanted > self.reached

    def asked(self, sent_at: float, revision: int) -> Freshness:
        """Apply a linearizable read made elsewhere: in sync as of `sent_at` once its revision is reached."""
        if self.reached >= revision:
            return replace(self, synced_at=max(self.synced_at, sent_at))
        if sent_at <= max(self.synced_at, self.asked_at, self.newest_at):
            return self
        if not self.lags:
            return replace(self, asked_at=sent_at, wanted=revision)
        return replace(self, newest_at=sent_at, newest=revision)

    def moved(self, revision: int) -> Freshness:
        """Apply an event or a full read of `revision`: in sync as of the newest read that this catches up with."""
        return replace(self, reached=max(self.reached, revision))._caught_up(revision, math.inf)

    def confirmed(self, requested_at: float, revision: int) -> Freshness:
        """Apply a progress reply of the watch: nothing happened below `revision`.

        The reply counts only for a read whose revision it carries and after which it was requested, and only from
        a member whose replies do not overtake events still queued (`progress_is_ordered`). It never moves
        `reached`, the point from which a watch resumes.
        """
        return self._caught_up(revision, requested_at)

    def _caught_up(self, revision: int, as_of: float) -> Freshness:
        """Forget the reads up to `revision` that were sent until `as_of`; in sync as of the newest of them."""
        if self.newest and revision >= self.newest and as_of >= self.newest_at:
            return Freshness(self.reached, max(self.synced_at, self.newest_at))
        if self.wanted and revision >= self.wanted and as_of >= self.asked_at:
            return Freshness(self.reached, max(self.synced_at, self.asked_at), self.newest_at, self.newest)
        return self

    def compared(self, sent_at: float) -> Freshness:
        """Apply a linearizable comparison of the whole prefix that found no difference.

        In sync as of `sent_at`, and waiting for nothing that was asked before.
        """
        synced_at = max(self.synced_at, sent_at)
        if self.newest and sent_at < self.newest_at:
            return Freshness(self.reached, synced_at, self.newest_at, self.newest)
        return self if sent_at < self.asked_at else Freshness(self.reached, synced_at)

    def age(self, now: float) -> float:
        """Return seconds since the newest moment proven in sync; infinity if there is none."""
        return now - self.synced_at


def progress_is_ordered(version: str) -> bool:
    """Whether a member's progress replies come after all events they speak for.

    Before 3.4.25 and 3.5.8 they overtake events still queued (etcd #15220). A version that is not like `"3.5.1"`
    counts as not ordered.
    """
    try:
        major, minor, patch = (decimal(part, "a version") for part in version.split("-")[0].split(".")[:3])
    except ValueError:
        return False
    fixed = {(3, 4): 25, (3, 5): 8}
    return patch >= fixed[major, minor] if (major, minor) in fixed else (major, minor) > (3, 5)


class Verdict(StrEnum):
    """What a staleness limit says about a read."""

    SERVE = "serve"
    DEFAULT = "default"
    RAISE = "raise"


def judge(limit: StalenessLimit | None, age: float, *, has_default: bool) -> Verdict:
    """Decide whether to serve a value of `age` seconds, the default, or `TooStale`; no limit serves any age."""
    if limit is None or age <= limit.max_stale or limit.on_stale == "serve":
        return Verdict.SERVE
    return Verdict.DEFAULT if limit.on_stale == "default" and has_default else Verdict.RAISE
