"""A degraded request is findable: the SERVER span of whatever instrumentation is in use carries our attributes."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI
from opentelemetry import trace
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.instrumentation.starlette import StarletteInstrumentor
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

import tideover
from tests.asgi.support import degraded_store, serving, store_with
from tideover import Coordinator, connect
from tideover.asgi import TideoverMiddleware

pytestmark = pytest.mark.anyio

AGE = 100.0


@dataclass(frozen=True)
class Stack:
    """An instrumented application.

    Attributes:
        client: A client of it.
        exporter: The spans it has ended.
        tide: The coordinator its requests use.
    """

    client: httpx.AsyncClient
    exporter: InMemorySpanExporter
    tide: Coordinator

    async def request(self, path: str) -> tuple[httpx.Response, ReadableSpan]:
        """Make a request; return the response and its SERVER span."""
        self.exporter.clear()
        response = await self.client.get(path)
        (server,) = [s for s in self.exporter.get_finished_spans() if s.kind is SpanKind.SERVER]
        return response, server


# Applications ---------------------------------------------------------------------------------------------------


def rate() -> str:
    """Read the configuration."""
    return tideover.current().config.get("rate")


async def in_async(request: Request) -> Response:
    """Read in the event loop."""
    return PlainTextResponse(rate())


def in_sync(request: Request) -> Response:
    """Read in a worker thread."""
    return PlainTextResponse(rate())


async def in_fetch(request: Request) -> Response:
    """Ask etcd: within an INTERNAL span of tideover's own, if an SDK is set up."""
    return PlainTextResponse((await tideover.current().config.fetch("rate")).value)


async def in_span(request: Request) -> Response:
    """Read within a span of the application's own."""
    tracer: trace.Tracer = request.app.state.tracer
    with tracer.start_as_current_span("work"):
        return PlainTextResponse(await run_in_threadpool(rate))


async def in_stream(request: Request) -> Response:
    """Read when the header has gone out already."""

    async def chunks() -> AsyncIterator[bytes]:
        yield b"-"
        yield rate().encode()

    return StreamingResponse(chunks())


async def nothing(request: Request) -> Response:
    """Read nothing."""
    return PlainTextResponse("5")


async def refuse(request: Request) -> Response:
    """Answer with the application's own 404, decided upon a read."""
    return PlainTextResponse(rate(), status_code=404)


async def fail(request: Request) -> Response:
    """Fail after a read."""
    raise LookupError(rate())


READING = {"async": in_async, "sync": in_sync, "fetch": in_fetch, "span": in_span}
ENDPOINTS = {**READING, "stream": in_stream, "nothing": nothing, "refuse": refuse, "fail": fail}
ROUTES = [Route(f"/{name}", endpoint) for name, endpoint in ENDPOINTS.items()]


def add_starlettes_own(app: Starlette, provider: TracerProvider) -> None:
    """Add the middleware that newer versions of Starlette have."""
    module = pytest.importorskip("starlette.middleware.opentelemetry", reason="this Starlette has none")
    app.add_middleware(module.OpenTelemetryMiddleware, tracer_provider=provider)


def starlette_outside(provider: TracerProvider, tide: Coordinator) -> ASGIApp:
    """Starlette's own middleware, tideover inside it."""
    app = Starlette(routes=ROUTES)
    app.add_middleware(TideoverMiddleware, coordinator=tide)
    add_starlettes_own(app, provider)
    app.state.tracer = provider.get_tracer("app")
    return app


def starlette_inside(provider: TracerProvider, tide: Coordinator) -> ASGIApp:
    """Starlette's own middleware, tideover outside it."""
    app = Starlette(routes=ROUTES)
    add_starlettes_own(app, provider)
    app.add_middleware(TideoverMiddleware, coordinator=tide)
    app.state.tracer = provider.get_tracer("app")
    return app


def starlette_contrib(provider: TracerProvider, tide: Coordinator) -> ASGIApp:
    """opentelemetry-instrumentation-starlette."""
    app = Starlette(routes=ROUTES)
    app.add_middleware(TideoverMiddleware, coordinator=tide)
    StarletteInstrumentor.instrument_app(app, tracer_provider=provider)
    app.state.tracer = provider.get_tracer("app")
    return app


def fastapi_app(**telemetry: object) -> FastAPI:
    """Return a FastAPI application whose endpoints are FastAPI's, not Starlette's."""
    app = FastAPI(telemetry=telemetry)  # type: ignore[arg-type]
    for name, endpoint in ENDPOINTS.items():
        app.get(f"/{name}", response_class=PlainTextResponse)(endpoint)
    return app


def fastapi_own(provider: TracerProvider, tide: Coordinator) -> ASGIApp:
    """FastAPI's own telemetry, with its span per endpoint; older versions have none."""
    if "telemetry" not in inspect.signature(FastAPI).parameters:
        pytest.skip("this FastAPI has none")
    app = fastapi_app(tracer_provider=provider, metrics=False, logs=False)
    app.add_middleware(TideoverMiddleware, coordinator=tide)
    app.state.tracer = provider.get_tracer("app")
    return app


def fastapi_contrib(provider: TracerProvider, tide: Coordinator) -> ASGIApp:
    """opentelemetry-instrumentation-fastapi."""
    app = fastapi_app(tracing=False, metrics=False, logs=False)
    app.add_middleware(TideoverMiddleware, coordinator=tide)
    FastAPIInstrumentor.instrument_app(app, tracer_provider=provider)
    app.state.tracer = provider.get_tracer("app")
    return app


Make = Callable[[TracerProvider, Coordinator], ASGIApp]
STACKS: list[Make] = [starlette_outside, starlette_inside, starlette_contrib, fastapi_own, fastapi_contrib]
INSIDE = [make for make in STACKS if make is not starlette_inside]


def named(make: Make) -> str:
    """Name a stack for pytest."""
    return make.__name__


@pytest.fixture(autouse=True)
def _uninstrumented() -> Iterator[None]:
    """Take back what the instrumentations patch for the whole process."""
    yield
    from starlette.background import BackgroundTask

    original = getattr(BackgroundTask, "_otel_original_call", None)
    if original is not None:
        BackgroundTask.__call__ = original  # type: ignore[method-assign]
        del BackgroundTask._otel_original_call  # type: ignore[attr-defined]


@asynccontextmanager
async def serve(make: Make, tide: Coordinator) -> AsyncIterator[Stack]:
    """Serve an instrumented application."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    async with serving(make(provider, tide)) as client:
        yield Stack(client, exporter, tide)
    provider.shutdown()


def ours(span: ReadableSpan) -> dict[str, object]:
    """Return the attributes that are tideover's."""
    return {name: value for name, value in (span.attributes or {}).items() if name.startswith("tideover.")}


# Claims ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", list(READING))
@pytest.mark.parametrize("make", INSIDE, ids=named)
async def test_degraded_request_is_marked(make: Make, path: str, tmp_path: Path) -> None:
    """A request served from stale configuration carries all of it on its SERVER span, and is no error."""
    async with connect(store=await degraded_store(tmp_path, age=AGE, rate="5"), cache_dir=tmp_path) as tide:
        async with serve(make, tide) as stack:
            response, server = await stack.request(f"/{path}")
        marks = ours(server)
        outage_id = tide.status().outage_id
    assert (response.status_code, response.text) == (200, "5")
    assert marks.pop("tideover.staleness") == pytest.approx(AGE, abs=2.0)
    assert outage_id
    assert marks == {
        "tideover.degraded": True,
        "tideover.components": ("config",),
        "tideover.reason": "backend_unavailable",
        "tideover.source": "disk",
        "tideover.outage_id": outage_id,
    }
    assert server.status.status_code is not StatusCode.ERROR
    assert "error.type" not in (server.attributes or {})


@pytest.mark.parametrize("path", ["async", "sync"])
async def test_tideover_outermost(path: str, tmp_path: Path) -> None:
    """With tideover outside the instrumentation the SERVER span is marked: it is the endpoint's current one."""
    async with connect(store=await degraded_store(tmp_path, age=AGE, rate="5"), cache_dir=tmp_path) as tide:
        async with serve(starlette_inside, tide) as stack:
            _, server = await stack.request(f"/{path}")
    marks = ours(server)
    assert (marks["tideover.degraded"], marks["tideover.source"]) == (True, "disk")
    assert marks["tideover.staleness"] == pytest.approx(AGE, abs=2.0)


@pytest.mark.parametrize("make", STACKS, ids=named)
async def test_each_degraded_request_is_marked(make: Make, tmp_path: Path) -> None:
    """Every request of an outage is marked, not only the first, and one that reads nothing stays unmarked."""
    async with connect(store=await degraded_store(tmp_path, rate="5"), cache_dir=tmp_path) as tide:
        async with serve(make, tide) as stack:
            marked = [bool(ours((await stack.request(path))[1])) for path in ("/async", "/nothing", "/async")]
    assert marked == [True, False, True]


@pytest.mark.parametrize("make", STACKS, ids=named)
async def test_healthy_request_is_not_marked(make: Make) -> None:
    """A request served from live configuration carries none of our attributes."""
    async with connect(store=await store_with(rate="5"), cache_dir=False) as tide:
        async with serve(make, tide) as stack:
            for path in READING:
                response, server = await stack.request(f"/{path}")
                assert response.text == "5"
                assert ours(server) == {}


@pytest.mark.parametrize("make", INSIDE, ids=named)
async def test_span_of_the_application_is_marked_too(make: Make, tmp_path: Path) -> None:
    """The application's own span, in which the degraded answer was got, carries the mark as well."""
    async with connect(store=await degraded_store(tmp_path, rate="5"), cache_dir=tmp_path) as tide:
        async with serve(make, tide) as stack:
            await stack.request("/span")
            (work,) = [s for s in stack.exporter.get_finished_spans() if s.name == "work"]
    assert ours(work)["tideover.degraded"] is True


@pytest.mark.parametrize("make", STACKS, ids=named)
async def test_degradation_within_a_stream(make: Make, tmp_path: Path) -> None:
    """A stream that degrades after its header went out is still marked: its span ends with its last byte."""
    async with connect(store=await degraded_store(tmp_path, rate="5"), cache_dir=tmp_path) as tide:
        async with serve(make, tide) as stack:
            response, server = await stack.request("/stream")
    assert response.text == "-5"
    assert ours(server)["tideover.degraded"] is True


@pytest.mark.parametrize("make", STACKS, ids=named)
async def test_errors_of_the_application_are_its_own(make: Make, tmp_path: Path) -> None:
    """A 404 and a 500 keep status and meaning under degradation: 404 is no ERROR, 500 is, and both are marked."""
    async with connect(store=await degraded_store(tmp_path, rate="5"), cache_dir=tmp_path) as tide:
        async with serve(make, tide) as stack:
            response, server = await stack.request("/refuse")
            assert response.status_code == 404
            assert server.status.status_code is not StatusCode.ERROR
            assert ours(server)["tideover.degraded"] is True
            response, server = await stack.request("/fail")
            assert response.status_code == 500
            assert server.status.status_code is StatusCode.ERROR
            assert ours(server)["tideover.degraded"] is True
            response, server = await stack.request("/no-such-path")
            assert response.status_code == 404
            assert ours(server) == {}


async def test_unknown_age_is_left_out(tmp_path: Path) -> None:
    """Where nothing was ever synced a default is served, and the span says so without inventing an age."""
    store = await degraded_store(tmp_path, rate="5")

    async def default(request: Request) -> Response:
        return PlainTextResponse(tideover.current().config.get("rate", default="9"))

    def make(provider: TracerProvider, tide: Coordinator) -> ASGIApp:
        app = Starlette(routes=[Route("/", default)])
        app.add_middleware(TideoverMiddleware, coordinator=tide)
        add_starlettes_own(app, provider)
        return app

    async with connect(store=store, cache_dir=False) as tide:
        async with serve(make, tide) as stack:
            response, server = await stack.request("/")
    assert response.text == "9"
    marks = ours(server)
    assert marks["tideover.source"] == "default"
    assert "tideover.staleness" not in marks
