"""Counts in words, and ages in JSON."""

from __future__ import annotations

import math


def counted(count: int, noun: str = "key") -> str:
    """Return a number of things, such as `3 keys`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def json_age(age: float) -> float | None:
    """Return an age as JSON has it: null if unknown."""
    return age if math.isfinite(age) else None
