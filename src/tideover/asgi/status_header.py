"""The `Tideover-Status` response field: an RFC 9651 dictionary that says what was degraded."""

from __future__ import annotations

import math
from collections.abc import Mapping

from tideover.request_record import Mark
from tideover.types import Source


def status_field(marks: Mapping[str, Mark]) -> bytes:
    """Return the field's value.

    Returns:
        One dictionary member per component: its source as a token, and its age in whole seconds as a parameter
        (absent if unknown, and of a lock), such as `config=memory;age=42`.
    """
    return ", ".join(_member(component, mark) for component, mark in marks.items()).encode("ascii")


def _member(component: str, mark: Mark) -> str:
    known = isinstance(mark.source, Source) and math.isfinite(mark.age)
    age = f";age={min(int(mark.age), 10**15 - 1)}" if known else ""
    return f"{component}={mark.source.value}{age}"
