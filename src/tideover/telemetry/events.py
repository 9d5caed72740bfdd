"""Log events: to OpenTelemetry's logs, and the same line to `logging`.

An event that repeats itself about the same subject is logged once in 30 s, with a count; metrics count every one.
Changes of the health state, of a leadership and of a registration are always logged: a line may be left out only
while the last line logged is still true, and an outage that begins 10 s after the end of another would leave "etcd
is available" as the last word. Such changes are rare, because an outage is declared after 3 s.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

import anyio
from opentelemetry import _logs

from tideover.shown import cut, shown_line
from tideover.telemetry.scope import SCHEMA, Attributes, bounded
from tideover.version import VERSION

# Seconds in which an event that repeats itself is logged once.
INTERVAL = 30.0
# Characters of a line, beside the event's name and the count: whatever it quotes, a log stays readable.
_LONGEST = 900
# How many different events are remembered.
_REMEMBERED = 1000

_log = logging.getLogger("tideover")
_events = _logs.get_logger("tideover", VERSION, schema_url=SCHEMA)

# Fields of the line to `logging`, for formatters that print them, and where each comes from.
_FIELDS = {
    "component": "tideover.component",
    "state": "tideover.state",
    "outage_id": "tideover.outage_id",
}

_SEVERITIES = {
    logging.INFO: _logs.SeverityNumber.INFO,
    logging.WARNING: _logs.SeverityNumber.WARN,
    logging.ERROR: _logs.SeverityNumber.ERROR,
}


def _now() -> float:
    """Return the event loop's time, which is the monotonic clock's, except in tests."""
    try:
        return anyio.current_time()
    except RuntimeError:  # a thread without an event loop
        return time.monotonic()


@dataclass(slots=True)
class _Logged:
    at: float
    left_out: int = 0


class Limiter:
    """Admits each event once in `INTERVAL` seconds, and counts those left out."""

    def __init__(self, now: Callable[[], float] = _now) -> None:
        self._now = now
        self._logged: dict[tuple[str, str], _Logged] = {}
        # Values are decoded in threads, too.
        self._lock = threading.Lock()

    def admit(self, name: str, about: str) -> int | None:
        """Decide whether an event is logged; events about different subjects do not limit each other.

        Returns:
            How many were left out since the last one logged; None to leave this one out.
        """
        now = self._now()
        with self._lock:
            last = self._logged.get((name, about))
            if last is not None and 0 <= now - last.at < INTERVAL:
                last.left_out += 1
                return None
            # At the end of the order, because the first is the oldest.
            self._logged.pop((name, about), None)
            self._logged[name, about] = _Logged(now)
            if len(self._logged) > _REMEMBERED:
                del self._logged[next(iter(self._logged))]
        return last.left_out if last is not None else 0

    def forget(self) -> None:
        """Forget what was logged."""
        self._logged.clear()


limiter = Limiter()


def event(
    name: str,
    text: str,
    component: str = "",
    attributes: Attributes | None = None,
    *,
    level: int = logging.INFO,
    about: str | None = None,
    error: BaseException | None = None,
    stack: str = "",
) -> None:
    """Emit a log event, and the same line to `logging`.

    Args:
        text: The line for people; escaped, and cut.
        component: The attribute `tideover.component`; empty for none.
        about: The subject, for an event that may repeat itself: logged once in 30 s, with the number of those left
            out meanwhile. None for a change, which is always logged.
        stack: Lines of our own below the text.
    """
    named: Attributes = {"tideover.component": component} if component else {}
    text, attributes = shown_line(text, _LONGEST), bounded({**named, **(attributes or {})})
    if about is not None:
        left_out = limiter.admit(name, cut(about, _LONGEST))
        if left_out is None:
            return
        if left_out:
            text = f"{text} (and {left_out} more since this was last said)"
            attributes = {**attributes, "tideover.left_out": left_out}
    if stack:
        text = f"{text}\n{stack}"
    fields = {key: attributes[of] for key, of in _FIELDS.items() if of in attributes}
    _log.log(level, "%s: %s", name, text, exc_info=error, extra={"event_name": name, **fields})
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
