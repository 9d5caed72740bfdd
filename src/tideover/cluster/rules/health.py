"""What the health is called, in words and in attributes."""

from __future__ import annotations

from tideover.status import QuorumStatus
from tideover.types import Diagnosis, HealthState

_SENTENCES = {
    Diagnosis.STARTING: "etcd has not been asked yet",
    Diagnosis.HEALTHY: "etcd answers",
    Diagnosis.LEADER_CHANGE: "etcd is electing a leader",
    Diagnosis.QUORUM_LOST: "etcd has no quorum",
    Diagnosis.CUT_OFF: "no etcd member answers",
    Diagnosis.UNAUTHORIZED: "etcd refuses this client's credentials",
    Diagnosis.NO_SPACE: "etcd refuses writes: its database quota is used up",
    Diagnosis.CORRUPT: "etcd refuses writes: it has found its data damaged",
    Diagnosis.SLOW: "etcd answers too slowly to use",
}
_FOUND = {
    Diagnosis.STARTING: "nobody has been asked yet",
    Diagnosis.HEALTHY: "a quorum answers",
    Diagnosis.UNAUTHORIZED: "a quorum refuses this client's credentials",
    Diagnosis.NO_SPACE: "a quorum answers, and its database quota is used up",
    Diagnosis.CORRUPT: "a quorum answers, and it has found its data damaged",
    Diagnosis.SLOW: "a quorum answers too slowly",
}
_REASONS = {
    Diagnosis.QUORUM_LOST: "quorum_lost",
    Diagnosis.LEADER_CHANGE: "quorum_lost",
    Diagnosis.UNAUTHORIZED: "auth_failed",
    Diagnosis.SLOW: "backend_timeout",
}


def sentence(diagnosis: Diagnosis) -> str:
    """Return the diagnosis in words for a tired person, without the full stop."""
    return _SENTENCES[diagnosis]


def finding(diagnosis: Diagnosis, quorum: QuorumStatus, *, past: bool = False) -> str:
    """Return what the members said: `"1 of 3 members answers"`; `past` for what was found some time ago."""
    if diagnosis in _FOUND:
        return _FOUND[diagnosis]
    return answering(quorum, past=past)


def answering(quorum: QuorumStatus, *, past: bool = False) -> str:
    """Return how many members answer: `"1 of 3 members answers"`."""
    answer = "answered" if past else "answers" if quorum.answering == 1 else "answer"
    members = "1 member" if quorum.members == 1 else f"{quorum.members} members"
    return f"{quorum.answering} of {members} {answer}"


def reason_of(state: HealthState, diagnosis: Diagnosis) -> str:
    """Return why answers are degraded, as the attribute `tideover.reason` says it."""
    if diagnosis is Diagnosis.STARTING:
        return "not_started"
    if state is HealthState.AVAILABLE:
        return "watch_stale"
    return _REASONS.get(diagnosis, "backend_unavailable")
