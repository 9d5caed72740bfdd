"""What an answer of any size says of a link."""

from __future__ import annotations

import pytest

from tideover.clock import Clock
from tideover.cluster.state import ClusterState

MEMBER = "a:1"


@pytest.mark.parametrize(("took", "lowers"), [(0.2, True), (0.995, False), (3.0, False)])
def test_an_answer_that_took_less_lowers_the_limit(took: float, lowers: bool) -> None:
    """The link takes no longer than an answer did; what is less than 10 ms quicker changes nothing."""
    state = ClusterState([MEMBER], clock=Clock(), active=MEMBER)
    state.record_round_trip(MEMBER, 1.0)
    before = state.limit(MEMBER, 0.5)
    state.answered(MEMBER, took)
    assert (state.limit(MEMBER, 0.5) != before) is lowers
