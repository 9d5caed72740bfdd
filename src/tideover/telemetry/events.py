"""Log events: to OpenTelemetry's logs, and the same line to `logging`."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping

from opentelemetry import _logs

from tideover.telemetry.scope import SCHEMA

_log = logging.getLogger("tideover")
_events = _logs.get_logger("tideover", schema_url=SCHEMA)


Attributes = Mapping[str, str | bool | int | float]


_SEVERITIES = {
    logging.INFO: _logs.SeverityNumber.INFO,
    logging.WARNING: _logs.SeverityNumber.WARN,
    logging.ERROR: _logs.SeverityNumber.ERROR,
}


def event(name: str, text: str, attributes: Attributes, *, level: int = logging.INFO) -> None:
    """Emit a log event, and the same line to `logging`.

    Args:
        name: The event's name.
        text: The line for people.
        attributes: What it is about.
        level: The `logging` level.
    """
    _log.log(level, "%s: %s", name, text)
    _events.emit(
        _logs.LogRecord(
            timestamp=time.time_ns(),
            severity_number=_SEVERITIES[level],
            severity_text=logging.getLevelName(level),
            body=text,
            attributes=dict(attributes),
            event_name=name,
        )
    )
