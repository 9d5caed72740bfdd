"""When an instance that etcd no longer has leaves the list of a service.

Guarantee: additions and changes apply at once, and so does an instance's own word that it leaves. Any other
    removal applies

- at once in ordinary times, for at most a share of the list per window;
- after an outage, or in another history, only after a grace period: an instance that could not renew its lease is
  missing, and about to return;
- never while the content is not proven in sync;
- and for an empty service, which is what a rebuilt cluster shows, only once it has been empty for some time.

Holding back is bounded: `RemovalRules.longest` seconds after the last change the list is what etcd has, if etcd
answers all the while.

Not guaranteed: that a listed instance is alive. A dead one is listed for up to that time, and in an outage until
its end; `ejection` skips the ones that fail.

Prior art: Eureka's self-preservation, which stops expirations below a share of renewals, and Nacos' protect
threshold. Both can keep dead instances without an end, which the bound above excludes.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class RemovalRules:
    """The limits of removals.

    Attributes:
        grace: Seconds after an outage in which nothing is removed.
        window: Seconds of a window.
        share: The share of the list that may be removed in a window; at least one instance.
        empty_after: Seconds for which a service must have been empty before that is believed.

    Raises:
        ValueError: A number is out of range.
    """

    grace: float = 30.0
    window: float = 10.0
    share: float = 1 / 3
    empty_after: float = 30.0

    def __post_init__(self) -> None:
        for name in ("grace", "window", "empty_after"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be 0 seconds or more, and finite, not {getattr(self, name)}")
        if not 0 < self.share <= 1:
            raise ValueError(f"share must be more than 0 and at most 1, not {self.share}")

    def most(self, size: int) -> int:
        """Return how many of a list of `size` may be removed in a window."""
        # Rounding alone adds none: a third of three is a little more than one.
        return max(1, math.ceil(size * self.share - 1e-9))

    @property
    def spread(self) -> float:
        """Seconds from the first to the last of all removals, whatever their number."""
        return (math.ceil(1 / self.share - 1e-9) - 1) * self.window

    @property
    def longest(self) -> float:
        """Seconds after the last change, or after the end of an outage, after which the list is what etcd has.

        One window more than its two parts: other removals may have used up the window in which the wait ended.
        """
        return max(self.grace, self.empty_after) + self.spread + self.window


@dataclass(frozen=True, slots=True)
class Listing(Generic[T]):
    """The list of a service, and the instances about to leave it. All times are monotonic seconds.

    Attributes:
        listed: What is known of each instance.
        missing: Since when etcd no longer has a listed instance.
        suspect: Whether there has been an outage since the content was last proven in sync.
        settled: Whether the content was ever proven in sync.
        held_until: When the grace period is over.
        empty_since: Since when the service has been empty; None while it is not.
        size: The length of the list before the present run of removals.
        opened_at: When the present window began.
        removed: How many instances were removed in the present window.
    """

    listed: Mapping[str, T] = field(default_factory=dict)
    missing: Mapping[str, float] = field(default_factory=dict)
    suspect: bool = False
    settled: bool = False
    held_until: float = -math.inf
    empty_since: float | None = None
    size: int = 0
    opened_at: float = -math.inf
    removed: int = 0

    def suspend(self) -> Listing[T]:
        """Apply an outage, or another history: removals wait for its end and the grace period."""
        return replace(self, suspect=True, empty_since=None)

    def observe(
        self,
        present: Mapping[str, T],
        now: float,
        *,
        trusted: bool,
        rules: RemovalRules,
        left: Collection[str] = (),
    ) -> Listing[T]:
        """Apply what etcd has, proven in sync if `trusted`; the instances in `left` have said that they leave."""
        kept = {i: known for i, known in self.listed.items() if i not in left}
        missing = {i: self.missing.get(i, now) for i in kept if i not in present}
        seen = replace(self, listed={**kept, **present}, missing=missing)
        if not trusted:
            return replace(seen, empty_since=None) if present else seen
        if not seen.settled and not seen.suspect and present:
            # The list of an earlier process, and no outage since: no removal is suspicious.
            return Listing(dict(present), settled=True)
        since = None if present else now if seen.empty_since is None else seen.empty_since
        held_until = now + rules.grace if seen.suspect else seen.held_until
        seen = replace(seen, suspect=False, settled=True, held_until=held_until, empty_since=since)
        return seen._remove(now, rules)

    def next_at(self, rules: RemovalRules) -> float:
        """Return when time alone will remove something, in monotonic seconds; infinite if it will not."""
        if not self.missing or self.suspect or not self.settled:
            return math.inf
        at = max(self.held_until, -math.inf if self.empty_since is None else self.empty_since + rules.empty_after)
        return max(at, self.opened_at + rules.window) if self.removed >= rules.most(self.size) else at

    def _remove(self, now: float, rules: RemovalRules) -> Listing[T]:
        """Remove as many as may go now, longest missing first."""
        seen = self
        if now >= seen.opened_at + rules.window:
            # The share counts against the list before the run, or the last third would shrink without an end.
            size = max(seen.size, len(seen.listed)) if seen.removed and seen.missing else len(seen.listed)
            seen = replace(seen, opened_at=-math.inf, removed=0, size=size)
        if not seen.missing or now < seen.next_at(rules):
            return seen
        may = rules.most(seen.size) - seen.removed
        gone = set(sorted(seen.missing, key=lambda instance: (seen.missing[instance], instance))[:may])
        return replace(
            seen,
            listed={i: known for i, known in seen.listed.items() if i not in gone},
            missing={i: since for i, since in seen.missing.items() if i not in gone},
            opened_at=now if seen.removed == 0 else seen.opened_at,
            removed=seen.removed + len(gone),
        )
