"""The last hour as a chart, in which the level is the state, and the same as a table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import groupby, pairwise

from tideover.asgi.status_page.ages import Ages
from tideover.asgi.status_page.words import TONES, Facts, Phrase, clock, cut, phrase, span
from tideover.status import HistoryStatus, LeaderChangeStatus, StatusReport, TransitionStatus, duration
from tideover.types import Diagnosis, HealthState

# Where the level of a state is drawn, in pixels from the top.
_LEVELS = {HealthState.AVAILABLE: 36, HealthState.DEGRADED: 72, HealthState.UNAVAILABLE: 108}
# Per cent of the width: the narrowest outage, and the least distance of two labels.
_NARROW = 0.4
_APART = 24.0
# How often the chart moves on while nothing happens, in shares of its width.
_STEPS = 60
_ROWS = 12
_WORDS = {
    Diagnosis.QUORUM_LOST: "no quorum",
    Diagnosis.CUT_OFF: "no answer",
    Diagnosis.SLOW: "too slow",
    Diagnosis.NO_SPACE: "no space",
    Diagnosis.CORRUPT: "corrupt",
    Diagnosis.UNAUTHORIZED: "refused",
}


@dataclass(frozen=True, slots=True)
class Mark:
    """A mark on the chart; its place moves with time, which is no change. Narrow screens leave out minor ones."""

    tone: str
    y: int
    text: str = ""
    minor: bool = False
    x: float = field(default=0.0, compare=False)
    width: float = field(default=0.0, compare=False)

    @property
    def end(self) -> float:
        """Where it ends."""
        return round(self.x + self.width, 2)

    @property
    def anchor(self) -> str:
        """Which end of a text stands there."""
        return "start" if self.x < 10 else "end" if self.x > 88 else "middle"


def hour(report: StatusReport, ages: Ages, *, window: float) -> Facts:
    """Return the context of the chart and the table."""
    history = report.history
    shown = [each for each in history.transitions if each.present or each.ago - each.seconds < window]
    spans = [_span(each, window) for each in reversed(shown)]
    rows, more = cut(shown, _ROWS)
    return {
        "heading": "Last hour" if window == 3600 else f"Last {span(window)}",
        "note": phrase(history.summary, ages),
        "told": phrase(history.caption, ages),
        # So that the chart is drawn again now and then.
        "step": report.at.timestamp() * _STEPS // window,
        "spans": [*_before(history.recorded_seconds, window), *spans],
        "falls": list(_falls(spans)),
        "ticks": [_tick(each, window) for each in history.leader_changes if each.ago < window],
        "labels": [
            *_labels(shown, window),
            *_change_labels(history.leader_changes, window),
            *_unrecorded_label(history, window),
        ],
        "times": list(_times(report, window)),
        "rows": [_row(each, ages) for each in rows],
        "more": more,
    }


def _place(ago: float, window: float) -> float:
    return round(max(0.0, min(100.0, 100.0 * (1 - ago / window))), 2)


def _span(stretch: TransitionStatus, window: float) -> Mark:
    begin = _place(stretch.ago, window)
    end = 100.0 if stretch.present else _place(stretch.ago - stretch.seconds, window)
    if stretch.state is not HealthState.AVAILABLE:
        begin = min(begin, end - _NARROW)
    return Mark(
        TONES[stretch.state], _LEVELS[stretch.state], stretch.at.isoformat(), x=begin, width=round(end - begin, 2)
    )


def _before(recorded: float, window: float) -> Iterator[Mark]:
    """Yield the time before this process recorded."""
    if recorded < window:
        yield Mark("none", 14, x=0.0, width=_place(recorded, window))


def _falls(spans: list[Mark]) -> Iterator[Mark]:
    for earlier, later in pairwise(spans):
        if earlier.y != later.y:
            yield Mark(str(later.y), earlier.y, x=later.x)


def _tick(change: LeaderChangeStatus, window: float) -> Mark:
    return Mark("tick", 27, change.at.isoformat(), x=_place(change.ago, window))


def _labels(shown: Iterable[TransitionStatus], window: float) -> Iterator[Mark]:
    """Yield a label for each outage, the newest first, as long as there is room between them."""
    room = 100.0 + _APART
    for outage, group in groupby(shown, key=lambda each: each.outage_id):
        stretches = list(group)
        if not outage:
            continue
        last, first = stretches[0], stretches[-1]
        end = 0.0 if last.present else last.ago - last.seconds
        x = _place((first.ago + end) / 2, window)
        if x > 88:
            x = 100.0
        if room - x < _APART:
            continue
        word = _WORDS.get(first.diagnosis, str(first.diagnosis))
        text = word if last.present else f"{word}, {duration(first.ago - end)}"
        yield Mark("label", 10, text, minor=room <= 100.0, x=x)
        room = x


def _change_labels(changes: Iterable[LeaderChangeStatus], window: float) -> Iterator[Mark]:
    room = 100.0 + _APART
    for change in changes:
        x = _place(change.ago, window)
        if change.ago < window and room - x >= _APART:
            lasted = "" if change.seconds is None else f", {change.seconds:.1f} s"
            yield Mark("label", 22, f"leader change{lasted}", minor=True, x=x)
            room = x


def _unrecorded_label(history: HistoryStatus, window: float) -> Iterator[Mark]:
    if history.recorded_seconds < window * 0.6:
        text = f"not recorded: this process started at {clock(history.recorded_since)}"
        yield Mark("label", 76, text, minor=True, x=_place(history.recorded_seconds, window) / 2)


def _times(report: StatusReport, window: float) -> Iterator[Mark]:
    for sixth in range(7):
        ago = window * (6 - sixth) / 6
        # As of the last step, so that it changes with that alone.
        step = window / _STEPS
        now = datetime.fromtimestamp(report.at.timestamp() // step * step, UTC)
        text = "now" if sixth == 6 else f"{now - timedelta(seconds=ago):%H:%M}"
        yield Mark("time", 145, text, minor=sixth % 2 == 1, x=round(100 * sixth / 6, 2))


def _row(stretch: TransitionStatus, ages: Ages) -> Facts:
    return {
        "at": clock(stretch.at),
        "tone": TONES[stretch.state],
        "state": str(stretch.state),
        "why": stretch.why,
        "lasted": ages(stretch.seconds, "so far") if stretch.present else Phrase(duration(stretch.seconds)),
        "outage": stretch.outage_id,
    }
