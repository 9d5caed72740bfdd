"""When a key is handed on."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tideover.locks.rules.handover import Handover, HandoverRules, may_hand_over

RULES = HandoverRules()
FINE = Handover(wanted=True, trusted=True, left=9.0, renew_interval=5.0, unresolved=False, count=3)


def test_it_is_handed_on_without_end_while_nobody_else_waits() -> None:
    """Up to the last number that fits a token, whatever the time."""
    assert may_hand_over(FINE, RULES)
    assert may_hand_over(replace(FINE, count=65_534), RULES)
    assert not may_hand_over(replace(FINE, count=65_535), RULES)


@pytest.mark.parametrize(
    "change", [{"wanted": False}, {"trusted": False}, {"left": 5.0}, {"left": -1.0}, {"unresolved": True}]
)
def test_what_is_not_beyond_doubt_is_not_handed_on(change: dict[str, float]) -> None:
    """Unwanted, in doubt, too close to the deadline, or with a guarded write unresolved it is given back."""
    assert not may_hand_over(replace(FINE, **change), RULES)  # type: ignore[arg-type]


@given(st.integers(0, 1000), st.integers(0, 200), st.floats(0, 1))
def test_it_is_bounded_once_somebody_else_waits(seen: int, more: int, seconds: float) -> None:
    """From then on it is handed on 64 times at the most, and for 50 ms."""
    case = replace(FINE, count=seen + more, seen_after=seen, seen_for=seconds)
    assert may_hand_over(case, RULES) == (more < 64 and seconds < 0.05)
