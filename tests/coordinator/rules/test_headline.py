"""What is the matter with etcd, in one sentence."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.coordinator.reports import OUTAGE, away, facts
from tideover.cluster.rules.health import finding
from tideover.coordinator.rules.headline import announcement, headline, why
from tideover.status import QuorumStatus, StatusReport
from tideover.types import Diagnosis, HealthState

D, S = Diagnosis, HealthState
UNASKED = facts(state=S.UNAVAILABLE, diagnosis=D.STARTING, seconds=0.0)


@pytest.mark.parametrize(
    ("report", "sentence", "because"),
    [
        (facts(), "etcd answers.", "healthy: a quorum answers"),
        (facts(diagnosis=D.LEADER_CHANGE), "etcd is electing a leader.", "leader change: 3 of 3 members answer"),
        (
            facts(diagnosis=D.CUT_OFF, quorum=QuorumStatus(3, 0, 2)),
            "No etcd member answers; no outage is declared yet.",
            "cut off: 0 of 3 members answer",
        ),
        (
            facts(diagnosis=D.NO_SPACE),
            "etcd refuses writes: its database quota is used up.",
            "no space: a quorum answers, and its database quota is used up",
        ),
        (UNASKED, "etcd has not been asked yet.", "starting: nobody has been asked yet"),
        (away(), "etcd has had no quorum for 2 min 13 s.", "quorum lost: 1 of 3 members answers"),
        (away(D.CUT_OFF), "No etcd member has answered for 2 min 13 s.", "cut off: 0 of 3 members answer"),
        (
            away(D.CUT_OFF, quorum=QuorumStatus(1, 0, 1)),
            "No etcd member has answered for 2 min 13 s.",
            "cut off: 0 of 1 member answer",
        ),
        (
            away(D.UNAUTHORIZED),
            "etcd has refused this client's credentials for 2 min 13 s.",
            "unauthorized: a quorum refuses this client's credentials",
        ),
        (away(D.SLOW), "etcd has answered too slowly to use for 2 min 13 s.", "slow: a quorum answers too slowly"),
        (away(D.HEALTHY), "etcd begins to answer again, after 2 min 13 s.", "healthy: a quorum answers"),
    ],
)
def test_the_headline_says_what_is_the_matter(report: StatusReport, sentence: str, because: str) -> None:
    """One sentence for each diagnosis, in each state that it comes in; beside it what the members said."""
    assert str(headline(report)) == sentence
    assert why(report) == because


def test_without_a_quorum_since_the_outage_began() -> None:
    """Members answer again since 3 s, and a quorum was lost long before: the headline counts from the outage."""
    report = away(seconds=3.0, outage=replace(OUTAGE, seconds=200.0))
    assert str(headline(report)) == "etcd has had no quorum for 3 min 20 s."
    assert str(headline(away(D.CUT_OFF, seconds=3.0))) == "No etcd member has answered for 3 s."


def test_an_announcement_has_no_age() -> None:
    """It stays the same as long as state and diagnosis do: who listens is told of changes alone."""
    assert announcement(away()) == announcement(away(seconds=900.0)) == "etcd has no quorum. State degraded."
    assert announcement(away(D.CUT_OFF)) == "No etcd member answers. State unavailable."


@pytest.mark.parametrize("diagnosis", D)
def test_every_diagnosis_has_words(diagnosis: Diagnosis) -> None:
    """Each has a headline well and away, an announcement, and what was found, now and then."""
    quorum = QuorumStatus(3, 1, 2)
    for report in (facts(diagnosis=diagnosis, quorum=quorum), away(diagnosis)):
        assert str(headline(report)).endswith(".")
        assert announcement(report).endswith(f". State {report.state}.")
    assert finding(diagnosis, quorum)
    assert finding(diagnosis, quorum, past=True)
