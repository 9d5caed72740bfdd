"""When to try again: exponential backoff with full jitter, inside one overall deadline."""

from __future__ import annotations

from tideover.policies import RetryPolicy


def delay_cap(policy: RetryPolicy, attempt: int) -> float:
    """Return the most seconds of delay after so many failed attempts."""
    try:
        growth = policy.wait_exp_base ** (attempt - 1)
    except OverflowError:
        return policy.wait_max if policy.wait_initial else 0.0
    return min(policy.wait_max, policy.wait_initial * growth)


def next_delay(policy: RetryPolicy, attempt: int, *, chance: float, left: float) -> float | None:
    """Return seconds to wait before the next attempt; None without another, or before the call's deadline."""
    if attempt >= policy.attempts:
        return None
    delay = chance * delay_cap(policy, attempt)
    return delay if delay < left else None
