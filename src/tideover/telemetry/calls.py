"""Calls to etcd: attempts, retries, the breaker's refusals, and watches that end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, Status, StatusCode

from tideover.telemetry.scope import UNRECORDED, Attributes, bounded, meter, tracer
from tideover.types import Component

_durations = meter.create_histogram(
    "db.client.operation.duration",
    unit="s",
    description="Duration of one attempt of a call to etcd.",
    explicit_bucket_boundaries_advisory=[0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0],
)
_retries = meter.create_counter(
    "tideover.retry.attempts", unit="{attempt}", description="Second and later attempts of calls to etcd."
)
_breaker_rejections = meter.create_counter(
    "tideover.breaker.rejections", unit="{rejection}", description="Calls refused without a packet."
)
_watch_restarts = meter.create_counter(
    "tideover.watch.restarts", unit="{restart}", description="Watches that ended and were opened again."
)


class AttemptSpan:
    """The CLIENT span of one attempt."""

    __slots__ = ("_span", "error")

    def __init__(self, span: Span) -> None:
        self._span = span
        self.error: str | None = None

    def failed(self, code: str, kind: str) -> None:
        """Mark the attempt as failed."""
        self.error = kind
        self._span.set_attribute("db.response.status_code", code)
        self._span.set_attribute("error.type", kind)
        self._span.set_status(Status(StatusCode.ERROR))


@lru_cache(maxsize=1024)
def _described(op: str, namespace: str, member: str) -> tuple[str, Attributes, Attributes]:
    """Return a span's name, what is common to span and metric, and the span's attributes."""
    host, _, port = member.rpartition(":")
    base = {"db.system.name": "etcd", "db.operation.name": op, "server.address": host.strip("[]")}
    return (
        f"{op} {namespace}".rstrip(),
        base,
        bounded({**base, "db.namespace": namespace, "server.port": int(port)}),
    )


@contextmanager
def attempt(op: str, namespace: str, member: str, number: int) -> Iterator[AttemptSpan]:
    """Record one attempt, counted from 1, of a call to etcd."""
    name, base, attributes = _described(op, namespace, member)
    if number > 1:
        attributes = {**attributes, "tideover.retry.attempt": number - 1}
    began = time.perf_counter()
    span = tracer.start_span(name, kind=SpanKind.CLIENT, attributes=attributes)
    with UNRECORDED if span is trace.INVALID_SPAN else trace.use_span(span, end_on_exit=True):
        recorder = AttemptSpan(span)
        try:
            yield recorder
        finally:
            if recorder.error is not None:
                base = {**base, "error.type": recorder.error}
            _durations.record(time.perf_counter() - began, base)


def retried(op: str, kind: str) -> None:
    """Count a second or later attempt, and why."""
    _retries.add(1, {"db.operation.name": op, "error.type": kind})


def rejected_by_breaker(component: Component) -> None:
    """Count a call that the breaker refused, by the component that made it."""
    _breaker_rejections.add(1, {"tideover.component": component})


def watch_restarted(component: Component, reason: str) -> None:
    """Count a watch that ended, by its component and the reason."""
    _watch_restarts.add(1, {"tideover.component": component, "tideover.reason": reason})
