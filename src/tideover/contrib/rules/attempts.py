"""What may be tried again, and within which time.

As RFC 9110 has it (section 9.2.2): what was never sent always, what may have been done only if its method is
idempotent, and never what has a body that cannot be sent twice.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from tideover.client.rules.backoff import delay_cap
from tideover.policies import RetryPolicy

_IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
_PHASES = ("connect", "read", "write", "pool")
# How long to wait before an endpoint is asked again within one call.
_PAUSES = RetryPolicy()

Timeouts = Mapping[str, float | None]


def may_repeat(method: str, *, sent: bool, body_begun: bool, affordable: bool) -> bool:
    """Return whether a failed request may be sent again; not if sending a single-use body has begun."""
    if body_begun:
        return False
    return not sent or (affordable and method in _IDEMPOTENT)


def pause_before(times: int, chance: float) -> float:
    """Return the seconds to wait before an endpoint is asked again."""
    return chance * delay_cap(_PAUSES, times) if times else 0.0


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a caller waits.

    Attributes:
        given: Seconds for each phase of a request, as the caller gives them; None means no limit.
        connect: Seconds for connecting to one endpoint, if the caller allows more.
    """

    given: Timeouts
    connect: float
    began: float

    @property
    def limit(self) -> float:
        """Seconds for the whole call: one phase's timeout is what the caller is ready to wait for that phase, and
        the attempts together take no longer."""
        return max(self._seconds_of(phase) for phase in _PHASES)

    @property
    def to_begin(self) -> float:
        """Seconds to wait for an endpoint: what is left then is enough to connect."""
        return self.limit - min(self.connect, self.limit / 2)

    @property
    def to_connect(self) -> float:
        """Seconds to wait for a leader or endpoint that is not known yet."""
        connect = self._seconds_of("connect")
        return min(self._seconds_of("pool") if math.isinf(connect) else connect, self.to_begin)

    def _seconds_of(self, phase: str) -> float:
        seconds = self.given.get(phase)
        return math.inf if seconds is None else seconds

    def left(self, now: float) -> float:
        """Return the seconds that are left."""
        return self.began + self.limit - now

    def of_attempt(self, now: float) -> dict[str, float | None]:
        """Return the timeouts of an attempt that begins now."""
        left = max(0.001, self.left(now))
        given = {phase: None if seconds is None else min(seconds, left) for phase, seconds in self.given.items()}
        longest = min(left, self.connect)
        return {**given, "connect": min(self._seconds_of("connect"), longest)}
