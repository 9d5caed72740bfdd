"""The diagnosis: why etcd does not answer."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tideover.cluster.rules.diagnosis import Answer, MemberAnswers, diagnose, quorum_of
from tideover.types import Diagnosis

rounds = st.lists(
    st.builds(MemberAnswers, quorum=st.sampled_from(Answer), member=st.sampled_from(Answer)), max_size=5
)
seconds = st.floats(0, 100)

OK = MemberAnswers(Answer.OK, Answer.OK)
LATE = MemberAnswers(Answer.LATE, Answer.OK)
LEADERLESS = MemberAnswers(Answer.NO_LEADER, Answer.OK)
MUTE = MemberAnswers(Answer.SILENT, Answer.OK)
SLUGGISH = MemberAnswers(Answer.SILENT, Answer.LATE)
FROZEN = MemberAnswers(Answer.SILENT, Answer.SILENT)
DEAD = MemberAnswers(Answer.UNREACHABLE, Answer.UNREACHABLE)
REFUSING = MemberAnswers(Answer.REFUSED, Answer.REFUSED)
EXPIRED = MemberAnswers(Answer.NO_LEADER, Answer.NO_LEADER)
BROKEN = MemberAnswers(Answer.FAILED, Answer.FAILED)


def _diagnose(
    answers: list[MemberAnswers], leaderless: float = 0.0, *, members: int = 3, no_space: bool = False
) -> Diagnosis:
    return diagnose(
        answers, members=members, leaderless=leaderless, leader_change=2.0, alarms=["NOSPACE"] * no_space
    )


@pytest.mark.parametrize(
    ("answers", "leaderless", "diagnosis"),
    [
        ([OK], 0.0, Diagnosis.HEALTHY),
        ([OK, DEAD, DEAD], 60.0, Diagnosis.HEALTHY),
        ([LEADERLESS, LEADERLESS, DEAD], 0.5, Diagnosis.LEADER_CHANGE),
        ([MUTE, SLUGGISH, DEAD], 1.99, Diagnosis.LEADER_CHANGE),
        ([LEADERLESS, LEADERLESS, LEADERLESS], 2.0, Diagnosis.QUORUM_LOST),
        ([LEADERLESS, DEAD, DEAD], 0.0, Diagnosis.QUORUM_LOST),
        ([LEADERLESS, FROZEN, FROZEN], 0.5, Diagnosis.QUORUM_LOST),
        ([DEAD, DEAD, DEAD], 0.0, Diagnosis.CUT_OFF),
        ([FROZEN, DEAD, BROKEN], 9.0, Diagnosis.CUT_OFF),
        ([LATE, LEADERLESS, DEAD], 0.5, Diagnosis.SLOW),
        ([EXPIRED, DEAD, DEAD], 9.0, Diagnosis.QUORUM_LOST),
        ([REFUSING, DEAD, DEAD], 0.5, Diagnosis.UNAUTHORIZED),
        ([REFUSING, OK, DEAD], 0.5, Diagnosis.HEALTHY),
        ([], 0.0, Diagnosis.CUT_OFF),
    ],
)
def test_the_table(answers: list[MemberAnswers], leaderless: float, diagnosis: Diagnosis) -> None:
    """Each pattern of a three-member cluster has its name."""
    assert _diagnose(answers, leaderless) is diagnosis


@settings(deadline=None)
@given(rounds, seconds, st.integers(1, 7), st.booleans())
def test_a_timely_quorum_is_health(
    answers: list[MemberAnswers], leaderless: float, members: int, no_space: bool
) -> None:
    """The diagnosis is HEALTHY or NO_SPACE exactly if one linearizable read was answered in time."""
    found = _diagnose(answers, leaderless, members=members, no_space=no_space)
    healthy = any(a.quorum is Answer.OK for a in answers)
    assert (found in (Diagnosis.HEALTHY, Diagnosis.NO_SPACE)) is healthy
    assert (found is Diagnosis.NO_SPACE) is (healthy and no_space)


@settings(deadline=None)
@given(rounds, seconds, st.integers(1, 7))
def test_an_excuse_needs_a_quorum_alive_and_little_time(
    answers: list[MemberAnswers], leaderless: float, members: int
) -> None:
    """LEADER_CHANGE is said only while enough members for a quorum answer, and only for so long."""
    if _diagnose(answers, leaderless, members=members) is Diagnosis.LEADER_CHANGE:
        assert leaderless < 2.0
        alive = (Answer.OK, Answer.LATE, Answer.NO_LEADER)
        assert sum(a.member in alive for a in answers) > members / 2


@settings(deadline=None)
@given(rounds, seconds)
def test_cut_off_means_that_nobody_answered(answers: list[MemberAnswers], leaderless: float) -> None:
    """CUT_OFF is never said while a member answers in either way."""
    if _diagnose(answers, leaderless) is Diagnosis.CUT_OFF:
        assert not any({a.quorum, a.member} & {Answer.OK} for a in answers)
        assert not any(a.member is Answer.LATE for a in answers)


@settings(deadline=None)
@given(rounds, seconds)
def test_it_is_never_starting_again(answers: list[MemberAnswers], leaderless: float) -> None:
    """Once somebody was asked there is a diagnosis."""
    assert _diagnose(answers, leaderless) is not Diagnosis.STARTING


@settings(deadline=None)
@given(st.integers(1, 99))
def test_two_quorums_share_a_member(members: int) -> None:
    """A quorum is the smallest number of members of which there cannot be two at once."""
    assert 2 * quorum_of(members) > members >= 2 * (quorum_of(members) - 1)
