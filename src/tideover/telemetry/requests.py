"""Requests: what makes a degraded one findable, although it was served."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.context import Context, attach, detach, get_current
from opentelemetry.trace import Span
from opentelemetry.util.types import AttributeValue

from tideover.request_record import Mark, RequestRecord, present_record
from tideover.shown import shown
from tideover.telemetry.events import event
from tideover.telemetry.outages import present_outages
from tideover.telemetry.scope import meter

_requests = meter.create_counter(
    "tideover.server.requests", unit="{request}", description="Requests served, and whether degraded."
)


# Identifies the current span, at half the cost of asking for it.
SpanContext = Context
current_context: Callable[[], SpanContext] = get_current


@contextmanager
def within(context: SpanContext) -> Iterator[None]:
    """Record what is done here as part of another task's span.

    Args:
        context: That task's, from `current_context`.
    """
    token = attach(context)
    try:
        yield
    finally:
        detach(token)


def current_span() -> Span:
    """Return the span of the current context."""
    return trace.get_current_span()


def mark_span(mark: Mark, components: Collection[str]) -> None:
    """Make the current span, and the request's own, findable as degraded.

    Done at the moment of degradation: frameworks end their SERVER span with the last byte of the response. What
    comes after that, such as a background task, has a span of its own.

    Args:
        mark: The first degraded answer of the component to be shown.
        components: All components that gave degraded answers so far.
    """
    record = present_record()
    current, own = trace.get_current_span(), None if record is None else record.span
    spans = [own, current] if isinstance(own, Span) and own is not current else [current]
    recording = [span for span in spans if span.is_recording()]
    for span in recording:
        span.set_attributes(_attributes(mark, components))
    outage = present_outages.get(mark.outage_id)
    if record is not None and recording and outage is not None and len(components) == 1:
        recording[0].add_link(outage.link)


def _attributes(mark: Mark, components: Collection[str]) -> Mapping[str, AttributeValue]:
    return {
        "tideover.degraded": True,
        "tideover.components": list(components),
        "tideover.reason": mark.reason,
        "tideover.source": mark.source,
        # An unknown age has no number; the attribute is left out rather than invented.
        **({"tideover.staleness": mark.age} if mark.age < float("inf") else {}),
        **({"tideover.outage_id": mark.outage_id} if mark.outage_id else {}),
    }


def finish_request(record: RequestRecord) -> None:
    """Count the request, and mark nothing in its record any more.

    Args:
        record: The request's record, when its application has returned.
    """
    record.finished = True
    if not record.marks:
        _requests.add(1, {"tideover.degraded": False})
        return
    for outage_id in {mark.outage_id for mark in record.marks.values()}:
        outage = present_outages.get(outage_id)
        if outage is not None:
            outage.requests += 1
    # All in one word, so that each request is counted once.
    _requests.add(1, {"tideover.degraded": True, "tideover.component": ",".join(sorted(record.marks))})


def request_failed(error: Exception) -> None:
    """Log an error for which a request was answered with 500, whose client is not told.

    Args:
        error: The error.
    """
    kind = type(error).__name__
    text = f"a request was answered with 500, because of {kind}: {shown(str(error))}"
    event("tideover.server.failed", text, {"error.type": kind}, level=logging.ERROR, about=str(error), error=error)
