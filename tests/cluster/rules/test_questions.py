"""Which questions tell something new, and how often they may be asked."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tideover.cluster.rules.diagnosis import Answer, MemberAnswers
from tideover.cluster.rules.questions import MOST_QUESTIONS, SERVES_FOR, completed, lanes_to_ask, pause_after
from tideover.store.operations import Lane
from tideover.types import Diagnosis

BOTH = (Lane.QUORUM, Lane.MEMBER)
ANSWERS = st.sampled_from(Answer)
PERHAPS = st.none() | ANSWERS


def test_a_stranger_is_asked_both() -> None:
    """Of a member that was never asked nothing is known."""
    assert lanes_to_ask(None, None, asked_ago=math.inf) == BOTH


@pytest.mark.parametrize(
    "answer", [Answer.UNREACHABLE, Answer.SILENT, Answer.REFUSED, Answer.FAILED, Answer.NO_LEADER]
)
@given(quorum=PERHAPS, asked_ago=st.floats(0, 100))
def test_who_does_not_serve_is_asked_once(answer: Answer, quorum: Answer | None, asked_ago: float) -> None:
    """A member that does not answer the question that needs only itself is not asked for more."""
    assert lanes_to_ask(quorum, answer, asked_ago=asked_ago) == (Lane.MEMBER,)


def test_who_serves_and_has_no_leader_is_asked_for_one() -> None:
    """For a few seconds; then whether it still serves is asked as well."""
    assert lanes_to_ask(Answer.NO_LEADER, Answer.OK, asked_ago=SERVES_FOR - 0.1) == (Lane.QUORUM,)
    assert lanes_to_ask(Answer.NO_LEADER, Answer.OK, asked_ago=SERVES_FOR) == BOTH
    for quorum in set(Answer) - {Answer.NO_LEADER}:
        assert lanes_to_ask(quorum, Answer.OK, asked_ago=0) == BOTH


@given(ANSWERS, ANSWERS, PERHAPS)
def test_what_was_asked_is_what_counts(quorum: Answer, member: Answer, lately: Answer | None) -> None:
    """Two answers are two answers, whatever was said before."""
    assert completed(quorum, member, lately=lately) == MemberAnswers(quorum, member)


@given(PERHAPS, PERHAPS, PERHAPS)
def test_no_quorum_follows_from_a_member(
    quorum: Answer | None, member: Answer | None, lately: Answer | None
) -> None:
    """That a quorum answers is never concluded: it must have been asked; and that a member serves only of one that
    says that it has no leader."""
    found = completed(quorum, member, lately=lately)
    assert (found.quorum in (Answer.OK, Answer.LATE)) <= (quorum is found.quorum)
    if member is None and found.member in (Answer.OK, Answer.LATE):
        assert (quorum, lately) == (Answer.NO_LEADER, Answer.OK)


@pytest.mark.parametrize("answer", [Answer.UNREACHABLE, Answer.SILENT, Answer.REFUSED, Answer.FAILED])
def test_one_answer_stands_for_the_other(answer: Answer) -> None:
    """What a member says to all questions alike need not be asked twice."""
    assert (
        completed(None, answer, lately=None)
        == completed(answer, None, lately=None)
        == MemberAnswers(answer, answer)
    )


@given(st.integers(0, 30), st.floats(0.1, 2), st.booleans(), st.sampled_from(Diagnosis))
def test_the_pause_keeps_to_the_rate(questions: int, least: float, news: bool, diagnosis: Diagnosis) -> None:
    """Never shorter than the least; and without news as long as the questions of the round are allowed to take."""
    pause = pause_after(questions, least=least, news=news, diagnosis=diagnosis)
    assert pause >= least
    if not news and diagnosis is not Diagnosis.LEADER_CHANGE:
        assert questions <= pause * MOST_QUESTIONS + 1e-9
    else:
        assert pause == least


@given(PERHAPS, PERHAPS, st.floats(0, 100))
def test_a_foreign_member_is_asked_for_its_quorum(
    quorum: Answer | None, member: Answer | None, asked_ago: float
) -> None:
    """Whether another cluster has taken the place of ours only its quorum can tell."""
    assert Lane.QUORUM in lanes_to_ask(quorum, member, asked_ago=asked_ago, foreign=True)
