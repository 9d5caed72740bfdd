"""Requests: degraded ones are findable, and counted."""

from __future__ import annotations

import anyio
import pytest
from opentelemetry import trace
from opentelemetry.trace import NonRecordingSpan, SpanKind

from tests.support import connected, request
from tests.telemetry.recording import Recorded, attributes, lose, points, put, recover, value
from tideover import HealthState, Source, telemetry
from tideover.request_record import Mark, RequestRecord, current_record
from tideover.testing import MemoryStore

pytestmark = pytest.mark.anyio


async def test_request_links_to_its_outage(recorded: Recorded) -> None:
    """The request's own span carries the mark and one link to the outage, wherever the degraded answer was got."""
    store = MemoryStore()
    await put(store, "/config/rate", b"5")
    tracer = trace.get_tracer("framework")
    async with connected(store) as tide:
        lose(store)
        await tide.health.wait_for(HealthState.UNAVAILABLE)
        with tracer.start_as_current_span("GET /", kind=SpanKind.SERVER) as server:
            token = current_record.set(RequestRecord(tide, trace.set_span_in_context(server)))
            with tracer.start_as_current_span("work"):
                tide.config.get("rate")
            for _ in range(3):
                tide.config.get("rate")
            await tide.config.fetch("rate")
            current_record.reset(token)
        recover(store)
        await tide.health.wait_for(HealthState.AVAILABLE)
    (outage,) = recorded.spans("tideover.outage")
    ended = {s.name: s for s in recorded.span_exporter.get_finished_spans()}
    assert attributes(ended["work"])["tideover.degraded"] is True
    assert attributes(ended["GET /"])["tideover.outage_id"] == attributes(outage)["tideover.outage_id"]
    assert [link.context for link in ended["GET /"].links] == [outage.context]


async def test_after_the_server_span_has_ended(recorded: Recorded, caplog: pytest.LogCaptureFixture) -> None:
    """A background task gets the first degraded answer: its own span has mark and link, the SDK is silent."""
    store = MemoryStore()
    await put(store, "/config/rate", b"5")
    tracer = trace.get_tracer("framework")
    async with connected(store) as tide:
        lose(store)
        await tide.health.wait_for(HealthState.UNAVAILABLE)
        server = tracer.start_span("GET /", kind=SpanKind.SERVER)
        token = current_record.set(RequestRecord(tide, trace.set_span_in_context(server)))
        server.end()
        with tracer.start_as_current_span("later"):
            tide.config.get("rate")
        current_record.reset(token)
        recover(store)
        await tide.health.wait_for(HealthState.AVAILABLE)
    (outage,) = recorded.spans("tideover.outage")
    ended = {s.name: s for s in recorded.span_exporter.get_finished_spans()}
    assert attributes(ended["later"])["tideover.degraded"] is True
    assert [link.context for link in ended["later"].links] == [outage.context]
    assert not ended["GET /"].links
    assert [record.message for record in caplog.records if record.name.startswith("opentelemetry")] == []


async def test_after_all_spans_have_ended(recorded: Recorded) -> None:
    """A background task without a span gets the first degraded answer: one is made in the request's trace."""
    store = MemoryStore()
    await put(store, "/config/rate", b"5")
    tracer = trace.get_tracer("framework")
    async with connected(store) as tide:
        lose(store)
        await tide.health.wait_for(HealthState.UNAVAILABLE)
        with tracer.start_as_current_span("GET /", kind=SpanKind.SERVER, end_on_exit=False) as server:
            token = current_record.set(RequestRecord(tide, trace.set_span_in_context(server)))
            server.end()
            for _ in range(3):
                tide.config.get("rate")
            current_record.reset(token)
        recover(store)
        await tide.health.wait_for(HealthState.AVAILABLE)
    (outage,) = recorded.spans("tideover.outage")
    (late,) = recorded.spans("tideover.degraded")
    assert (late.parent, [link.context for link in late.links]) == (server.get_span_context(), [outage.context])
    assert attributes(late)["tideover.outage_id"] == attributes(outage)["tideover.outage_id"]


async def test_no_span_is_made_where_the_trace_is_not_recorded(recorded: Recorded) -> None:
    """A request that sampling has left out stays out, and so does one whose framework records no spans at all."""
    store = MemoryStore()
    await put(store, "/config/rate", b"5")
    left_out = NonRecordingSpan(trace.SpanContext(1, 1, is_remote=False))
    async with connected(store) as tide:
        lose(store)
        await tide.health.wait_for(HealthState.UNAVAILABLE)
        for own in (left_out, trace.INVALID_SPAN):
            token = current_record.set(RequestRecord(tide, trace.set_span_in_context(own)))
            tide.config.get("rate")
            current_record.reset(token)
    assert recorded.spans("tideover.degraded") == []


async def test_the_link_comes_with_the_first_mark_of_the_outage(recorded: Recorded) -> None:
    """A request that was degraded before the outage was declared, and again in it, has the link all the same."""
    store = MemoryStore()
    async with connected(store) as tide:
        lose(store)
        await tide.health.wait_for(HealthState.UNAVAILABLE)
        outage_id = tide.status().outage_id
        with trace.get_tracer("framework").start_as_current_span("GET /") as server:
            record = RequestRecord(tide, trace.set_span_in_context(server))
            for component, outage in (("election", ""), ("config", outage_id), ("discovery", outage_id)):
                record.marks[component] = mark = Mark(Source.MEMORY, 1.0, "watch_stale", outage)
                telemetry.mark_span(mark, component, record)
    (outage_span,) = recorded.spans("tideover.outage")
    (server_span,) = [s for s in recorded.span_exporter.get_finished_spans() if s.name == "GET /"]
    assert [link.context for link in server_span.links] == [outage_span.context]


async def test_a_lock_that_turns_local_marks_its_request(recorded: Recorded) -> None:
    """A lock goes on without etcd while its holder waits for something else: the holder's request is marked."""
    store = MemoryStore()
    async with connected(store) as tide:
        with trace.get_tracer("framework").start_as_current_span("GET /", kind=SpanKind.SERVER) as server:
            token = current_record.set(RequestRecord(tide, trace.set_span_in_context(server)))
            async with tide.lock("orders", on_outage="local"):
                lose(store)
                await anyio.sleep(30)
            current_record.reset(token)
        recover(store)
        await tide.health.wait_for(HealthState.AVAILABLE)
    (outage,) = recorded.spans("tideover.outage")
    (server_span,) = [s for s in recorded.span_exporter.get_finished_spans() if s.name == "GET /"]
    assert attributes(server_span)["tideover.source"] == "local"
    assert [link.context for link in server_span.links] == [outage.context]


async def test_what_runs_in_the_background_belongs_to_no_request(recorded: Recorded) -> None:
    """A service that a request is the first to ask for is followed from then on, in traces of its own."""
    store = MemoryStore()
    async with connected(store) as tide:
        with trace.get_tracer("framework").start_as_current_span("GET /") as server, request():
            tide.discover("billing")
            await anyio.sleep(1)
        lose(store)
        await tide.health.wait_for(HealthState.UNAVAILABLE)
        recover(store)
        await tide.health.wait_for(HealthState.AVAILABLE)
        await anyio.sleep(5)
    asked = [span for span in recorded.spans() if span.name.startswith("range")]
    assert asked
    trace_id = server.get_span_context().trace_id
    assert [span.name for span in recorded.spans() if span.context and span.context.trace_id == trace_id] == []


async def test_a_task_that_outlives_its_request(recorded: Recorded) -> None:
    """A record counts for its request alone: in a task that was started there each span is marked afterwards."""
    store = MemoryStore()
    await put(store, "/config/rate", b"5")
    tracer = trace.get_tracer("app")
    async with connected(store) as tide:
        lose(store)
        await tide.health.wait_for(HealthState.UNAVAILABLE)
        with request() as record:
            tide.config.get("rate")
            telemetry.finish_request(record)
            for _ in range(2):
                with tracer.start_as_current_span("tick"):
                    tide.config.get("rate")
    ticks = [s for s in recorded.span_exporter.get_finished_spans() if s.name == "tick"]
    assert [attributes(s)["tideover.source"] for s in ticks] == ["memory", "memory"]
    assert record.finished
    assert set(record.marks) == {"config"}


async def test_each_span_outside_a_request_is_marked(recorded: Recorded) -> None:
    """Without a request, as in a background task, every span in which a degraded answer is got is marked."""
    store = MemoryStore()
    await put(store, "/config/rate", b"5")
    tracer = trace.get_tracer("app")
    async with connected(store) as tide:
        lose(store)
        await tide.health.wait_for(HealthState.UNAVAILABLE)
        for _ in range(2):
            with tracer.start_as_current_span("tick"):
                tide.config.get("rate")
    ticks = [s for s in recorded.span_exporter.get_finished_spans() if s.name == "tick"]
    assert [attributes(s)["tideover.source"] for s in ticks] == ["memory", "memory"]


def test_requests_are_counted(recorded: Recorded) -> None:
    """Requests are counted, degraded ones apart."""
    with request() as record:
        telemetry.finish_request(record)
        record.marks["config"] = Mark(Source.MEMORY, 1.0, "quorum_lost", "")
        telemetry.finish_request(record)
    metric = recorded.metrics()["tideover.server.requests"]
    assert metric.unit == "{request}"
    # component, degraded
    assert {k: value(p) for k, p in points(metric).items()} == {(False,): 1, ("config", True): 1}
