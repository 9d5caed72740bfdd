"""A token bucket for retries, so that an outage cannot multiply load.

The scheme is gRPC's retry throttling (gRFC A6): a failure costs one token, a success earns a fraction of one,
and retries are allowed only while more than half of the tokens are left.
"""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class RetryBudget:
    """The tokens left.

    Attributes:
        capacity: The most tokens there can be.
        earned: Tokens earned by one success.
        tokens: Tokens left; starts full.
    """

    capacity: float = 20.0
    earned: float = 0.1
    tokens: float = 20.0

    @property
    def allows_retry(self) -> bool:
        """Whether a failed call may be tried again."""
        return self.tokens > self.capacity / 2

    def after(self, *, succeeded: bool) -> RetryBudget:
        """Return the budget after one attempt.

        Args:
            succeeded: Whether the attempt did.

        Returns:
            The new budget.
        """
        tokens = min(self.capacity, self.tokens + self.earned) if succeeded else max(0.0, self.tokens - 1.0)
        return replace(self, tokens=tokens)
