"""Words and tones that several fragments share."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from tideover.asgi.status_page.ages import Age, Ages
from tideover.status import Statement, StatusReport, duration
from tideover.types import HealthState, Source

T = TypeVar("T")
Facts = dict[str, Any]

# Rows of a list that are shown.
ROWS = 50

TONES = {HealthState.AVAILABLE: "ok", HealthState.DEGRADED: "warn", HealthState.UNAVAILABLE: "bad"}


@dataclass(frozen=True, slots=True)
class Phrase:
    """A text with at most one age in it."""

    text: str
    age: Age | None = None
    rest: str = ""


def phrase(said: Statement, ages: Ages) -> Phrase:
    """Return a statement of the report for the page."""
    return Phrase(said.text, None if said.seconds is None else ages(said.seconds), said.rest)


def phrases(said: Iterable[Statement], ages: Ages) -> list[Phrase]:
    """Return statements of the report for the page."""
    return [phrase(each, ages) for each in said]


def clock(moment: datetime) -> str:
    """Return the time of a day, in UTC."""
    return f"{moment:%H:%M:%S}"


def day(moment: datetime, today: datetime) -> str:
    """Return a time, with its day if that is another one."""
    same = moment.date() == today.date()
    return f"{moment:%H:%M:%S} UTC" if same else f"{moment:%H:%M:%S} UTC on {moment.day} {moment:%B}"


def span(seconds: float) -> str:
    """Return a round length of time, such as a limit: `"5 min"`, not `"5 min 0 s"`."""
    return duration(seconds).removesuffix(" 0 s").removesuffix(" 0 min").removesuffix(" 0 h")


def cut(rows: Sequence[T], most: int = ROWS) -> tuple[Sequence[T], int]:
    """Return the first rows, and how many are left out."""
    return rows[:most], max(0, len(rows) - most)


def old(seconds: float, ages: Ages) -> Age | None:
    """Return an age if there is one."""
    return ages(seconds, "old") if math.isfinite(seconds) else None


def notes(report: StatusReport, ages: Ages, about: str) -> list[Facts]:
    """Return what the report notes about a part, as alerts."""
    found, left_out = cut([note for note in report.notes if note.about == about], 10)
    alerts = [
        alert(phrase(note.text, ages), note.tone, "" if note.name in str(note.text) else note.name)
        for note in found
    ]
    if left_out:
        alerts.append(alert(Phrase(f"And {left_out} more, in status.json.")))
    return alerts


def alert(text: Phrase, tone: str = "plain", subject: str = "") -> Facts:
    """Return an alert of a fragment."""
    return {"tone": tone, "subject": subject, "text": text}


def source_tone(source: Source | None, *, denied: bool = False, over: bool = False) -> str:
    """Return the tone of a rung of the ladder."""
    if denied or over or source is None:
        return "bad"
    return "ok" if source in (Source.LIVE, Source.QUORUM) else "warn"


def source_word(source: Source | None, *, denied: bool = False) -> str:
    """Return a rung of the ladder in a word or two."""
    return "denied" if denied else "never read" if source is None else str(source)
