"""The last hour in words."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.coordinator.reports import AT, facts, history, stretch
from tideover.coordinator.rules.hour import described
from tideover.status import HistoryStatus, LeaderChangeStatus
from tideover.types import HealthState

S = HealthState


def change(ago: float, seconds: float | None = None) -> LeaderChangeStatus:
    """Return a leader change."""
    return LeaderChangeStatus(AT - timedelta(seconds=ago), ago, seconds, 12)


@pytest.mark.parametrize(
    ("past", "summary", "caption"),
    [
        (history(), "Nothing is known yet.", "Nothing is known yet."),
        (
            history(stretch(S.AVAILABLE, 28_799, 28_799)),
            "No outage.",
            "Available for 7 h 59 min, since 19:12:08.",
        ),
        (
            history(stretch(S.UNAVAILABLE, 284, 284), recorded=284.0),
            "1 outage, 4 min 44 s.",
            "Unavailable for 4 min 44 s, since this process started at 03:07:23. Nothing is recorded from before.",
        ),
        (
            history(
                stretch(S.AVAILABLE, 1009, 1009),
                stretch(S.DEGRADED, 1051, 42),
                stretch(S.AVAILABLE, 28_000, 26_949),
                leader_changes=(change(2314, 1.2),),
            ),
            "1 outage, 42 s. One leader change of 1.2 s, not an outage.",
            "Available since 02:55:18, for 16 min 49 s. Before that available, but for 42 s from 02:54:36, "
            "degraded. One leader change at 02:33:33.",
        ),
        (
            history(
                stretch(S.DEGRADED, 133, 133),
                stretch(S.AVAILABLE, 1815, 1682),
                stretch(S.DEGRADED, 1857, 42),
                stretch(S.AVAILABLE, 28_000, 26_143),
                leader_changes=(change(20), change(2000)),
            ),
            "2 outages, 2 min 55 s in all. 2 leader changes, not outages.",
            "Degraded since 03:09:54, for 2 min 13 s. Before that available, but for 42 s from 02:41:10, degraded."
            " Leader changes at 03:11:47 and 02:38:47.",
        ),
    ],
)
def test_the_hour_in_words(past: HistoryStatus, summary: str, caption: str) -> None:
    """How many outages and for how long, and leader changes that were none; then the same with the times."""
    found = described(facts(history=past))
    assert str(found.summary) == summary
    assert str(found.caption) == caption


def test_an_outage_that_is_over_does_not_grow() -> None:
    """Its length is an age only as long as it lasts: a browser counts ages up."""
    over = history(stretch(S.AVAILABLE, 60, 60), stretch(S.DEGRADED, 102, 42), stretch(S.AVAILABLE, 600, 498))
    lasting = history(stretch(S.DEGRADED, 42, 42), stretch(S.AVAILABLE, 600, 558))
    assert described(facts(history=over)).summary.seconds is None
    assert described(facts(history=lasting)).summary.seconds == 42


def test_an_outage_in_two_states_is_one() -> None:
    """Degraded and then unavailable is one outage, as its id says, and lasts for both."""
    found = described(
        facts(
            history=history(
                stretch(S.UNAVAILABLE, 100, 100, outage_id="a"),
                stretch(S.DEGRADED, 130, 30, outage_id="a"),
                stretch(S.AVAILABLE, 28_000, 27_870),
            )
        )
    )
    assert (found.outages, found.outage_seconds) == (1, 130)


def test_only_what_is_within_the_window_counts() -> None:
    """An outage that began before the window counts with what lies within it."""
    found = described(facts(history=history(stretch(S.AVAILABLE, 3000, 3000), stretch(S.DEGRADED, 4000, 1000))))
    assert (found.outages, found.outage_seconds) == (1, 600)
