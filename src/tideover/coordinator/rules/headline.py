"""What is the matter with etcd, in one sentence for a tired person."""

from __future__ import annotations

from tideover.cluster.rules.health import finding, sentence
from tideover.coordinator.rules.situation import is_away
from tideover.status import Statement, StatusReport
from tideover.types import Diagnosis, HealthState

_LASTING = {
    Diagnosis.LEADER_CHANGE: "etcd has had no quorum for ",
    Diagnosis.QUORUM_LOST: "etcd has had no quorum for ",
    Diagnosis.CUT_OFF: "No etcd member has answered for ",
    Diagnosis.UNAUTHORIZED: "etcd has refused this client's credentials for ",
    Diagnosis.SLOW: "etcd has answered too slowly to use for ",
}


def why(report: StatusReport) -> str:
    """Return the diagnosis and what the members said: `"quorum lost: 1 of 3 members answers"`."""
    return f"{report.diagnosis.value.replace('_', ' ')}: {finding(report.diagnosis, report.quorum)}"


def headline(report: StatusReport) -> Statement:
    """Return the sentence, with for how long that has been so in an outage."""
    diagnosis, brief = report.diagnosis, _capital(sentence(report.diagnosis))
    if diagnosis is Diagnosis.STARTING:
        return Statement(f"{brief}.")
    if not is_away(report):
        passing = diagnosis in _LASTING and diagnosis is not Diagnosis.LEADER_CHANGE
        return Statement(f"{brief}; no outage is declared yet." if passing else f"{brief}.")
    if diagnosis not in _LASTING:
        # One good round, and not yet the second one.
        return Statement("etcd begins to answer again, after ", _seconds(report), ".")
    # Whether any member answers is of the state, whether a quorum does of the whole outage.
    cut_off = diagnosis is Diagnosis.CUT_OFF
    return Statement(_LASTING[diagnosis], report.seconds if cut_off else _seconds(report), ".")


def announcement(report: StatusReport) -> str:
    """Return what is the matter and the state, without an age."""
    return f"{_capital(sentence(report.diagnosis))}. State {report.state}."


def _seconds(report: StatusReport) -> float:
    return report.seconds if report.outage is None else report.outage.seconds


def _capital(text: str) -> str:
    # Not of "etcd", which is written so.
    return text if text.startswith("etcd") else text[:1].upper() + text[1:]


def level(state: HealthState) -> str:
    """Return the state as an adjective at the beginning of a sentence."""
    return state.value.capitalize()
