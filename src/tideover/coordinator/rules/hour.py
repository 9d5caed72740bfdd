"""What has happened in the last hour, in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from tideover.coordinator.rules.headline import level
from tideover.coordinator.rules.words import counted, joined, listed
from tideover.status import (
    HistoryStatus,
    LeaderChangeStatus,
    Statement,
    StatusReport,
    TransitionStatus,
    duration,
)
from tideover.types import HealthState


def described(report: StatusReport) -> HistoryStatus:
    """Return the report's history with its outages counted, and in words."""
    history = report.history
    bad = [t for t in history.transitions if t.state is not HealthState.AVAILABLE]
    outages, seconds = len({t.outage_id for t in bad}), sum(_within(t, history.window) for t in bad)
    summary, caption = _summary(history, outages, seconds), _caption(history)
    return replace(history, outages=outages, outage_seconds=seconds, summary=summary, caption=caption)


def _within(stretch: TransitionStatus, window: float) -> float:
    """Return how many seconds of a stretch are within the window."""
    return max(0.0, min(stretch.ago, window) - (stretch.ago - stretch.seconds))


def _summary(history: HistoryStatus, outages: int, seconds: float) -> Statement:
    if not history.transitions:
        return Statement("Nothing is known yet.")
    changes = _changes(history.leader_changes)
    if not outages:
        return Statement(joined(["No outage.", changes]))
    number = counted(outages, "outage")
    behind = joined([" in all." if outages > 1 else ".", changes])
    if history.transitions[0].state is HealthState.AVAILABLE:
        # Of what is over, the length does not grow.
        return Statement(f"{number}, {duration(seconds)}{behind}")
    return Statement(f"{number}, ", seconds, behind)


def _changes(changes: Sequence[LeaderChangeStatus]) -> str:
    if not changes:
        return ""
    if len(changes) > 1:
        return f"{len(changes)} leader changes, not outages."
    took = changes[0].seconds
    return f"One leader change{'' if took is None else f' of {took:.1f} s'}, not an outage."


def _caption(history: HistoryStatus) -> Statement:
    if not history.transitions:
        return Statement("Nothing is known yet.")
    present, *before = history.transitions
    started = history.recorded_seconds < history.window
    began = f"since {_clock(present.at)}"
    if not before:
        text = f"{level(present.state)} for "
        start = f"this process started at {_clock(history.recorded_since)}" if started else _clock(present.at)
        behind = f", since {start}."
        nothing = "Nothing is recorded from before." if started else ""
        return Statement(text, present.seconds, joined([behind, _at(history.leader_changes), nothing]))
    earlier = [t for t in before if t.state is not HealthState.AVAILABLE]
    if earlier:
        each = listed([f"{duration(t.seconds)} from {_clock(t.at)}, {t.state}" for t in earlier], 3)
        past = f"Before that available, but for {each}."
    else:
        past = "Before that available."
    behind = joined([".", past, _at(history.leader_changes)])
    return Statement(f"{level(present.state)} {began}, for ", present.seconds, behind)


def _at(changes: Sequence[LeaderChangeStatus]) -> str:
    if not changes:
        return ""
    times = listed([_clock(change.at) for change in changes], 3)
    return f"One leader change at {times}." if len(changes) == 1 else f"Leader changes at {times}."


def _clock(at: datetime) -> str:
    return f"{at:%H:%M:%S}"
