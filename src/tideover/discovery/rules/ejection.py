"""Passive ejection: who fails several times in a row is not picked for a while.

It comes back by itself after a time that doubles from one ejection to the next. On its return it is on probation:
the first failure ejects it again, the first success clears it. Never more than a share of those that can be
picked is ejected, so that when everything fails, which is more likely to be the caller's own trouble, somebody is
still picked.

Prior art: Envoy's outlier detection, for consecutive failures, the growing time and the cap.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

K = TypeVar("K")


@dataclass(frozen=True, slots=True)
class EjectionRules:
    """The numbers.

    Attributes:
        failures: How many failures in a row eject.
        shortest: Seconds of the first ejection.
        longest: Seconds of any ejection, at the most.
        share: The share of those that can be picked that may be ejected.

    Raises:
        ValueError: A number is out of range.
    """

    failures: int = 3
    shortest: float = 5.0
    longest: float = 300.0
    share: float = 0.5

    def __post_init__(self) -> None:
        """Reject numbers that cannot work."""
        if self.failures < 1:
            raise ValueError(f"failures must be at least 1, not {self.failures}")
        if not 0 < self.shortest <= self.longest:
            raise ValueError(f"need 0 < shortest <= longest, not shortest={self.shortest}, longest={self.longest}")
        if not 0 <= self.share < 1:
            raise ValueError(f"share must be at least 0 and less than 1, not {self.share}")

    def most(self, pickable: int) -> int:
        """Return how many of `pickable` may be ejected at a time."""
        return math.floor(pickable * self.share)


@dataclass(frozen=True, slots=True)
class Track:
    """How one endpoint has done lately.

    Attributes:
        failures: Failures in a row.
        length: Seconds of its last ejection, from which the next one grows; 0 if there was none lately.
        until: When its ejection ends or ended, in monotonic seconds.
    """

    failures: int = 0
    length: float = 0.0
    until: float = -math.inf

    def report(self, ok: bool, now: float, *, room: bool, rules: EjectionRules) -> Track:
        """Take in how a call went.

        What is reported of an ejected endpoint was begun before, or is somebody's own test, and changes nothing.

        Args:
            room: Whether one more may be ejected.

        Returns:
            The track from now on; `until` lies ahead if this ejects it.
        """
        if now < self.until:
            return self
        if ok:
            # Good for as long as it was away: the next ejection is a first one.
            forgiven = now - self.until >= self.length
            return Track(0, 0.0 if forgiven else self.length, self.until)
        failures = self.failures + 1
        if failures < rules.failures or not room:
            return replace(self, failures=failures)
        length = min(rules.longest, max(rules.shortest, 2 * self.length))
        return Track(failures, length, now + length)


def ejected(tracks: Mapping[K, Track], pickable: Collection[K], now: float, rules: EjectionRules) -> frozenset[K]:
    """Return who is not to be picked now.

    Returns:
        Some of `pickable`, and not more than their share: if there are fewer than there were, those come back
        first whose time is over first.
    """
    out = [key for key in pickable if key in tracks and now < tracks[key].until]
    out.sort(key=lambda key: -tracks[key].until)
    return frozenset(out[: rules.most(len(pickable))])
