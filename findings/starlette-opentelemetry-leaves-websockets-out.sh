#!/usr/bin/env bash
# Python 3.11; starlette 1.10.0 with its own `OpenTelemetryMiddleware`, opentelemetry-instrumentation-asgi 0.66b1,
#   opentelemetry-sdk 1.45.1.
# Guess: starlette's middleware does for a WebSocket what it does for a request, as the one of OpenTelemetry's
#   contrib with the same name does: a SERVER span, a child of the span that `traceparent` names.
# Behaviour: it lets WebSockets pass and does not read their `traceparent` either. Whatever the endpoint does, a call to a
#   database for instance, begins a trace of its own, sampled by itself: the caller's trace ends at the
#   door.
# Output seen: the lines at the end of this script.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet starlette==1.10.0 opentelemetry-instrumentation-asgi==0.66b1 \
    opentelemetry-sdk==1.45.1 uvicorn==0.54.0 websockets==16.0 httpx==0.28.1
cat >"$folder/probe.py" <<'PY'
import asyncio
import socket

import httpx
import uvicorn
from opentelemetry import trace
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware as Contrib
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from starlette.applications import Starlette
from starlette.middleware.opentelemetry import OpenTelemetryMiddleware as Own
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from websockets.asyncio.client import connect

CALLER = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"}


async def look(middleware):
    provider, spans = TracerProvider(), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(spans))

    def query():
        with provider.get_tracer("database").start_as_current_span("query"):
            pass

    async def page(request):
        query()
        return PlainTextResponse("")

    async def socket_(websocket):
        await websocket.accept()
        query()
        await websocket.close()

    app = Starlette(routes=[Route("/", page), WebSocketRoute("/ws", socket_)])
    listening = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(middleware(app, tracer_provider=provider), log_level="critical", ws="websockets-sansio")
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve([listening]))
    address = f"127.0.0.1:{listening.getsockname()[1]}"
    async with httpx.AsyncClient() as client:
        await client.get(f"http://{address}/", headers=CALLER)
    yield "HTTP", list(spans.get_finished_spans())
    spans.clear()
    async with connect(f"ws://{address}/ws", additional_headers=CALLER) as client:
        await client.wait_closed()
    server.should_exit = True
    await serving
    yield "WebSocket", list(spans.get_finished_spans())


async def main():
    for name, middleware in (("contrib", Contrib), ("starlette", Own)):
        async for what, spans in look(middleware):
            servers = sum(span.kind is trace.SpanKind.SERVER for span in spans)
            (query,) = (span for span in spans if span.name == "query")
            ours = f"{query.context.trace_id:032x}" in CALLER["traceparent"]
            print(f"{name}, {what}: {servers} SERVER span, query in {'the caller' if ours else 'another'}'s trace")


asyncio.run(main())
PY
"$folder/venv/bin/python" "$folder/probe.py" | tee "$folder/out"
diff "$folder/out" - <<'SEEN'
contrib, HTTP: 1 SERVER span, query in the caller's trace
contrib, WebSocket: 1 SERVER span, query in the caller's trace
starlette, HTTP: 1 SERVER span, query in the caller's trace
starlette, WebSocket: 0 SERVER span, query in another's trace
SEEN
