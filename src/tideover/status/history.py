"""The records of the last hour: transitions of the health state, leader changes, and outages."""

from __future__ import annotations

from datetime import datetime

from tideover.records import record
from tideover.status.bounded import BoundedRecord
from tideover.status.statements import Statement
from tideover.types import Diagnosis, HealthState


@record
class TransitionStatus(BoundedRecord):
    """One stretch of time in one health state.

    Attributes:
        at: When it began.
        ago: Seconds since then.
        state: The state.
        diagnosis: Why, as it was found when it began.
        why: The same in words, with what the members said: `"1 of 3 members answered"`.
        seconds: For how long it lasted; so far, if `present`.
        present: Whether it lasts.
        outage_id: The outage that it is a part of; empty if it is none.
    """

    at: datetime
    ago: float
    state: HealthState
    diagnosis: Diagnosis
    why: str
    seconds: float
    present: bool
    outage_id: str


@record
class LeaderChangeStatus(BoundedRecord):
    """One change of etcd's leader that was no outage.

    Attributes:
        at: When the new leader was first seen.
        ago: Seconds since then.
        seconds: For how long this process was without a quorum; None if none of its calls noticed.
        raft_term: The new leader's term.
    """

    at: datetime
    ago: float
    seconds: float | None
    raft_term: int


@record
class OutageStatus(BoundedRecord):
    """One outage, from its declaration to its end.

    Attributes:
        outage_id: Its id, as in spans, logs and answers.
        began: When it was declared.
        seconds: For how long it lasted; so far, if it lasts.
        ended: When it was over; None if it lasts.
        diagnosis: What was the matter with etcd when it was declared.
        why: The same in words.
        trace_query: The query (TraceQL) for the spans of all affected services.
    """

    outage_id: str
    began: datetime
    seconds: float
    ended: datetime | None
    diagnosis: Diagnosis
    why: str
    trace_query: str


@record
class HistoryStatus(BoundedRecord):
    """What has happened in the last hour.

    Attributes:
        window: How many seconds it reaches back.
        recorded_since: When recording began: when the coordinator was entered.
        recorded_seconds: Seconds since then.
        transitions: The stretches of time in one state, the present one first. The last one may have begun before
            the window.
        leader_changes: The leader changes that were no outages, the newest first.
        outages: How many outages touch the window.
        outage_seconds: How many seconds of it they lasted.
        missed: How many entries were dropped early because there were too many.
        summary: All of it in a sentence or two.
        caption: All of it in words, with the times: what a picture of it shows.
    """

    window: float
    recorded_since: datetime
    recorded_seconds: float
    transitions: tuple[TransitionStatus, ...]
    leader_changes: tuple[LeaderChangeStatus, ...]
    outages: int
    outage_seconds: float
    missed: int
    summary: Statement
    caption: Statement
