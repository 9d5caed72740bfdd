#!/usr/bin/env bash
# Python 3.11; opentelemetry-instrumentation-fastapi 0.66b1, opentelemetry-sdk 1.45.1, fastapi 0.165.0, starlette 1.10.0.
# Guess: `FastAPIInstrumentor.instrument_app(app, tracer_provider=provider)` concerns that application, as it says, and
#   its spans go to that provider.
# Behaviour: it also replaces `BackgroundTask.__call__` of starlette for the whole process, once, with the provider of the
#   application that came first. Background tasks of any other application, instrumented or not, FastAPI or plain
#   Starlette, then make spans in that provider: a second application with a provider of its own has its
#   requests in its own and its background tasks in the other's, and one that was never instrumented is traced.
# Output seen: the lines at the end of this script.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet opentelemetry-instrumentation-fastapi==0.66b1 opentelemetry-sdk==1.45.1 \
    fastapi==0.165.0 starlette==1.10.0 httpx==0.28.1
cat >"$folder/probe.py" <<'PY'
import asyncio

import httpx
from fastapi import BackgroundTasks, FastAPI
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.responses import PlainTextResponse
from starlette.routing import Route


async def send_mail():
    pass


def fastapi_app():
    app = FastAPI()

    @app.get("/order")
    async def order(tasks: BackgroundTasks):
        tasks.add_task(send_mail)

    return app


async def order(request):
    return PlainTextResponse("", background=BackgroundTask(send_mail))


def provider():
    made, spans = TracerProvider(), InMemorySpanExporter()
    made.add_span_processor(SimpleSpanProcessor(spans))
    return made, spans


async def ask(app):
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop") as client:
        await client.get("/order")


first, first_spans = provider()
second, second_spans = provider()
one, two, plain = fastapi_app(), fastapi_app(), Starlette(routes=[Route("/order", order)])


def show(what, app):
    asyncio.run(ask(app))
    for name, spans in (("first", first_spans), ("second", second_spans)):
        kept = [span.name for span in spans.get_finished_spans() if " http " not in span.name]
        print(f"{what}, {name} provider: {', '.join(kept) or 'nothing'}")
        spans.clear()


show("plain, before", plain)
FastAPIInstrumentor.instrument_app(one, tracer_provider=first)
FastAPIInstrumentor.instrument_app(two, tracer_provider=second)
show("one", one)
show("two", two)
show("plain, never instrumented", plain)
PY
"$folder/venv/bin/python" "$folder/probe.py" | tee "$folder/out"
diff "$folder/out" - <<'SEEN'
plain, before, first provider: nothing
plain, before, second provider: nothing
one, first provider: GET /order, BackgroundTask send_mail
one, second provider: nothing
two, first provider: BackgroundTask send_mail
two, second provider: GET /order
plain, never instrumented, first provider: BackgroundTask send_mail
plain, never instrumented, second provider: nothing
SEEN
