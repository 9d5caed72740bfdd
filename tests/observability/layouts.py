"""Where tideover and an instrumentation may stand to each other: one application in all the layouts there are."""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import anyio
import pytest
from fastapi import FastAPI
from opentelemetry import trace
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.instrumentation.starlette import StarletteInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

import tideover
from tideover import Coordinator
from tideover.asgi import TideoverMiddleware

# The application -----------------------------------------------------------------------------------------------


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
    """Ask etcd."""
    return PlainTextResponse((await tideover.current().config.fetch("rate")).value)


async def in_span(request: Request) -> Response:
    """Read within a span of the application's own."""
    with trace.get_tracer("app").start_as_current_span("work"):
        return PlainTextResponse(await run_in_threadpool(rate))


async def in_stream(request: Request) -> Response:
    """Read when the header has gone out already."""

    async def chunks() -> AsyncIterator[bytes]:
        yield b"-"
        yield rate().encode()

    return StreamingResponse(chunks())


async def in_background(request: Request) -> Response:
    """Read when the response has gone out."""
    return PlainTextResponse("-", background=BackgroundTask(rate))


async def in_task_of_background(request: Request) -> Response:
    """Read in a task that a background task has started, and in a span of its own."""

    async def work() -> None:
        with trace.get_tracer("app").start_as_current_span("started"):
            rate()

    async def start() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(work)

    return PlainTextResponse("-", background=BackgroundTask(start))


async def in_both(request: Request) -> Response:
    """Read, and again in a background task."""
    return PlainTextResponse(rate(), background=BackgroundTask(rate))


async def nothing(request: Request) -> Response:
    """Read nothing."""
    return PlainTextResponse("-")


async def over_websocket(websocket: WebSocket) -> None:
    """Read once it is open, when a text has come."""
    await websocket.accept()
    await websocket.receive_text()
    await websocket.send_text(rate())
    await websocket.close()


async def websocket_nothing(websocket: WebSocket) -> None:
    """Read nothing."""
    await websocket.accept()
    await websocket.close()


READING: Mapping[str, Callable[..., Any]] = {
    "async": in_async,
    "sync": in_sync,
    "fetch": in_fetch,
    "span": in_span,
    "stream": in_stream,
    "background": in_background,
    "task-of-background": in_task_of_background,
    "both": in_both,
}
ENDPOINTS = {**READING, "nothing": nothing}
WEBSOCKETS = {"websocket": over_websocket, "websocket-nothing": websocket_nothing}


def of_starlette() -> Starlette:
    """Return the application in Starlette."""
    routes = [Route(f"/{name}", endpoint) for name, endpoint in ENDPOINTS.items()]
    return Starlette(routes=[*routes, *(WebSocketRoute(f"/{name}", each) for name, each in WEBSOCKETS.items())])


def of_fastapi(**telemetry: object) -> FastAPI:
    """Return the application in FastAPI; `telemetry` is that of newer versions."""
    if "telemetry" not in inspect.signature(FastAPI).parameters:
        if telemetry:
            pytest.skip("this FastAPI has no telemetry of its own")
        app = FastAPI()
    else:
        app = FastAPI(telemetry={"tracing": False, "metrics": False, "logs": False, **telemetry})  # type: ignore[arg-type]
    for name, endpoint in ENDPOINTS.items():
        app.get(f"/{name}", response_class=PlainTextResponse)(endpoint)
    for name, each in WEBSOCKETS.items():
        app.websocket(f"/{name}")(each)
    return app


class Around(BaseHTTPMiddleware):
    """Serves the rest of the application in another task, and hands its response on piece by piece."""

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        """Do nothing."""
        return await call_next(request)


# The layouts ---------------------------------------------------------------------------------------------------


def starlettes_own(provider: TracerProvider, tide: Coordinator) -> ASGIApp:
    """Starlette's own middleware, tideover inside it."""
    app = of_starlette()
    app.add_middleware(TideoverMiddleware, coordinator=tide)
    add_starlettes_own(app, provider)
    return app


def starlettes_own_inside(provider: TracerProvider, tide: Coordinator) -> ASGIApp:
    """Starlette's own middleware, tideover outside it."""
    app = of_starlette()
    add_starlettes_own(app, provider)
    app.add_middleware(TideoverMiddleware, coordinator=tide)
    return app


def add_starlettes_own(app: Starlette, provider: TracerProvider) -> None:
    """Add the middleware that newer versions of Starlette have."""
    module = pytest.importorskip("starlette.middleware.opentelemetry", reason="this Starlette has none")
    app.add_middleware(module.OpenTelemetryMiddleware, tracer_provider=provider)


def fastapis_own(provider: TracerProvider, tide: Coordinator) -> ASGIApp:
    """FastAPI's own telemetry, with its span per endpoint."""
    app = of_fastapi(tracing=True, tracer_provider=provider)
    app.add_middleware(TideoverMiddleware, coordinator=tide)
    return app


def fastapis_own_inside(provider: TracerProvider, tide: Coordinator) -> ASGIApp:
    """FastAPI's own telemetry, tideover around the application."""
    return TideoverMiddleware(of_fastapi(tracing=True, tracer_provider=provider), coordinator=tide)


def contrib_fastapi(provider: TracerProvider, tide: Coordinator) -> ASGIApp:
    """opentelemetry-instrumentation-fastapi."""
    app = of_fastapi()
    app.add_middleware(TideoverMiddleware, coordinator=tide)
    FastAPIInstrumentor.instrument_app(app, tracer_provider=provider)
    return app


def contrib_fastapi_inside(provider: TracerProvider, tide: Coordinator) -> ASGIApp:
    """opentelemetry-instrumentation-fastapi, tideover around the application."""
    app = of_fastapi()
    FastAPIInstrumentor.instrument_app(app, tracer_provider=provider)
    return TideoverMiddleware(app, coordinator=tide)


def contrib_starlette(provider: TracerProvider, tide: Coordinator) -> ASGIApp:
    """opentelemetry-instrumentation-starlette."""
    app = of_starlette()
    app.add_middleware(TideoverMiddleware, coordinator=tide)
    StarletteInstrumentor.instrument_app(app, tracer_provider=provider)
    return app


def contrib_asgi(provider: TracerProvider, tide: Coordinator) -> ASGIApp:
    """opentelemetry-instrumentation-asgi, around tideover."""
    return OpenTelemetryMiddleware(TideoverMiddleware(of_starlette(), coordinator=tide), tracer_provider=provider)


def contrib_asgi_inside(provider: TracerProvider, tide: Coordinator) -> ASGIApp:
    """opentelemetry-instrumentation-asgi, within tideover."""
    return TideoverMiddleware(OpenTelemetryMiddleware(of_starlette(), tracer_provider=provider), coordinator=tide)


def base_around(provider: TracerProvider, tide: Coordinator) -> ASGIApp:
    """`BaseHTTPMiddleware` around tideover and inside it, within opentelemetry-instrumentation-fastapi."""
    app = of_fastapi()
    app.add_middleware(Around)
    app.add_middleware(TideoverMiddleware, coordinator=tide)
    app.add_middleware(Around)
    FastAPIInstrumentor.instrument_app(app, tracer_provider=provider)
    return app


def base_around_fastapis_own(provider: TracerProvider, tide: Coordinator) -> ASGIApp:
    """`BaseHTTPMiddleware` around tideover, within FastAPI's own telemetry."""
    app = of_fastapi(tracing=True, tracer_provider=provider)
    app.add_middleware(TideoverMiddleware, coordinator=tide)
    app.add_middleware(Around)
    return app


Layout = Callable[[TracerProvider, Coordinator], ASGIApp]
LAYOUTS: Mapping[str, Layout] = {
    layout.__name__: layout
    for layout in (
        starlettes_own,
        starlettes_own_inside,
        fastapis_own,
        fastapis_own_inside,
        contrib_fastapi,
        contrib_fastapi_inside,
        contrib_starlette,
        contrib_asgi,
        contrib_asgi_inside,
        base_around,
        base_around_fastapis_own,
    )
}


class Layouts:
    """An application that has all layouts below their names; requests come one after the other.

    Args:
        provider: Returns the provider for a layout.
        tide: The coordinator.

    Attributes:
        absent: The layouts that these versions of the frameworks do not have.
    """

    def __init__(self, provider: Callable[[], TracerProvider], tide: Coordinator) -> None:
        self.absent: set[str] = set()
        self._apps: dict[str, tuple[ASGIApp, Any]] = {}
        original = BackgroundTask.__call__
        for name, layout in LAYOUTS.items():
            try:
                # An instrumentation patches background tasks of the whole process: here, for its own requests.
                self._apps[name] = layout(provider(), tide), BackgroundTask.__call__
            except pytest.skip.Exception:
                self.absent.add(name)
            _restore(original)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request in the layout that its path begins with."""
        _, name, path = scope["path"].split("/", 2)
        app, background = self._apps[name]
        original = BackgroundTask.__call__
        BackgroundTask.__call__ = background  # type: ignore[method-assign]
        try:
            await app({**scope, "path": f"/{path}", "raw_path": f"/{path}".encode()}, receive, send)
        finally:
            _restore(original)


def _restore(original: Any) -> None:
    BackgroundTask.__call__ = original  # type: ignore[method-assign]
    if hasattr(BackgroundTask, "_otel_original_call"):
        del BackgroundTask._otel_original_call
