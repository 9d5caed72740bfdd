"""status.json: the report for programs, bounded."""

from __future__ import annotations

import json

from tideover.status import StatusReport

# Items of a list, and characters of a text.
_MOST = 1000
_LONGEST = 2000


def to_json(report: StatusReport) -> bytes:
    """Return the report as JSON in ASCII; lists that were cut are counted under `cut`, by their place."""
    cut: dict[str, int] = {}
    document = _bounded(report.to_dict(), "", cut)
    assert isinstance(document, dict)
    if cut:
        document["cut"] = cut
    return json.dumps(document, separators=(",", ":"), allow_nan=False).encode("ascii")


def _bounded(value: object, place: str, cut: dict[str, int]) -> object:
    if isinstance(value, str):
        return value if len(value) <= _LONGEST else f"{value[:_LONGEST]}..."
    if isinstance(value, dict):
        return {name: _bounded(item, f"{place}.{name}".lstrip("."), cut) for name, item in value.items()}
    if isinstance(value, list):
        if len(value) > _MOST:
            cut[place] = len(value)
        return [_bounded(item, place, cut) for item in value[:_MOST]]
    return value
