"""How long a member's answers take, and how long to wait for one: TCP's estimate, for small questions.

The estimate is RFC 6298's: a smoothed round trip and its mean deviation, with gains of 1/8 and 1/4, and a limit
of the one plus four times the other. Here that is added to what a limit is on a link as short as can be: the time
that etcd itself may take. So a limit is never below that, and a far region or a busy link raises it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

# Seconds that a limit is raised to at the most.
LONGEST = 5.0
# Answers that come within so many seconds of each other have waited for the same thing: a process that stood still
# and goes on answers all it was asked at once. The shortest wait is the one that tells of the link.
_TOGETHER = 0.1


@dataclass(frozen=True, slots=True)
class RoundTrips:
    """The smoothed round trip of a member in seconds, None before the first one, and its mean deviation."""

    smoothed: float | None = None
    deviation: float = 0.0

    def after(self, seconds: float) -> RoundTrips:
        """Return the estimate after one more round trip that took so many seconds."""
        if self.smoothed is None:
            return RoundTrips(seconds, seconds / 2)
        deviation = 0.75 * self.deviation + 0.25 * abs(self.smoothed - seconds)
        return RoundTrips(0.875 * self.smoothed + 0.125 * seconds, deviation)

    def limit(self, least: float) -> float:
        """Return seconds to wait for an answer: `least` and the link's time, at most 5 unless `least` is more."""
        if self.smoothed is None:
            return least
        return min(least + self.smoothed + 4 * self.deviation, max(least, LONGEST))


@dataclass(frozen=True, slots=True)
class Burst:
    """An estimate that counts answers which come together as one: the shortest round trip of the present burst."""

    now: RoundTrips = RoundTrips()
    before: RoundTrips = RoundTrips()
    shortest: float = 0.0
    at: float = float("-inf")

    def after(self, seconds: float, at: float) -> Burst:
        """Return the estimate after an answer that came then and took so many seconds."""
        if at - self.at <= _TOGETHER:
            shortest = min(self.shortest, seconds)
            return replace(self, now=self.before.after(shortest), shortest=shortest, at=at)
        return Burst(self.now.after(seconds), self.now, seconds, at)

    def at_most(self, seconds: float) -> Burst:
        """Return the estimate after an answer of any size that took so many seconds: the link takes no more."""
        if self.now.smoothed is None or seconds >= self.now.smoothed:
            return self
        before = self.before if self.before.smoothed is None else self.before.after(seconds)
        return replace(self, now=self.now.after(seconds), before=before)
