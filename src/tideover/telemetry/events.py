"""Log events: to OpenTelemetry's logs, and the same line to `logging`.

What repeats itself about the same subject is told once in 30 s, with a count; metrics count all of it. Changes of
the health state, of a leadership and of a registration are always told: whoever leaves out a line must know that
the last one told is still true, and an outage that begins 10 s after the end of another would leave "etcd is
available" standing. They are rare by their nature, an outage being declared after 3 s.
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

# Seconds in which an event that repeats itself is told once.
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
class _Told:
    at: float
    left_out: int = 0


class Limiter:
    """Lets each event be told at most once in `INTERVAL`, and counts those that are not.

    Args:
        now: Returns the time in seconds.
    """

    def __init__(self, now: Callable[[], float] = _now) -> None:
        self._now = now
        self._told: dict[tuple[str, str], _Told] = {}
        # Values are decoded in threads, too.
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        """Count what is remembered."""
        return f"<Limiter {len(self._told)} events>"

    def admit(self, name: str, about: str) -> int | None:
        """Decide whether an event is told.

        Args:
            name: The event's name.
            about: What it is about: events about something else are told.

        Returns:
            How many have been left out since the last one that was told; None if this one is left out.
        """
        now = self._now()
        with self._lock:
            last = self._told.get((name, about))
            if last is not None and 0 <= now - last.at < INTERVAL:
                last.left_out += 1
                return None
            # At the end of the order, because the first is the oldest.
            self._told.pop((name, about), None)
            self._told[name, about] = _Told(now)
            if len(self._told) > _REMEMBERED:
                del self._told[next(iter(self._told))]
        return last.left_out if last is not None else 0

    def forget(self) -> None:
        """Forget what has been told."""
        self._told.clear()


limiter = Limiter()


def event(
    name: str,
    text: str,
    attributes: Attributes,
    *,
    level: int = logging.INFO,
    about: str | None = None,
    error: BaseException | None = None,
    stack: str = "",
) -> None:
    """Emit a log event, and the same line to `logging`.

    Args:
        name: The event's name.
        text: The line for people; what others have written in it is escaped, and the line is cut.
        attributes: What it is about; texts are cut.
        level: The `logging` level.
        about: What it is about, if it may repeat itself: then it is told at most once in 30 s, with the number of
            those left out meanwhile. None: it is always told, because what it says was not so before.
        error: Whose traceback the line is to show.
        stack: Where something is, in lines of our own below the text.
    """
    text, attributes = shown_line(text, _LONGEST), bounded(attributes)
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
