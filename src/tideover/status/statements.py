"""Words for people: durations, and statements in which an age goes on counting."""

from __future__ import annotations

import math

from tideover.records import UnknownAge, record
from tideover.status.bounded import BoundedRecord


@record
class Statement(BoundedRecord):
    """A sentence, or a part of one, with at most one age in it that goes on counting after the report was made.

    `str()` gives the whole sentence.

    Attributes:
        text: The words before the age; all of them without an age.
        seconds: The age in seconds; None if there is none.
        rest: The words after the age.
    """

    text: str
    seconds: UnknownAge | float | None = None
    rest: str = ""

    def __str__(self) -> str:
        return self.text if self.seconds is None else f"{self.text}{duration(self.seconds)}{self.rest}"


def age_in_words(seconds: float) -> str:
    """Return an age for people: `"42 s old"`, or `"of unknown age"` if it is infinite."""
    return f"{duration(seconds)} old" if math.isfinite(seconds) else "of unknown age"


def duration(seconds: float) -> str:
    """Return a duration for people: `"42 s"`, `"2 min 13 s"`, `"3 h 5 min"`, `"of unknown length"`."""
    if not math.isfinite(seconds):
        return "of unknown length"
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 48 * 3600:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"
