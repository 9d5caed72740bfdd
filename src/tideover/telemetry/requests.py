"""Requests: what makes a degraded one findable, although it was served."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.context import Context, attach, detach, get_current
from opentelemetry.trace import Span
from opentelemetry.util.types import AttributeValue

from tideover.request_record import Mark, RequestRecord
from tideover.shown import shown
from tideover.telemetry.events import event
from tideover.telemetry.outages import present_outages
from tideover.telemetry.scope import meter, tracer

_requests = meter.create_counter(
    "tideover.server.requests", unit="{request}", description="Requests served, and whether degraded."
)


# Identifies the current span, at half the cost of asking for it.
SpanContext = Context
current_context: Callable[[], SpanContext] = get_current


@contextmanager
def within(context: SpanContext) -> Iterator[None]:
    """Make another task's span the current one."""
    token = attach(context)
    try:
        yield
    finally:
        detach(token)


def leave_span() -> None:
    """Detach this task from the current span: a task that a request starts may outlive the request by days."""
    attach(Context())


def mark_span(mark: Mark, component: str, record: RequestRecord | None) -> None:
    """Make the current span, and the request's own, findable as degraded.

    Done at the moment of degradation: frameworks end their SERVER span with the last byte of the response. What
    comes after that, such as a background task, may have a span of its own; where it has none, one is made.

    Args:
        record: The request's record, which has the mark already; None outside of requests.
    """
    current = trace.get_current_span()
    if record is None:
        if current.is_recording():
            current.set_attributes(_attributes(mark, [component]))
        return
    own = trace.get_current_span(record.context) if isinstance(record.context, Context) else current
    spans = [span for span in ([own] if own is current else [own, current]) if span.is_recording()]
    late = None if spans else _late_span(current if current.get_span_context().is_valid else own)
    if late is not None:
        spans = [late]
    for span in spans:
        span.set_attributes(_attributes(mark, record.marks))
    outage = present_outages.get(mark.outage_id)
    # One link for each outage, whatever else is degraded in it.
    if spans and outage is not None and _first_of_outage(mark, record):
        spans[0].add_link(outage.link)
    if late is not None:
        late.end()


def _late_span(ended: Span) -> Span | None:
    """Begin a span after the end of all that the request has, in its trace; None if that is not recorded."""
    if not ended.get_span_context().trace_flags.sampled:
        return None
    return tracer.start_span("tideover.degraded", context=trace.set_span_in_context(ended))


def _first_of_outage(mark: Mark, record: RequestRecord) -> bool:
    return sum(each.outage_id == mark.outage_id for each in record.marks.values()) == 1


def _attributes(mark: Mark, components: Iterable[str]) -> Mapping[str, AttributeValue]:
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
    """Count a request whose application has returned; its record gets no more marks."""
    record.finished = True
    if not record.marks:
        _requests.add(1, {"tideover.degraded": False})
        return
    for outage_id in {mark.outage_id for mark in record.marks.values()}:
        outage = present_outages.get(outage_id)
        if outage is not None:
            outage.requests += 1
    # All components in one attribute, so that each request is counted once.
    _requests.add(1, {"tideover.degraded": True, "tideover.component": ",".join(sorted(record.marks))})


def request_failed(error: Exception) -> None:
    """Log an error that a request was answered with 500 for: the answer does not name the error."""
    kind, why = type(error).__name__, str(error)
    text = f"a request was answered with 500, because of {kind}: {shown(why)}"
    about = {"error.type": kind}
    event("tideover.server.failed", text, level=logging.ERROR, about=why, error=error, attributes=about)
