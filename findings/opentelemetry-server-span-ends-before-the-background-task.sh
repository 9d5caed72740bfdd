#!/usr/bin/env bash
# Python 3.11; opentelemetry-instrumentation-asgi 0.66b1, opentelemetry-sdk 1.45.1, starlette 1.10.0 with its own
#   `OpenTelemetryMiddleware`.
# Guess: the SERVER span lasts until the application returns; what a background task sets on the current span, its
#   outcome for instance, is in the trace.
# Behaviour: with instrumentation-asgi (and so -starlette and -fastapi) the span ends with the last body message, while
#   the task has yet to run. It is still the current span there and takes `set_attribute`, but the attribute is lost, and
#   so is an event; all that says so is a warning in the SDK's log. With starlette's own
#   middleware the same task's attribute is kept.
# Output seen: the lines at the end of this script.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet opentelemetry-instrumentation-asgi==0.66b1 opentelemetry-sdk==1.45.1 \
    starlette==1.10.0 httpx==0.28.1
cat >"$folder/probe.py" <<'PY'
import asyncio
import logging
import sys

import httpx
from opentelemetry import trace
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware as Contrib
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.middleware.opentelemetry import OpenTelemetryMiddleware as Own
from starlette.responses import PlainTextResponse
from starlette.routing import Route

logging.basicConfig(stream=sys.stdout, format="log: %(message)s")


async def send_mail():
    span = trace.get_current_span()
    span.set_attribute("mail.sent", True)
    span.add_event("mail accepted")
    print("task: recording" if span.is_recording() else "task: no longer recording")


async def order(request):
    trace.get_current_span().set_attribute("order.id", 7)
    return PlainTextResponse("", background=BackgroundTask(send_mail))


async def ask(app):
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop") as client:
        await client.get("/order")


for name, middleware in (("contrib", Contrib), ("starlette", Own)):
    provider, spans = TracerProvider(), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    asyncio.run(ask(middleware(Starlette(routes=[Route("/order", order)]), tracer_provider=provider)))
    (server,) = (span for span in spans.get_finished_spans() if span.kind is trace.SpanKind.SERVER)
    own = {key: value for key, value in server.attributes.items() if key.startswith(("order", "mail"))}
    print(f"{name}: {own}, events: {[event.name for event in server.events]}")
PY
"$folder/venv/bin/python" "$folder/probe.py" | tee "$folder/out"
diff "$folder/out" - <<'SEEN'
log: Setting attribute on ended span.
log: Tried calling _add_event on an ended span.
task: no longer recording
contrib: {'order.id': 7}, events: []
task: recording
starlette: {'order.id': 7, 'mail.sent': True}, events: ['mail accepted']
SEEN
