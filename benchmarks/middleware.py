"""`TideoverMiddleware` around a pure ASGI application, beside `BaseHTTPMiddleware` and a Starlette request."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from benchmarks import peers
from benchmarks.child import call
from benchmarks.coordinators import healthy
from benchmarks.harness import Comparison, Formula, Goal, Row, awaiting, interleave
from tideover.asgi import TideoverMiddleware

SCOPE: Scope = {
    "type": "http",
    "asgi": {"version": "3.0", "spec_version": "2.3"},
    "http_version": "1.1",
    "method": "GET",
    "scheme": "http",
    "path": "/",
    "raw_path": b"/",
    "root_path": "",
    "query_string": b"",
    "headers": [(b"host", b"example.org")],
    "client": ("127.0.0.1", 50000),
    "server": ("127.0.0.1", 8000),
}
_START: Message = {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]}
_BODY: Message = {"type": "http.response.body", "body": b"ok"}
_ADDED = "middleware adds, healthy"


async def trivial(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with two messages and nothing else."""
    await send(_START)
    await send(_BODY)


async def receive() -> Message:
    """Receive an empty request."""
    return {"type": "http.request", "body": b"", "more_body": False}


async def send(message: Message) -> None:
    """Send to nobody."""
    return


async def _endpoint(request: Request) -> Response:
    return PlainTextResponse("ok")


class PassThrough(BaseHTTPMiddleware):
    """The least that Starlette's convenient base class can do."""

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        """Do nothing."""
        return await call_next(request)


async def time_requests() -> dict[str, float]:
    """Return seconds per request, without a network."""
    async with healthy({"a": "1"}) as tide:
        apps: dict[str, ASGIApp] = {
            "trivial": trivial,
            "tideover": TideoverMiddleware(trivial, coordinator=tide),
            "tideover with status header": TideoverMiddleware(trivial, coordinator=tide, status_header=True),
            "base": PassThrough(trivial),
            "starlette": Starlette(routes=[Route("/", _endpoint)]),
        }
        names = {"scope": SCOPE, "receive": receive, "send": send}
        line = "await app(scope.copy(), receive, send)"
        times = await interleave({name: awaiting(line, {"app": app, **names}) for name, app in apps.items()})
    return times.best


async def time_requests_recorded() -> dict[str, float]:
    """In a child, because providers are set once per process: the same with the OpenTelemetry SDK counting."""
    from opentelemetry import metrics
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader

    metrics.set_meter_provider(MeterProvider([InMemoryMetricReader()]))
    return await time_requests()


def _added(case: str) -> Formula:
    return lambda times: times[case] - times["trivial"]


async def measure() -> list[Comparison]:
    """Serve requests."""
    times = await time_requests()
    base, request = _added("base"), times["starlette"]

    def against_base(what: str, seconds: float) -> Comparison:
        return Comparison(what, seconds, "BaseHTTPMiddleware adds", base(times))

    compared = [
        against_base(_ADDED, _added("tideover")(times)),
        against_base("for scale: with status_header=True", _added("tideover with status header")(times)),
        Comparison("for scale: middleware adds", _added("tideover")(times), "a plain Starlette request", request),
    ]
    if peers.sdk_installed():
        recorded = await call(time_requests_recorded)
        compared.append(
            against_base("for scale: with the OpenTelemetry SDK counting", _added("tideover")(recorded))
        )
    return compared


ROW = Row(
    name="middleware",
    what="what the middleware adds to a request",
    peer="BaseHTTPMiddleware, and a plain Starlette request",
    goals={_ADDED: Goal(1.5e-6, of="value")},
    measure=measure,
)
