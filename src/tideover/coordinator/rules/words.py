"""Words that several rules share; whatever others have written is shown by `shown`."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from tideover.shown import shown
from tideover.status import Statement, duration

# How many names a sentence has, and how long each may be.
_MOST = 4
_LONGEST = 80


def named(name: str) -> str:
    """Return a name in quotes."""
    return f"'{plain(name)}'"


def plain(name: str) -> str:
    """Return a name as people are shown it."""
    return shown(name, _LONGEST)


def listed(names: Iterable[str], most: int = _MOST, *, beyond: int = 0) -> str:
    """Return names in a row: `"a, b and c"`, `"a, b and 7 more"`.

    Args:
        most: How many are named, with "more" for one of them.
        beyond: How many there are that are not among `names`.
    """
    found = list(names)
    if (number := len(found) + beyond) > most:
        found = [*found[: most - 1], f"{number - most + 1:,} more"]
    return " and ".join([", ".join(found[:-1]), found[-1]] if len(found) > 1 else found)


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return how many there are: `"1 key"`, `"12 keys"`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {plural or noun + 's'}"


def span(seconds: float) -> str:
    """Return a duration that an operator has chosen: `"5 min"`, not `"5 min 0 s"`."""
    if not math.isfinite(seconds):
        return duration(seconds)
    if seconds < 60:
        return f"{seconds:g} s"
    return f"{seconds / 60:g} min" if seconds % 60 == 0 and seconds <= 7200 else duration(seconds)


def aged(text: str, seconds: float, rest: str = "", *, unknown: str = "of unknown age") -> Statement:
    """Return a statement with an age; `unknown` stands for one that is not known, with all that is behind it."""
    return Statement(text, seconds, rest) if math.isfinite(seconds) else Statement(f"{text}{unknown}")


def joined(statements: Sequence[str]) -> str:
    """Return sentences in a row."""
    return " ".join(filter(None, statements))
