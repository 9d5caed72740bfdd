"""A token bucket for retries, so that an outage cannot multiply load.

The scheme is gRPC's retry throttling (gRFC A6): a failure costs one token, a success earns a fraction of one,
and retries are allowed only while more than half of the tokens are left.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class RetryBudget:
    """The tokens left: at most `capacity`, of which `spent` are missing; a success gives back `earned` of them."""

    capacity: float = 20.0
    earned: float = 0.1
    spent: float = 0.0

    @property
    def tokens(self) -> float:
        """Tokens left."""
        return self.capacity - self.spent

    @property
    def allows_retry(self) -> bool:
        """Whether a failed call may be tried again."""
        return self.tokens > self.capacity / 2

    def after(self, *, succeeded: bool) -> RetryBudget:
        """Return the budget after one attempt."""
        if succeeded and not self.spent:
            return self
        spent = max(0.0, self.spent - self.earned) if succeeded else min(self.capacity, self.spent + 1.0)
        return replace(self, spent=spent)
