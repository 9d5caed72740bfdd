"""A circuit breaker whose probes are never the user's calls.

It differs from the usual kind (Michael Nygard, "Release It!", 2007) in two ways. It trips on time, not on a
count of failures: an outage is declared after it has lasted, so that an ordinary leader change trips nothing.
And it is fed by background probes alone, so that recovery is noticed by an idle service and no request is
spent on finding out.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum


class BreakerState(StrEnum):
    """Closed lets calls through, open refuses them, half-open refuses them but has seen a good probe."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


@dataclass(frozen=True, slots=True)
class Breaker:
    """One lane's breaker, of which `close_after` consecutive good probes close an open one.

    Attributes:
        failing_since: When the first of the present run of bad probes was sent, in monotonic seconds; None if
            the last one was good or excused.
        good: Consecutive good probes since it opened.
        closed: Whether calls are let through; computed once, because every call asks.
    """

    close_after: int = 1
    state: BreakerState = BreakerState.CLOSED
    failing_since: float | None = None
    good: int = 0
    closed: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Work out whether it is closed."""
        object.__setattr__(self, "closed", self.state is BreakerState.CLOSED)

    def passed(self) -> Breaker:
        """Return the breaker after a good probe."""
        if self.closed:
            return replace(self, failing_since=None)
        if self.good + 1 >= self.close_after:
            return Breaker(self.close_after)
        return replace(self, state=BreakerState.HALF_OPEN, good=self.good + 1, failing_since=None)

    def excused(self) -> Breaker:
        """Return the breaker after a bad probe that a leader change explains: the clock does not run."""
        return replace(self, failing_since=None) if self.closed else self._opened()

    def failed(self, sent_at: float, now: float, *, trip_after: float) -> Breaker:
        """Return the breaker after a bad probe; `trip_after` seconds of bad probes open a closed one."""
        if not self.closed:
            return self._opened()
        since = sent_at if self.failing_since is None else self.failing_since
        return self._opened() if now - since >= trip_after else replace(self, failing_since=since)

    def _opened(self) -> Breaker:
        return Breaker(self.close_after, BreakerState.OPEN)
