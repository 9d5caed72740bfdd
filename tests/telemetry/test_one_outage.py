"""One outage, followed by its id through everything that is said of it; and what else a record carries."""

from __future__ import annotations

import logging
from importlib.metadata import version

import anyio
import pytest
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.common._log_encoder import encode_logs
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from tests.asgi.support import client_of, lose
from tests.support import connected
from tests.telemetry.recording import Recorded, attributes, put, recover
from tideover import HealthState, telemetry
from tideover.asgi import TideoverMiddleware, requires
from tideover.testing import MemoryStore

pytestmark = pytest.mark.anyio


async def test_one_outage_has_one_id(recorded: Recorded, caplog: pytest.LogCaptureFixture) -> None:
    """Span, event, log line, problem body, header of the health document and status page name the same outage."""
    store = MemoryStore()
    await put(store, "/config/rate", b"5")

    @requires("lock")
    async def refuse(request: Request) -> PlainTextResponse:
        raise AssertionError

    async with connected(store) as tide:
        app = Starlette(routes=[Route("/refuse", refuse)])
        wrapped = TideoverMiddleware(app, coordinator=tide, health="/health", status="/status")
        lose(store)
        await tide.health.wait_for(HealthState.UNAVAILABLE)
        outage_id = tide.status().outage_id
        async with client_of(wrapped) as client:
            refused = (await client.get("/refuse")).json()
            health = (await client.get("/health/health")).json()
            page = (await client.get("/status")).text
        recover(store)
        await tide.health.wait_for(HealthState.AVAILABLE)
    assert len(outage_id) == 16
    assert (refused["outage_id"], health["outage_id"], outage_id in page) == (outage_id, outage_id, True)
    (span,) = recorded.spans("tideover.outage")
    assert attributes(span)["tideover.outage_id"] == outage_id
    told = [found for name, found, _ in recorded.events() if name == "tideover.state.transition"]
    assert [found["tideover.outage_id"] for found in told] == [outage_id, outage_id]
    lines = [line for line in caplog.records if line.__dict__.get("event_name") == "tideover.state.transition"]
    fields = [tuple(line.__dict__[name] for name in ("component", "state", "outage_id")) for line in lines]
    assert fields == [("config", "unavailable", outage_id), ("config", "available", outage_id)]


async def test_a_line_has_the_fields_that_apply_to_it(caplog: pytest.LogCaptureFixture) -> None:
    """What belongs to no state and no outage has no field for them: an empty one would be one more to read."""
    with caplog.at_level(logging.INFO, logger="tideover"):
        telemetry.config_applied(3, 5, first=True)
    fields = caplog.records[-1].__dict__
    assert (fields["event_name"], fields["component"]) == ("tideover.config.applied", "config")
    assert not {"state", "outage_id"} & fields.keys()


async def test_a_record_within_a_request_has_its_trace(recorded: Recorded) -> None:
    """What a Collector is sent of an event within a request has the ids of the span that is current there."""
    with trace.get_tracer("framework").start_as_current_span("GET /") as span:
        telemetry.config_rejected("rate", 7, "no number")
        await anyio.lowlevel.checkpoint()
    assert sent(recorded) == [("tideover.config.rejected", ids(span))]


async def test_a_line_within_a_request_has_its_trace(recorded: Recorded) -> None:
    """So has the line, for those who send what `logging` gets: it comes beside the event, and is none itself."""
    handlers = pytest.importorskip("opentelemetry.instrumentation.logging.handler")
    handler = handlers.LoggingHandler()
    logging.getLogger("tideover").addHandler(handler)
    try:
        with trace.get_tracer("framework").start_as_current_span("GET /") as span:
            telemetry.config_rejected("rate", 7, "no number")
    finally:
        logging.getLogger("tideover").removeHandler(handler)
    assert sent(recorded) == [("", ids(span)), ("tideover.config.rejected", ids(span))]


def ids(span: trace.Span) -> tuple[str, str]:
    """Return the ids of the trace and the span."""
    context = span.get_span_context()
    return f"{context.trace_id:032x}", f"{context.span_id:016x}"


def sent(recorded: Recorded) -> list[tuple[str, tuple[str, str]]]:
    """Return the name and the ids of each log record, as OTLP has them."""
    request = encode_logs(recorded.log_exporter.get_finished_logs())
    records = [each for of in request.resource_logs for scope in of.scope_logs for each in scope.log_records]
    return [(each.event_name, (each.trace_id.hex(), each.span_id.hex())) for each in records]


async def test_the_scope_has_the_version(recorded: Recorded) -> None:
    """Spans, events and metrics say which version of tideover has recorded them."""
    store = MemoryStore()
    async with connected(store) as tide:
        await tide.config.fetch("rate", default="1")
        telemetry.config_rejected("rate", 7, "no number")
        data = recorded.reader.get_metrics_data()
    scopes = [span.instrumentation_scope for span in recorded.spans()]
    scopes += [data.instrumentation_scope for data in recorded.log_exporter.get_finished_logs()]
    assert data is not None
    scopes += [each.scope for found in data.resource_metrics for each in found.scope_metrics]
    ours = {scope.version for scope in scopes if scope is not None and scope.name == "tideover"}
    assert ours == {version("tideover")}
