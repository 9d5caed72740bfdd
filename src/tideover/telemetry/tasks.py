"""Background tasks that fail."""

from __future__ import annotations

import logging

from tideover.telemetry.events import event
from tideover.telemetry.scope import meter

_restarts = meter.create_counter(
    "tideover.task.restarts", unit="{restart}", description="Background tasks that failed and were started again."
)


def task_failed(name: str, error: BaseException | None) -> None:
    """Count a background task that is started again, and log it."""
    kind = name.partition(" ")[0]
    attributes = {"tideover.task": kind}
    if error is not None:
        attributes["error.type"] = type(error).__name__
    _restarts.add(1, attributes)
    what = "failed" if error is not None else "ended"
    text = f"background task {name!r} {what} unexpectedly and is started again"
    event("tideover.task.failed", text, level=logging.ERROR, about=name, error=error, attributes=attributes)
