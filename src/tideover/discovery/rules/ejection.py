"""Passive ejection: an endpoint that fails several times in a row is not picked for a while.

The endpoint returns after a time that doubles from one ejection to the next. It returns on probation: the first
failure ejects it again, the first success clears it. At most a share of the pickable endpoints is ejected at a
time: when every call fails, the caller itself is the likely cause, and some endpoint must still be picked.

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
    """The limits of ejection.

    Attributes:
        failures: How many failures in a row eject.
        shortest: Seconds of the first ejection.
        longest: Seconds of any ejection, at the most.
        share: The share of the pickable endpoints that may be ejected.

    Raises:
        ValueError: A number is out of range.
    """

    failures: int = 3
    shortest: float = 5.0
    longest: float = 300.0
    share: float = 0.5

    def __post_init__(self) -> None:
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
    """The failures and the ejection of one endpoint.

    Attributes:
        failures: Failures in a row.
        length: Seconds of the last ejection, from which the next one grows; 0 if there was none lately.
        until: When the ejection ends or ended, in monotonic seconds.
    """

    failures: int = 0
    length: float = 0.0
    until: float = -math.inf

    def report(self, ok: bool, now: float, *, room: bool, rules: EjectionRules) -> Track:
        """Apply a call's outcome; afterwards `until` lies ahead if this call ejects the endpoint.

        The outcome of an ejected endpoint changes nothing: that call began before, or is a test of the caller's.
        Without `room` no other endpoint may be ejected.
        """
        if now < self.until:
            return self
        if ok:
            # Healthy for as long as it was ejected: the next ejection is a first one.
            forgiven = now - self.until >= self.length
            return Track(0, 0.0 if forgiven else self.length, self.until)
        failures = self.failures + 1
        if failures < rules.failures or not room:
            return replace(self, failures=failures)
        length = min(rules.longest, max(rules.shortest, 2 * self.length))
        return Track(failures, length, now + length)


def ejected(tracks: Mapping[K, Track], pickable: Collection[K], now: float, rules: EjectionRules) -> frozenset[K]:
    """Return the ejected endpoints of `pickable`, at most their share: those that end first return first."""
    out = [key for key in pickable if key in tracks and now < tracks[key].until]
    out.sort(key=lambda key: -tracks[key].until)
    return frozenset(out[: rules.most(len(pickable))])
