"""Why etcd does not answer, from what its members said when each of them was asked."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum

from tideover.types import Diagnosis


class Answer(StrEnum):
    """How one member answered one probe: LATE is after the time a probe is given, FAILED with any other error."""

    OK = "ok"
    LATE = "late"
    NO_LEADER = "no_leader"
    SILENT = "silent"
    UNREACHABLE = "unreachable"
    REFUSED = "refused"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class MemberAnswers:
    """One member's answers in one round of probes: to a linearizable read, and to a serializable one."""

    quorum: Answer
    member: Answer

    @property
    def alive(self) -> bool:
        """Whether the member itself answers, quorum or not."""
        # Without a leader no client can renew an expired token, and then even a serializable read is told so.
        return self.member in (Answer.OK, Answer.LATE, Answer.NO_LEADER)


def quorum_of(members: int) -> int:
    """Return how many of `members` make a quorum."""
    return members // 2 + 1


def diagnosis_of(alarms: Collection[str]) -> Diagnosis:
    """Return what a cluster that answers in time is called, for the alarms it has raised; the worst counts."""
    if "CORRUPT" in alarms:
        return Diagnosis.CORRUPT
    return Diagnosis.NO_SPACE if "NOSPACE" in alarms else Diagnosis.HEALTHY


def diagnose(
    answers: Collection[MemberAnswers],
    *,
    members: int,
    leaderless: float,
    leader_change: float,
    alarms: Collection[str] = (),
    answering: int | None = None,
) -> Diagnosis:
    """Return what is wrong.

    A leader change and a lost quorum look alike at first: members answer, and none has a leader. What tells
    them apart is whether enough members answer to elect one, and for how long they have not.

    Args:
        answers: What each member that was asked said; a healthy round asks only one.
        members: How many voting members the cluster has.
        leaderless: Seconds since a quorum last answered.
        leader_change: Seconds that electing a leader may take.
        answering: How many different voting members answered at all; None means that each answer is another's.
    """
    if any(a.quorum is Answer.OK for a in answers):
        return diagnosis_of(alarms)
    if any(a.quorum is Answer.REFUSED for a in answers):
        return Diagnosis.UNAUTHORIZED
    if any(a.quorum is Answer.LATE for a in answers):
        return Diagnosis.SLOW
    alive = sum(a.alive for a in answers)
    if alive == 0:
        return Diagnosis.CUT_OFF
    enough = (alive if answering is None else answering) >= quorum_of(members)
    if enough and leaderless < leader_change:
        return Diagnosis.LEADER_CHANGE
    return Diagnosis.QUORUM_LOST
