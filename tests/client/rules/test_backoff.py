"""Retry delays: full jitter under a cap, inside the deadline."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tideover.client.rules.backoff import delay_cap, next_delay
from tideover.policies import RetryPolicy


@st.composite
def policies(draw: st.DrawFn) -> RetryPolicy:
    initial = draw(st.floats(0.001, 10))
    return RetryPolicy(
        attempts=draw(st.integers(1, 40)),
        wait_initial=initial,
        wait_max=initial * draw(st.floats(1, 100)),
        wait_exp_base=draw(st.floats(1, 10)),
    )


attempts = st.integers(1, 40)
chances = st.floats(0, 1, exclude_max=True)


def test_the_default_caps_are_those_of_the_design() -> None:
    """The first delays are drawn from up to 100, 200 and 400 ms, and no later one from more."""
    caps = [delay_cap(RetryPolicy(), attempt) for attempt in (1, 2, 3, 4, 50, 5000)]
    assert caps == [0.1, 0.2, 0.4, 0.4, 0.4, 0.4]


@settings(deadline=None)
@given(policies(), attempts)
def test_caps_grow_up_to_the_maximum(policy: RetryPolicy, attempt: int) -> None:
    """A cap is never below `wait_initial`, never above `wait_max`, and never shrinks."""
    cap = delay_cap(policy, attempt)
    assert policy.wait_initial <= cap <= policy.wait_max
    assert cap <= delay_cap(policy, attempt + 1)


@settings(deadline=None)
@given(policies(), attempts, chances, st.floats(-5, 30))
def test_a_delay_stays_under_its_cap_and_before_the_deadline(
    policy: RetryPolicy, attempt: int, chance: float, left: float
) -> None:
    """A retry is allowed exactly if attempts are left and its delay ends before the deadline."""
    delay = next_delay(policy, attempt, chance=chance, left=left)
    wanted = chance * delay_cap(policy, attempt)
    if attempt >= policy.attempts or wanted >= left:
        assert delay is None
    else:
        assert delay == wanted
        assert 0 <= delay <= delay_cap(policy, attempt)
        assert delay < left


@settings(deadline=None)
@given(policies(), chances)
def test_attempts_are_counted_from_the_first(policy: RetryPolicy, chance: float) -> None:
    """With unlimited time a call is attempted exactly `attempts` times."""
    made = 1
    while next_delay(policy, made, chance=chance, left=1e9) is not None:
        made += 1
    assert made == policy.attempts


def test_no_wait_means_no_wait_however_often() -> None:
    """With `wait_initial=0` no attempt waits, not even the hundredth."""
    policy = RetryPolicy(attempts=200, wait_initial=0, wait_max=0.4)
    assert {delay_cap(policy, attempt) for attempt in (1, 2, 64, 65, 199)} == {0}


def test_a_slow_growth_stays_slow() -> None:
    """A base near 1 grows by the formula far out as well, without a jump to the maximum."""
    policy = RetryPolicy(attempts=200, wait_initial=0.1, wait_max=10, wait_exp_base=1.001)
    assert delay_cap(policy, 65) == pytest.approx(0.1 * 1.001**64)


@pytest.mark.parametrize("base", [1e6, 1e300])
def test_a_steep_growth_reaches_the_maximum_without_overflow(base: float) -> None:
    """However steep, the cap ends at `wait_max` instead of leaving the range of a float."""
    policy = RetryPolicy(attempts=200, wait_initial=0.1, wait_max=10, wait_exp_base=base)
    assert [delay_cap(policy, attempt) for attempt in (3, 64, 65)] == [10, 10, 10]
