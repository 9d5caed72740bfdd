"""How old a followed prefix is, and what that means for a read.

*In sync as of t* means: a linearizable read sent at t returned revision R, and the view has reached R. The
newest such t is the only thing age is counted from. It is computed at each use, never stored.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum

from tideover.policies import StalenessLimit


@dataclass(frozen=True, slots=True)
class Freshness:
    """What is known about how fresh a view is.

    Attributes:
        reached: The revision the view's content corresponds to.
        synced_at: Monotonic seconds of the newest moment proven in sync; minus infinity if there is none.
        asked_at: When the newest linearizable read was sent whose revision the view has not reached yet.
        wanted: That read's revision; 0 if the view lags behind nothing.
    """

    reached: int = 0
    synced_at: float = -math.inf
    asked_at: float = -math.inf
    wanted: int = 0

    @property
    def lags(self) -> bool:
        """Whether a quorum has shown a revision that the view has not reached."""
        return self.wanted > self.reached

    def asked(self, sent_at: float, revision: int) -> Freshness:
        """Take in a linearizable read made elsewhere.

        Args:
            sent_at: When it was sent, in monotonic seconds.
            revision: The revision in its answer.

        Returns:
            In sync as of `sent_at` if the view has reached that revision, else waiting for it.
        """
        if self.reached >= revision:
            return replace(self, synced_at=max(self.synced_at, sent_at))
        if sent_at <= self.asked_at:
            return self
        return replace(self, asked_at=sent_at, wanted=revision)

    def moved(self, revision: int) -> Freshness:
        """Take in an event or a full read: the content now corresponds to `revision`.

        Args:
            revision: The revision.

        Returns:
            In sync as of the newest read that this catches up with.
        """
        reached = max(self.reached, revision)
        if self.wanted and reached >= self.wanted:
            synced_at = max(self.synced_at, self.asked_at)
            return Freshness(reached, synced_at)
        return replace(self, reached=reached)

    def confirmed(self, requested_at: float, revision: int) -> Freshness:
        """Take in a progress reply of the watch: nothing happened below `revision`.

        It counts only for a read whose revision it carries and after which it was requested. It never moves
        `reached`, the point from which a watch resumes: before etcd 3.4.25 and 3.5.8 such replies may overtake
        events still queued.

        Args:
            requested_at: When the reply was asked for, in monotonic seconds.
            revision: The revision it carries.

        Returns:
            In sync as of that read, if the reply answers it.
        """
        if not self.wanted or revision < self.wanted or requested_at < self.asked_at:
            return self
        return Freshness(self.reached, max(self.synced_at, self.asked_at))

    def age(self, now: float) -> float:
        """Return seconds since the newest moment proven in sync; infinity if there is none."""
        return now - self.synced_at


class Verdict(StrEnum):
    """What a staleness limit says about a read."""

    SERVE = "serve"
    DEFAULT = "default"
    RAISE = "raise"


def judge(limit: StalenessLimit | None, age: float, *, has_default: bool) -> Verdict:
    """Decide what to do with a value of a certain age.

    Args:
        limit: The prefix's limit; None serves at any age.
        age: Seconds.
        has_default: Whether the caller gave a default.

    Returns:
        Whether to serve the value, the default, or to raise `TooStale`.
    """
    if limit is None or age <= limit.max_stale or limit.on_stale == "serve":
        return Verdict.SERVE
    return Verdict.DEFAULT if limit.on_stale == "default" and has_default else Verdict.RAISE
