"""What telemetry costs: nothing on a warm read; what a request pays, healthy or not, with and without an SDK."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from types import FrameType

from starlette.types import ASGIApp, Receive, Scope, Send

from benchmarks import peers
from benchmarks.child import call
from benchmarks.coordinators import healthy, in_outage
from benchmarks.harness import Comparison, Goal, NotMeasured, Row, awaiting, interleave
from benchmarks.middleware import SCOPE, receive, send, trivial
from tideover import Coordinator
from tideover.asgi import TideoverMiddleware

KEY = "payments/timeout"
_GETS = 1000
_CALLS = f"OpenTelemetry calls of {_GETS:,} warm config.get"
_HEALTHY = "a healthy request with one read"
_DEGRADED = "a degraded request"


def calls_into_opentelemetry(work: Callable[[], object]) -> int:
    """Return how many functions of OpenTelemetry's are called.

    Args:
        work: What may call them.
    """
    calls = 0

    def count(frame: FrameType, event: str, argument: object) -> None:
        nonlocal calls
        if event == "call" and str(frame.f_globals.get("__name__")).partition(".")[0] == "opentelemetry":
            calls += 1

    sys.setprofile(count)
    try:
        work()
    finally:
        sys.setprofile(None)
    return calls


async def time_requests() -> dict[str, float]:
    """Return seconds per request: of a trivial application, and of one that reads a key, healthy and degraded."""
    values = {KEY: "2.5"}
    async with healthy(values) as well, in_outage(values) as ill:
        apps: dict[str, ASGIApp] = {
            "trivial": trivial,
            "healthy": TideoverMiddleware(_reading(well), coordinator=well),
            "degraded": TideoverMiddleware(_reading(ill), coordinator=ill),
        }
        names = {"scope": SCOPE, "receive": receive, "send": send}
        line = "await app(scope.copy(), receive, send)"
        times = await interleave(
            {name: awaiting(line, {"app": _in_server_span(app), **names}) for name, app in apps.items()}
        )
    return times.best


async def time_requests_recorded() -> dict[str, float]:
    """In a child: the same with the OpenTelemetry SDK recording each SERVER span, and counting."""
    from opentelemetry import metrics
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    metrics.set_meter_provider(MeterProvider([InMemoryMetricReader()]))
    peers.record_spans()
    return await time_requests()


async def count_calls() -> int:
    """In a child: how often a warm `get` calls OpenTelemetry, its SDK being set up."""
    peers.record_spans()
    async with healthy({KEY: "2.5"}) as tide:
        read = tide.config.get
        return calls_into_opentelemetry(lambda: [read(KEY, float) for _ in range(_GETS)])


def _reading(tide: Coordinator) -> ASGIApp:
    async def read(scope: Scope, receive: Receive, send: Send) -> None:
        tide.config.get(KEY, float)
        await trivial(scope, receive, send)

    return read


def _in_server_span(app: ASGIApp) -> ASGIApp:
    """Return the application within a SERVER span, as an instrumentation makes it; alone, if there is no SDK."""
    if not peers.records_spans():
        return app
    from opentelemetry import trace

    tracer = trace.get_tracer("benchmarks")

    async def spanned(scope: Scope, receive: Receive, send: Send) -> None:
        with tracer.start_as_current_span("GET /", kind=trace.SpanKind.SERVER):
            await app(scope, receive, send)

    return spanned


def _adds(times: Mapping[str, float], case: str) -> float:
    return times[case] - times["trivial"]


async def measure() -> list[Comparison]:
    """Serve requests without the SDK, then with it."""
    if not peers.sdk_installed():
        raise NotMeasured("the OpenTelemetry SDK is not installed")
    plain: dict[str, float] = await call(time_requests)
    recorded: dict[str, float] = await call(time_requests_recorded)
    calls = float(await call(count_calls))
    span = recorded["trivial"] - plain["trivial"]
    compared = [Comparison(_CALLS, calls, "calls of dict.get", 0.0, unit="")]
    for what, case in ((_HEALTHY, "healthy"), (_DEGRADED, "degraded")):
        compared.append(Comparison(what, _adds(plain, case), "the SDK's SERVER span", span))
        compared.append(
            Comparison(f"for scale: {what}, recorded", _adds(recorded, case), "the SDK's SERVER span", span)
        )
    return compared


ROW = Row(
    name="telemetry",
    what="what is added to a request with one read, healthy and degraded, without and with the OpenTelemetry SDK",
    peer="the SERVER span that the SDK records of a request",
    # The middleware's goal and a read's; that, and the first degraded read of a request.
    goals={_CALLS: Goal(0, of="value"), _HEALTHY: Goal(1.6e-6, of="value"), _DEGRADED: Goal(6.5e-6, of="value")},
    measure=measure,
)
