"""When to try again: exponential backoff with full jitter, inside one overall deadline."""

from __future__ import annotations

from tideover.policies import RetryPolicy


def delay_cap(policy: RetryPolicy, attempt: int) -> float:
    """Return the upper bound of the delay after a failed attempt.

    Args:
        policy: The caller's policy.
        attempt: How many attempts have been made, from 1.

    Returns:
        Seconds.
    """
    try:
        growth = policy.wait_exp_base ** (attempt - 1)
    except OverflowError:
        return policy.wait_max if policy.wait_initial else 0.0
    return min(policy.wait_max, policy.wait_initial * growth)


def next_delay(policy: RetryPolicy, attempt: int, *, chance: float, left: float) -> float | None:
    """Decide whether to try again, and when.

    Args:
        policy: The caller's policy.
        attempt: How many attempts have been made, from 1.
        left: Seconds left until the call's deadline.

    Returns:
        Seconds to wait before the next attempt, or None to give up: the attempts are used up, or the wait
        would reach the deadline.
    """
    if attempt >= policy.attempts:
        return None
    delay = chance * delay_cap(policy, attempt)
    return delay if delay < left else None
