"""Which questions tell something new, and how often they may be asked.

A round asks each member for a linearizable read, which needs a quorum, and a serializable one, which needs only
the member. Who refuses the connection, says nothing or refuses the client does so to both, so that the second says
what the first would; a member without a leader goes on serving what it has. The next round comes soon after news,
and else as late as keeps a process at a few questions a second, whatever is wrong.
"""

from __future__ import annotations

from tideover.cluster.rules.diagnosis import Answer, MemberAnswers
from tideover.store.operations import Lane
from tideover.types import Diagnosis

# Questions a second while nothing new is learned; the rest of five a second is for those who must ask as well.
MOST_QUESTIONS = 2.4
# Seconds for which a member that goes on saying that it has no leader is believed to serve serializable reads.
SERVES_FOR = 3.0

_ANSWERED = (Answer.OK, Answer.LATE)
# What is said to every question alike.
_TO_ALL = (Answer.UNREACHABLE, Answer.SILENT, Answer.REFUSED, Answer.FAILED)


def lanes_to_ask(
    quorum: Answer | None, member: Answer | None, *, asked_ago: float, foreign: bool = False
) -> tuple[Lane, ...]:
    """Return what a member is asked in this round: both, or only the question whose answer includes the other's.

    `quorum` and `member` are its newest answers to linearizable and serializable reads, None without one, and
    `asked_ago` seconds since the latter was asked. If that was `foreign`, of another cluster, only a quorum can
    tell that it has taken the place of ours.
    """
    if member is not None and member not in _ANSWERED and not foreign:
        return (Lane.MEMBER,)
    if member is Answer.OK and quorum is Answer.NO_LEADER and asked_ago < SERVES_FOR:
        return (Lane.QUORUM,)
    return (Lane.QUORUM, Lane.MEMBER)


def completed(quorum: Answer | None, member: Answer | None, *, lately: Answer | None) -> MemberAnswers:
    """Return a member's answers of one round, with what follows from the question that was asked for the other.

    None is a question that was not asked; `lately` is the newest answer to a serializable read before.
    """
    if quorum is None:
        quorum = Answer.SILENT if member is None or member in _ANSWERED else member
    elif member is None:
        serves = quorum is Answer.NO_LEADER and lately is Answer.OK
        member = Answer.OK if serves else quorum if quorum in _TO_ALL else Answer.SILENT
    return MemberAnswers(quorum, Answer.SILENT if member is None else member)


def pause_after(questions: int, *, least: float, news: bool, diagnosis: Diagnosis) -> float:
    """Return seconds from one round of so many questions to the next while something is wrong.

    `news` is whether its verdict differs from the one before. An election ends soon, so that it is followed
    closely, for 2 s at the most.
    """
    if news or diagnosis is Diagnosis.LEADER_CHANGE:
        return least
    return max(least, questions / MOST_QUESTIONS)
