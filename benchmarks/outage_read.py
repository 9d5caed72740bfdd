"""Reading in a declared outage, beside reading while all is well, both within a request."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from benchmarks import peers
from benchmarks.child import call
from benchmarks.coordinators import healthy, in_outage
from benchmarks.harness import Comparison, Goal, Row, Timings, interleave, statement
from tideover import Coordinator, telemetry
from tideover.request_record import RequestRecord, current_record

KEY = "payments/timeout"
_REPEATED = "repeated read in an outage"
_FIRST = "first degraded read of a request"


async def time_reads() -> Timings:
    """Read one key healthy, degraded again, and degraded for the first time in a request."""
    values = {KEY: "2.5"}
    async with healthy(values) as well, in_outage(values) as ill:
        token = current_record.set(RequestRecord(ill))
        try:
            ill.config.get(KEY, float)  # marks the record
            return await interleave(
                {
                    "healthy": statement("config.get(key, float)", {"config": well.config, "key": KEY}),
                    "degraded": statement("config.get(key, float)", {"config": ill.config, "key": KEY}),
                    "first": _per_request(ill, lambda: ill.config.get(KEY, float)),
                    "none": _per_request(ill, lambda: None),
                }
            )
        finally:
            current_record.reset(token)


def _per_request(tide: Coordinator, read: Callable[[], object]) -> Callable[[int], float]:
    """Return a loop that reads once in each of so many requests; making the records is not counted."""

    def loop(count: int) -> float:
        records = [RequestRecord(tide, telemetry.current_context()) for _ in range(count)]
        token = current_record.set(None)
        began = time.perf_counter()
        for record in records:
            current_record.set(record)
            read()
        elapsed = time.perf_counter() - began
        current_record.reset(token)
        return elapsed

    return loop


async def time_first_read_recorded() -> float:
    """In a child: the first degraded read of a request whose span is recorded by the OpenTelemetry SDK."""
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider

    trace.set_tracer_provider(TracerProvider())
    with trace.get_tracer("benchmarks").start_as_current_span("GET /"):
        return _first((await time_reads()).best)


def _first(times: Mapping[str, float]) -> float:
    return times["first"] - times["none"]


async def measure() -> list[Comparison]:
    """Read without the SDK, then with it."""
    times = await time_reads()
    compared = [
        times.compare(_REPEATED, "degraded", "healthy read", "healthy"),
        times.compare(_FIRST, _first, "healthy read", "healthy"),
    ]
    if peers.sdk_installed():
        recorded, healthy_read = await call(time_first_read_recorded), times.best["healthy"]
        what = "for scale: first read, the SDK recording its span"
        compared.append(Comparison(what, recorded, "healthy read", healthy_read))
    return compared


ROW = Row(
    name="outage-read",
    what="config.get in a declared outage, within a request",
    peer="config.get while healthy",
    goals={_REPEATED: Goal(2), _FIRST: Goal(5e-6, of="value")},
    measure=measure,
)
