"""The estimate of round trips: TCP's, and what it makes of a process that stood still."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tideover.cluster.rules.round_trips import LONGEST, Burst, RoundTrips

SECONDS = st.floats(0, 20)


def test_the_numbers_of_rfc_6298() -> None:
    """The first round trip and half of it, then gains of 1/8 and 1/4; the limit adds four deviations."""
    first = RoundTrips().after(0.4)
    assert (first.smoothed, first.deviation) == (0.4, 0.2)
    second = first.after(0.8)
    assert second.smoothed == pytest.approx(0.45)
    assert second.deviation == pytest.approx(0.25)
    assert second.limit(0.5) == pytest.approx(0.5 + 0.45 + 1.0)


@given(st.lists(SECONDS), st.floats(0.1, 10))
def test_limits_stay_within_bounds(taken: list[float], least: float) -> None:
    """Whatever a member has shown, a limit is never below what it is without, nor above 5 s unless that is."""
    estimate = RoundTrips()
    for seconds in taken:
        estimate = estimate.after(seconds)
    assert least <= estimate.limit(least) <= max(least, LONGEST)


@given(st.floats(0, 5), st.floats(0.001, 1))
def test_what_is_steady_is_within_the_limit(before: float, seconds: float) -> None:
    """However long the way was before, a steady one is known after fifty answers: its limit lets it pass."""
    estimate = RoundTrips().after(before)
    for _ in range(50):
        estimate = estimate.after(seconds)
    assert seconds < estimate.limit(0.5) < 0.5 + seconds + 0.2


def test_answers_that_come_together_are_one() -> None:
    """A process that stood still answers all it was asked at once: the newest question tells of the link."""
    calm = Burst()
    for second in range(20):
        calm = calm.after(0.01, float(second))
    woken = calm
    for age in (4.0, 3.5, 3.0, 2.5, 2.0, 1.5, 1.0, 0.5, 0.02):
        woken = woken.after(age, 100.0)
    assert woken.now.limit(0.5) == pytest.approx(calm.after(0.02, 100.0).now.limit(0.5))


def test_answers_apart_count_each() -> None:
    """Answers more than a tenth of a second apart are each a round trip."""
    twice = Burst().after(0.2, 1.0).after(0.4, 1.2)
    assert twice.now == RoundTrips().after(0.2).after(0.4)


def test_quick_answers_of_any_size_tell_of_the_link() -> None:
    """A slow first answer is outweighed by quick ones, also those that come together; slow ones add nothing."""
    known = Burst().after(0.3, 1.0)
    for _ in range(40):
        known = known.at_most(0.005)
    assert known.now.limit(0.5) < 0.55
    assert known.at_most(2.0) == known
    assert Burst().at_most(0.005) == Burst()
