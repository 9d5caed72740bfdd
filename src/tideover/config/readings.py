"""Makes readings, so that a field of `Reading` has one place where it gets its value."""

from __future__ import annotations

from typing import Final

from tideover.types import Reading, Source


class Missing:
    """The type of `MISSING`: no default was given."""

    def __repr__(self) -> str:
        """Return what signatures show as the default."""
        return "MISSING"


MISSING: Final = Missing()


def found(
    key: str, value: object, source: Source, revision: int, age: float, *, stale: bool, rejected: int | None = None
) -> Reading[object]:
    """Return the reading of a key that exists."""
    return Reading(key, value, True, source, revision, age, stale, rejected)


def absent(key: str, default: object, source: Source, age: float, *, stale: bool) -> Reading[object]:
    """Return the reading of a key that is absent or unknown: the default if there is one."""
    if default is MISSING:
        return Reading(key, None, False, source, 0, age, stale)
    return Reading(key, default, False, Source.DEFAULT, 0, age, stale)
