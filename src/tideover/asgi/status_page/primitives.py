"""The four primitives, in one table."""

from __future__ import annotations

from tideover.asgi.status_page.ages import Ages
from tideover.asgi.status_page.words import TONES, Facts, clock
from tideover.status import PrimitiveStatus, StatusReport

_NAMES = {"config": "Config", "discovery": "Discovery", "election": "Leader election", "lock": "Locks"}


def primitives(report: StatusReport, ages: Ages) -> Facts:
    """Return a row for each of the four."""
    return {"profile": report.profile, "rows": [_row(each, ages) for each in report.primitives]}


def _row(primitive: PrimitiveStatus, ages: Ages) -> Facts:
    unused = primitive.state is None
    share = 0.0 if primitive.age is None or not primitive.limit else primitive.age / primitive.limit
    tone = "bad" if primitive.over else "warn" if share >= 0.8 else "ok"
    return {
        "name": _NAMES.get(primitive.component, primitive.component),
        "note": primitive.what,
        "tone": "none" if primitive.state is None else TONES[primitive.state],
        "state": "not used" if primitive.state is None else str(primitive.state),
        "since": "" if unused else clock(primitive.since),
        "lasting": "" if unused else ages(primitive.seconds),
        "source": primitive.source or "none",
        "age": None if primitive.age is None else ages(primitive.age, limit=primitive.limit, tone=tone),
        "over": primitive.over,
        "limit": primitive.limit_words,
        "error": primitive.error or "",
        "probe": ages(primitive.next_probe, "in"),
    }
