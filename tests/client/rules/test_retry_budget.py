"""The retry budget: an outage cannot multiply load."""

from __future__ import annotations

from functools import reduce

from hypothesis import given, settings
from hypothesis import strategies as st

from tideover.client.rules.retry_budget import RetryBudget

outcomes = st.lists(st.booleans(), max_size=300)


def _after(history: list[bool], budget: RetryBudget | None = None) -> RetryBudget:
    return reduce(lambda left, succeeded: left.after(succeeded=succeeded), history, budget or RetryBudget())


@settings(deadline=None)
@given(outcomes)
def test_tokens_stay_within_the_bucket(history: list[bool]) -> None:
    """Whatever happens, the tokens are neither negative nor more than the capacity."""
    budget = _after(history)
    assert 0 <= budget.tokens <= budget.capacity


@settings(deadline=None)
@given(outcomes)
def test_retries_need_more_than_half_of_the_tokens(history: list[bool]) -> None:
    """A retry is allowed exactly while more than half of the tokens are left."""
    budget = _after(history)
    assert budget.allows_retry is (budget.tokens > 10)


def test_a_long_outage_is_not_held_against_the_next_hour() -> None:
    """However many calls failed, just over a hundred good ones allow retries again."""
    assert _after([False] * 1000).tokens == 0
    assert not _after([False] * 1000 + [True] * 99).allows_retry
    assert _after([False] * 1000 + [True] * 102).allows_retry


def test_an_outage_is_retried_ten_times_and_no_more() -> None:
    """From a full bucket, nine failures leave retries allowed and the tenth does not, for good."""
    assert _after([False] * 9).allows_retry
    assert not any(_after([False] * n).allows_retry for n in range(10, 60))


@settings(deadline=None)
@given(outcomes)
def test_retries_are_at_most_a_tenth_of_the_successes(history: list[bool]) -> None:
    """Retries allowed after failures are bounded by what was in the bucket and a tenth of the successes."""
    budget, allowed = RetryBudget(), 0
    for succeeded in history:
        budget = budget.after(succeeded=succeeded)
        allowed += not succeeded and budget.allows_retry
    assert allowed <= 10 + 0.1 * history.count(True) + 1e-6


@settings(deadline=None)
@given(outcomes)
def test_successes_refill_an_empty_bucket(history: list[bool]) -> None:
    """After any history, two hundred successes fill the bucket again."""
    assert abs(_after(history + [True] * 200).tokens - 20) < 1e-6


@settings(deadline=None)
@given(st.floats(1, 1000), outcomes)
def test_a_bucket_of_another_size_starts_full(capacity: float, history: list[bool]) -> None:
    """A bucket starts full whatever its capacity, and stays within it."""
    assert RetryBudget(capacity=capacity).tokens == capacity
    assert 0 <= _after(history, RetryBudget(capacity=capacity)).tokens <= capacity
