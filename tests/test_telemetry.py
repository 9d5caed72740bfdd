"""What is recorded, under which names: spans, log events and metrics as an SDK receives them."""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import anyio
import pytest
from opentelemetry import _logs, metrics, trace
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    HistogramDataPoint,
    InMemoryMetricReader,
    Metric,
    NumberDataPoint,
    Sum,
)
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from tests.support import connected, mock_trio, request
from tideover import (
    ConfigValueError,
    ElectionMismatch,
    HealthState,
    LockTimeout,
    RetryPolicy,
    Source,
    Unavailable,
    telemetry,
)
from tideover.etcd.operations import Put, Range
from tideover.marks import Mark, RequestRecord, current_record
from tideover.registry.endpoint import Endpoint
from tideover.testing import FaultyStore, MemoryStore

pytestmark = pytest.mark.anyio

SCHEMA = "https://opentelemetry.io/schemas/1.44.0"
STATES = {"tideover.component": "config"}

Point = NumberDataPoint | HistogramDataPoint
Attributes = Mapping[str, object]


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    """Run on trio with a clock that jumps."""
    return mock_trio()


@dataclass(frozen=True)
class Recorded:
    """What an SDK has received since the test began."""

    span_exporter: InMemorySpanExporter
    log_exporter: InMemoryLogRecordExporter
    reader: InMemoryMetricReader

    def spans(self, name: str | None = None) -> list[ReadableSpan]:
        """Return tideover's ended spans, in the order of their ends; None means all names."""
        ended = [s for s in self.span_exporter.get_finished_spans() if _is_ours(s)]
        return [s for s in ended if name is None or s.name == name]

    def events(self) -> list[tuple[str, Attributes, str]]:
        """Return tideover's log events: name, attributes, body."""
        records = [data.log_record for data in self.log_exporter.get_finished_logs()]
        return [(r.event_name or "", dict(r.attributes or {}), str(r.body)) for r in records if r.event_name]

    def metrics(self) -> dict[str, Metric]:
        """Collect tideover's metrics; counters and histograms show what came since the last call."""
        data = self.reader.get_metrics_data()
        scopes = [s for r in (data.resource_metrics if data else ()) for s in r.scope_metrics]
        return {m.name: m for s in scopes if s.scope.name == "tideover" for m in s.metrics}

    def clear(self) -> None:
        """Forget everything."""
        self.span_exporter.clear()
        self.log_exporter.clear()
        self.reader.get_metrics_data()


def _is_ours(span: ReadableSpan) -> bool:
    return span.instrumentation_scope is not None and span.instrumentation_scope.name == "tideover"


@functools.cache
def install() -> Recorded:
    """Set up an SDK for the whole process, which can be done only once."""
    recorded = Recorded(
        InMemorySpanExporter(),
        InMemoryLogRecordExporter(),  # type: ignore[no-untyped-call]
        InMemoryMetricReader(
            preferred_temporality=dict.fromkeys((Counter, Histogram), AggregationTemporality.DELTA)
        ),
    )
    tracers = TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(recorded.span_exporter))
    trace.set_tracer_provider(tracers)
    loggers = LoggerProvider()
    loggers.add_log_record_processor(SimpleLogRecordProcessor(recorded.log_exporter))
    _logs.set_logger_provider(loggers)
    metrics.set_meter_provider(MeterProvider([recorded.reader]))
    return recorded


@pytest.fixture
def recorded() -> Iterator[Recorded]:
    """An SDK with nothing in it yet."""
    found = install()
    found.clear()
    yield found
    found.clear()


async def put(store: MemoryStore, key: str, value: bytes) -> None:
    """Write behind tideover's back."""
    await store.call(Put(key.encode(), value), member=store.members[0], timeout=1)


def lose(store: MemoryStore, members: int = 3) -> None:
    """Take members down."""
    store.down = set(store.members[:members])
    store.touch()


def recover(store: MemoryStore) -> None:
    """Bring all members back."""
    store.down = set()
    store.touch()


def attributes(span: ReadableSpan) -> dict[str, object]:
    """Return a span's attributes."""
    return dict(span.attributes or {})


def points(metric: Metric) -> dict[tuple[object, ...], Point]:
    """Return a metric's points by the values of their attributes, sorted by name."""
    return {
        tuple(value for _, value in sorted((point.attributes or {}).items())): point
        for point in metric.data.data_points
        if isinstance(point, NumberDataPoint | HistogramDataPoint)
    }


def value(point: Point) -> float:
    """Return the number of a point that has one."""
    assert isinstance(point, NumberDataPoint)
    return point.value


# Attempts -------------------------------------------------------------------------------------------------------


async def test_scope_and_schema(recorded: Recorded) -> None:
    """Spans, logs and metrics come from the scope `tideover` with the semantic conventions' schema."""
    async with connected(MemoryStore()) as tide:
        await tide.config.put("rate", 5)
    span = recorded.spans()[0]
    assert span.instrumentation_scope is not None
    assert span.instrumentation_scope.schema_url == SCHEMA
    data = recorded.reader.get_metrics_data()
    assert data is not None
    scopes = {s.scope.name: s.scope.schema_url for r in data.resource_metrics for s in r.scope_metrics}
    assert scopes["tideover"] == SCHEMA


async def test_attempt_is_a_client_span(recorded: Recorded) -> None:
    """Each call to etcd is a CLIENT span `{op} {namespace}` with the database conventions' attributes."""
    async with connected(MemoryStore(), namespace="app") as tide:
        recorded.clear()
        await tide.config.put("rate", 5)
    (span,) = recorded.spans("put app")
    assert span.kind is SpanKind.CLIENT
    assert span.status.status_code is StatusCode.UNSET
    assert attributes(span) == {
        "db.system.name": "etcd",
        "db.operation.name": "put",
        "db.namespace": "app",
        "server.address": tide._lanes.active.partition(":")[0],
        "server.port": 2379,
    }


async def test_attempt_without_a_namespace(recorded: Recorded) -> None:
    """Without a namespace the span's name is the operation alone."""
    async with connected(MemoryStore()) as tide:
        await tide.config.put("rate", 5)
    assert recorded.spans("put")


def test_address_of_an_ipv6_member(recorded: Recorded) -> None:
    """`server.address` of an IPv6 member is the address, without the brackets of the endpoint."""
    with telemetry.attempt("range", "", "[::1]:2379", 1):
        pass
    (span,) = recorded.spans("range")
    assert (attributes(span)["server.address"], attributes(span)["server.port"]) == ("::1", 2379)


async def test_failed_attempt_is_an_error(recorded: Recorded) -> None:
    """A failed attempt is ERROR with its code and kind, its retry is not; the fetch that succeeded is Unset."""
    store = FaultyStore(MemoryStore())
    async with connected(store, namespace="app") as tide:
        await anyio.sleep(1)
        recorded.clear()
        store.inject("UNAVAILABLE", "Socket closed", op=Range)
        await tide.config.fetch("rate", default="1")
        first, second = recorded.spans("range app")
        (fetch,) = recorded.spans("tideover.config.fetch")
    assert first.status.status_code is StatusCode.ERROR
    assert attributes(first)["db.response.status_code"] == "UNAVAILABLE"
    assert attributes(first)["error.type"] == "connection_lost"
    assert "tideover.retry.attempt" not in attributes(first)
    assert second.status.status_code is StatusCode.UNSET
    assert attributes(second)["tideover.retry.attempt"] == 1
    assert not {"error.type", "db.response.status_code"} & attributes(second).keys()
    assert fetch.kind is SpanKind.INTERNAL
    assert fetch.status.status_code is StatusCode.UNSET
    assert fetch.context is not None
    assert [s.parent.span_id for s in (first, second) if s.parent] == [fetch.context.span_id] * 2


async def test_warm_read_has_no_span(recorded: Recorded) -> None:
    """A read of a followed key records no span, healthy or not."""
    store = MemoryStore()
    await put(store, "/config/rate", b"5")
    async with connected(store) as tide:
        recorded.clear()
        for _ in range(3):
            tide.config.get("rate", int)
            tide.config.read("rate", int)
        assert recorded.spans() == []


# Fetches --------------------------------------------------------------------------------------------------------


async def test_fetch_served_by_a_fallback_is_no_error(recorded: Recorded) -> None:
    """In a declared outage a fetch that memory answers is Unset, carries the mark, and made no attempt."""
    store = MemoryStore()
    await put(store, "/config/rate", b"5")
    async with connected(store) as tide:
        lose(store)
        await tide.health.wait_for(HealthState.UNAVAILABLE)
        recorded.clear()
        reading = await tide.config.fetch("rate", int)
        outage_id = tide.status().outage_id
        (fetch,) = recorded.spans()
    assert (reading.value, reading.source) == (5, Source.MEMORY)
    assert fetch.name == "tideover.config.fetch"
    assert fetch.status.status_code is StatusCode.UNSET
    found = attributes(fetch)
    assert found.pop("tideover.staleness") == pytest.approx(reading.age)
    assert found == {
        "db.namespace": "",
        "tideover.component": "config",
        "tideover.degraded": True,
        "tideover.components": ("config",),
        "tideover.reason": "backend_unavailable",
        "tideover.source": "memory",
        "tideover.outage_id": outage_id,
    }


async def test_fetch_that_raises_is_an_error(recorded: Recorded) -> None:
    """A fetch that no rung could answer is ERROR, with the type of what was raised."""
    store = MemoryStore()
    lose(store)
    async with connected(store, follow=("a/",)) as tide:
        recorded.clear()
        with pytest.raises(Unavailable):
            await tide.config.fetch("b")
        (fetch,) = recorded.spans("tideover.config.fetch")
    assert fetch.status.status_code is StatusCode.ERROR
    assert attributes(fetch)["error.type"] == "CircuitOpen"


@pytest.mark.parametrize("record_keys", [False, True])
async def test_keys_are_recorded_only_when_asked_for(recorded: Recorded, record_keys: bool) -> None:
    """Without `record_keys` no span mentions a key or a value: not in names, attributes, events or statuses."""
    store = FaultyStore(MemoryStore())
    async with connected(store, follow=("a/",), record_keys=record_keys) as tide:
        await tide.config.put("secret-key", "secret-value")
        await tide.config.fetch("secret-key")
        with pytest.raises(ConfigValueError):
            await tide.config.fetch("secret-key", float)
        store.inject("UNAVAILABLE", "Socket closed", times=9, op=Range)
        await tide.config.fetch("secret-key", timeout=0.5)
        store.inject("UNAVAILABLE", "Socket closed", times=99, op=Range)
        with pytest.raises(Unavailable):
            await tide.config.fetch("secret-other", timeout=0.5)
    fetches = recorded.spans("tideover.config.fetch")
    assert len(fetches) == 4
    said = "".join(span.to_json() for span in recorded.spans())
    assert ("secret" in said) is record_keys
    if record_keys:
        assert attributes(fetches[0])["tideover.config.key"] == "secret-key"


# Requests -------------------------------------------------------------------------------------------------------


async def test_request_links_to_its_outage(recorded: Recorded) -> None:
    """The request's own span carries the mark and one link to the outage, wherever the degraded answer was got."""
    store = MemoryStore()
    await put(store, "/config/rate", b"5")
    tracer = trace.get_tracer("framework")
    async with connected(store) as tide:
        lose(store)
        await tide.health.wait_for(HealthState.UNAVAILABLE)
        with tracer.start_as_current_span("GET /", kind=SpanKind.SERVER) as server:
            token = current_record.set(RequestRecord(tide, server))
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


# Outages --------------------------------------------------------------------------------------------------------


async def test_outage_is_one_span_from_declaration_to_recovery(recorded: Recorded) -> None:
    """The outage span begins at the declaration, outlasts changes between bad states, ends at the recovery."""
    store = MemoryStore()
    async with connected(store) as tide:
        lose(store)
        await anyio.sleep(1)
        assert tide.status().outage_id == ""
        await tide.health.wait_for(HealthState.UNAVAILABLE)
        outage_id = tide.status().outage_id
        lose(store, members=2)
        await tide.health.wait_for(HealthState.DEGRADED)
        assert tide.status().outage_id == outage_id
        assert recorded.spans("tideover.outage") == []
        recover(store)
        await tide.health.wait_for(HealthState.AVAILABLE)
        assert tide.status().outage_id == ""
        (outage,) = recorded.spans("tideover.outage")
    assert len(outage_id) == 16
    assert outage.kind is SpanKind.INTERNAL
    assert outage.status.status_code is StatusCode.UNSET
    assert outage.end_time is not None
    assert attributes(outage) == {
        "tideover.component": "config",
        "tideover.state": "unavailable",
        "tideover.previous_state": "available",
        "tideover.reason": "backend_unavailable",
        "tideover.outage_id": outage_id,
    }


async def test_each_outage_has_an_id_of_its_own(recorded: Recorded) -> None:
    """Two outages are two spans with two ids."""
    store = MemoryStore()
    async with connected(store) as tide:
        for _ in range(2):
            lose(store)
            await tide.health.wait_for(HealthState.UNAVAILABLE)
            recover(store)
            await tide.health.wait_for(HealthState.AVAILABLE)
    ids = [attributes(s)["tideover.outage_id"] for s in recorded.spans("tideover.outage")]
    assert len(set(ids)) == 2


async def test_outage_that_outlives_its_coordinator(recorded: Recorded) -> None:
    """A process that stops in the middle of an outage ends its span, so that it is exported."""
    store = MemoryStore()
    lose(store)
    async with connected(store):
        assert recorded.spans("tideover.outage") == []
    assert len(recorded.spans("tideover.outage")) == 1


async def test_passing_leader_change_is_no_outage(recorded: Recorded) -> None:
    """An ordinary leader change leaves no span, no event and no count of a transition."""
    store = MemoryStore()
    async with connected(store) as tide:
        await anyio.sleep(10)
        store.electing = True
        store.touch()
        await anyio.sleep(1.5)
        store.electing = False
        store.touch()
        await anyio.sleep(5)
        assert tide.health.state is HealthState.AVAILABLE
    assert recorded.spans("tideover.outage") == []
    assert recorded.events() == []
    assert "tideover.state.transitions" not in recorded.metrics()


# Log events -----------------------------------------------------------------------------------------------------


async def test_transition_is_logged_once(recorded: Recorded, caplog: pytest.LogCaptureFixture) -> None:
    """Each change of state is one event to OpenTelemetry and the same line to `logging`, however long it lasts."""
    store = MemoryStore()
    with caplog.at_level(logging.INFO, "tideover"):
        async with connected(store) as tide:
            await anyio.sleep(60)
            lose(store)
            await tide.health.wait_for(HealthState.UNAVAILABLE)
            outage_id = tide.status().outage_id
            await anyio.sleep(600)
            recover(store)
            await tide.health.wait_for(HealthState.AVAILABLE)
            await anyio.sleep(60)
    lost = {
        "tideover.component": "config",
        "tideover.state": "unavailable",
        "tideover.previous_state": "available",
        "tideover.reason": "backend_unavailable",
        "tideover.outage_id": outage_id,
    }
    (first_name, first, first_text), (second_name, second, second_text) = recorded.events()
    assert (first_name, first) == ("tideover.state.transition", lost)
    said = "; ".join(f"{member}: failed to connect to all addresses" for member in store.members)
    assert first_text == f"etcd is unavailable: no etcd member answers ({said})"
    assert second_name == "tideover.state.transition"
    assert (second["tideover.state"], second["tideover.previous_state"]) == ("available", "unavailable")
    assert (second["tideover.reason"], second["tideover.outage_id"]) == ("backend_unavailable", outage_id)
    lines = [
        (r.levelname, r.getMessage()) for r in caplog.records if "tideover.state.transition" in r.getMessage()
    ]
    assert lines == [
        ("WARNING", f"tideover.state.transition: {first_text}"),
        ("WARNING", f"tideover.state.transition: {second_text}"),
    ]


async def test_start_is_logged_only_if_it_is_bad(recorded: Recorded) -> None:
    """A start with etcd well is no event; one without etcd is."""
    async with connected(MemoryStore()):
        pass
    assert recorded.events() == []
    store = MemoryStore()
    lose(store)
    async with connected(store):
        pass
    assert [name for name, _, _ in recorded.events()] == ["tideover.state.transition"]


async def test_refused_value_is_logged_once(recorded: Recorded, caplog: pytest.LogCaptureFixture) -> None:
    """A value that cannot be decoded is one event per revision, however often it is read."""
    store = MemoryStore()
    await put(store, "/config/rate", b"5")
    async with connected(store) as tide:
        tide.config.get("rate", int)
        await put(store, "/config/rate", b"five")
        await anyio.sleep(1)
        assert [tide.config.get("rate", int) for _ in range(3)] == [5, 5, 5]
        revision = tide.config.read("rate", int).rejected
    ((name, found, text),) = recorded.events()
    assert (name, found) == ("tideover.config.rejected", {**STATES, "tideover.revision": revision})
    assert text.startswith(f"'rate' at revision {revision}: ")
    assert [r.getMessage() for r in caplog.records] == [f"{name}: {text}"]
    assert value(points(recorded.metrics()["tideover.config.rejections"])[()]) == 1


async def test_refused_value_is_not_shown(recorded: Recorded, caplog: pytest.LogCaptureFixture) -> None:
    """A refused value may be a secret in the wrong place: neither log nor status shows it."""
    store = MemoryStore()
    await put(store, "/config/rate", b"hunter2")
    async with connected(store) as tide:
        assert tide.config.get("rate", int, default=1) == 1
        shown = str(tide.status().to_dict())
    assert "hunter2" not in shown
    assert "hunter2" not in caplog.text


async def test_other_history_is_logged(recorded: Recorded) -> None:
    """A cluster that was rebuilt is an event with the new epoch and the new history's revision."""
    store = MemoryStore()
    for number in range(5):
        await put(store, "/config/rate", str(number).encode())
    async with connected(store) as tide:
        lose(store)
        await tide.health.wait_for(HealthState.UNAVAILABLE)
        recorded.clear()
        store.rebuild({b"/config/rate": b"new"})
        recover(store)
        await tide.health.wait_for(HealthState.AVAILABLE)
        await anyio.sleep(5)
        assert tide.config.get("rate") == "new"
    resets = [found for name, found, _ in recorded.events() if name == "tideover.backend.reset"]
    assert resets == [{**STATES, "tideover.epoch": 2, "tideover.revision": 2}]


def test_unusable_snapshot_is_logged(recorded: Recorded, tmp_path: Path) -> None:
    """A snapshot that cannot be used is an event with the path and the reason."""
    telemetry.snapshot_rejected("discovery", str(tmp_path), "damaged")
    about = {"tideover.component": "discovery"}
    assert recorded.events() == [("tideover.snapshot.rejected", about, f"{tmp_path}: damaged")]


# Metrics --------------------------------------------------------------------------------------------------------


async def test_durations_of_attempts(recorded: Recorded) -> None:
    """Every attempt is in the conventions' histogram, in seconds, by operation and kind of failure."""
    store = FaultyStore(MemoryStore(members=1))
    async with connected(store, namespace="app") as tide:
        await anyio.sleep(1)
        recorded.metrics()
        store.inject("UNAVAILABLE", "Socket closed", op=Range)
        await tide.config.fetch("rate", default="1")
        await tide.config.put("rate", 5)
        metric = recorded.metrics()["db.client.operation.duration"]
    assert metric.unit == "s"
    found = points(metric)
    # db.operation.name, db.system.name, error.type if it failed, server.address
    assert set(found) == {
        ("range", "etcd", "connection_lost", "memory-1"),
        ("range", "etcd", "memory-1"),
        ("put", "etcd", "memory-1"),
    }
    assert all(isinstance(p, HistogramDataPoint) and p.count == 1 for p in found.values())
    bounds = [p.explicit_bounds for p in found.values() if isinstance(p, HistogramDataPoint)]
    assert list(bounds[0]) == [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10]


async def test_counters_of_an_outage(recorded: Recorded) -> None:
    """Transitions, retries and restarted watches are counted with the reason, and never with the outage's id."""
    store = MemoryStore()
    async with connected(store, retry=RetryPolicy(timeout=1.0)) as tide:
        await anyio.sleep(1)
        recorded.metrics()
        lose(store)
        await tide.config.fetch("rate", default="1", timeout=1.0)
        await tide.health.wait_for(HealthState.UNAVAILABLE)
        recover(store)
        await tide.health.wait_for(HealthState.AVAILABLE)
        await anyio.sleep(1)
        found = recorded.metrics()
    transitions = found["tideover.state.transitions"]
    assert transitions.unit == "{transition}"
    assert {tuple(p.attributes or {}) for p in transitions.data.data_points} == {
        ("tideover.component", "tideover.state", "tideover.previous_state", "tideover.reason")
    }
    # component, previous_state, reason, state
    assert {k: value(p) for k, p in points(transitions).items()} == {
        ("config", "available", "backend_unavailable", "unavailable"): 1,
        ("config", "unavailable", "backend_unavailable", "available"): 1,
    }
    retries, restarts = found["tideover.retry.attempts"], found["tideover.watch.restarts"]
    assert (retries.unit, restarts.unit) == ("{attempt}", "{restart}")
    assert {k for k in points(retries) if k[0] == "range"}
    assert {tuple(p.attributes or {}) for p in retries.data.data_points} == {("db.operation.name", "error.type")}
    assert set(points(restarts)) == {("config", "connection_lost")}


async def test_refused_calls_are_counted(recorded: Recorded) -> None:
    """A call that a declared outage refuses without a packet is counted, by the component that made it."""
    store = MemoryStore()
    lose(store)
    async with connected(store, follow=("a/",)) as tide:
        recorded.metrics()
        for ask in (tide.config.put("a/rate", 5), tide.config.fetch("b"), tide.services()):
            with pytest.raises(Unavailable):
                await ask
        with pytest.raises(Unavailable):
            async with tide.lock("orders"):
                raise AssertionError
        with pytest.raises(Unavailable):
            async with tide.session():
                raise AssertionError
        found = recorded.metrics()["tideover.breaker.rejections"]
    assert found.unit == "{rejection}"
    assert {k: value(p) for k, p in points(found).items()} == {
        ("config",): 3,  # the fetch was refused by both lanes
        ("discovery",): 1,
        ("lock",): 1,
        ("session",): 1,
    }


async def test_an_office_is_refused_as_an_election(recorded: Recorded) -> None:
    """What an election asks in an outage is refused as an election's."""
    store = MemoryStore()
    lose(store)
    async with connected(store) as tide:
        recorded.metrics()
        with pytest.raises(Unavailable):
            await tide._elections.office("reaper").look()
        found = recorded.metrics()["tideover.breaker.rejections"]
    assert {k[0] for k in points(found)} == {"election"}


async def test_watches_of_services_are_those_of_discovery(recorded: Recorded) -> None:
    """A watch that ends is counted by whose it was."""
    store = MemoryStore()
    async with connected(store, follow=()) as tide:
        tide.discover("api")
        await anyio.sleep(1)
        lose(store)
        await tide.health.wait_for(HealthState.UNAVAILABLE)
        found = recorded.metrics()["tideover.watch.restarts"]
    assert set(points(found)) == {("discovery", "connection_lost")}


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


async def test_reads_and_state_are_observed(recorded: Recorded) -> None:
    """Reads by source, the present state and the configuration's age are shown while the coordinator is open."""
    store = MemoryStore()
    await put(store, "/config/rate", b"5")
    async with connected(store, namespace="app", follow=("",)) as tide:
        tide.config.get("rate", default="1")
        lose(store)
        await tide.health.wait_for(HealthState.UNAVAILABLE)
        tide.config.get("rate", default="1")
        found = recorded.metrics()
        age = tide.observe_age()
    status, reads, ages = (found[f"tideover.{n}"] for n in ("component.status", "config.reads", "config.age"))
    assert (status.unit, reads.unit, ages.unit) == ("{component}", "{read}", "s")
    assert isinstance(status.data, Sum)
    assert not status.data.is_monotonic
    assert {k: value(p) for k, p in points(status).items()} == {
        ("config", "available"): 0,
        ("config", "degraded"): 0,
        ("config", "unavailable"): 1,
    }
    assert isinstance(reads.data, Sum)
    assert reads.data.is_monotonic
    # degraded, source
    assert {k: value(p) for k, p in points(reads).items()} == {(False, "live"): 1, (True, "memory"): 1}
    assert isinstance(ages.data, Gauge)
    assert value(points(ages)[("app",)]) == pytest.approx(age)


async def test_closed_coordinator_is_not_observed(recorded: Recorded) -> None:
    """A coordinator that was closed is no longer shown as available, and an unknown age is not shown at all."""
    store = MemoryStore()
    lose(store)
    async with connected(store):
        assert "tideover.config.age" not in recorded.metrics()
    assert "tideover.component.status" not in recorded.metrics()


def test_snapshots_are_counted(recorded: Recorded) -> None:
    """Snapshots are counted by whose they are, failed ones by the type of error."""
    telemetry.snapshot_written("config", None)
    telemetry.snapshot_written("discovery", "PermissionError")
    metric = recorded.metrics()["tideover.snapshot.writes"]
    assert metric.unit == "{write}"
    assert {k: value(p) for k, p in points(metric).items()} == {
        ("config",): 1,
        ("PermissionError", "discovery"): 1,
    }


async def test_names_follow_the_conventions(recorded: Recorded) -> None:
    """No metric has its unit, `_total` or a bare `count` in its name, and none is another one's namespace."""
    telemetry.snapshot_written("config", None)
    telemetry.watch_restarted("config", "silent")
    telemetry.retried("range", "deadline")
    telemetry.rejected_by_breaker("config")
    async with connected(MemoryStore()) as tide:
        await tide.config.put("rate", 5)
        names = set(recorded.metrics())
    assert len(names) >= 7
    for name in names:
        assert not name.endswith(("_total", ".total", "_seconds", "_bytes", "count")), name
        assert not any(other.startswith(f"{name}.") for other in names), name


# Elections ------------------------------------------------------------------------------------------------------


async def test_a_campaign_is_a_span(recorded: Recorded) -> None:
    """The wait for an election is one span; it is an error only if the election can never be won."""
    async with connected(MemoryStore()) as tide:
        async with tide.leader("reaper"):
            pass
        with pytest.raises(ElectionMismatch):
            await tide.election("reaper").campaign(on_outage="stay")
    won, refused = recorded.spans("tideover.election.campaign")
    base = {"db.namespace": "", "tideover.component": "election", "tideover.election": "reaper"}
    assert won.kind is SpanKind.INTERNAL
    assert (attributes(won), won.status.status_code) == (base, StatusCode.UNSET)
    assert attributes(refused) == {**base, "error.type": "ElectionMismatch"}
    assert refused.status.status_code is StatusCode.ERROR
    assert not refused.events


async def test_leaderships_are_events_and_a_metric(recorded: Recorded) -> None:
    """Each change is one event with its ground; the metric shows 1 for what is led here, by standing."""
    store = MemoryStore()
    async with connected(store) as tide:
        async with tide.leader("reaper", on_outage="stay") as term:
            found = recorded.metrics()["tideover.election.leader"]
            assert found.unit == "{leader}"
            assert {k: value(p) for k, p in points(found).items()} == {("reaper", "held"): 1}
            lose(store)
            await anyio.sleep(30)
            shown = recorded.metrics()["tideover.election.leader"]
            assert value(points(shown)[("reaper", "unconfirmed")]) == 1
            recover(store)
            await anyio.sleep(5)
        assert "tideover.election.leader" not in recorded.metrics()
    told = [(a, body) for name, a, body in recorded.events() if name == "tideover.leadership.change"]
    assert [a.get("tideover.standing") for a, _ in told] == ["held", "unconfirmed", "held", None]
    assert {a["tideover.election.token"] for a, _ in told} == {term.token}
    assert {a["tideover.component"] for a, _ in told} == {"election"}
    assert [body.rpartition(": ")[2] for _, body in told] == ["elected", "unconfirmed", "confirmed", "resigned"]


# Registrations --------------------------------------------------------------------------------------------------


async def test_registrations_are_events_and_a_metric(recorded: Recorded) -> None:
    """Coming to be in etcd, being lost, coming back and leaving is one event each; the metric tells the state."""
    store = MemoryStore()
    async with connected(store) as tide:
        async with tide.register("api", "http://10.0.0.7:8000"):
            found = recorded.metrics()["tideover.discovery.registration.active"]
            assert found.unit == "{registration}"
            assert {k: value(p) for k, p in points(found).items()} == {("api", "registered"): 1}
            lose(store)
            await anyio.sleep(30)
            shown = recorded.metrics()["tideover.discovery.registration.active"]
            assert value(points(shown)[("api", "unconfirmed")]) == 1
            store.rebuild({})
            recover(store)
            await anyio.sleep(8)
        assert "tideover.discovery.registration.active" not in recorded.metrics()
    told = [(a, body) for name, a, body in recorded.events() if name == "tideover.registration.change"]
    assert {a["tideover.component"] for a, _ in told} == {"discovery"}
    assert {(a["tideover.service"], a["tideover.instance"]) for a, _ in told} == {("api", "10.0.0.7:8000")}
    first, lost, again, left = (body for _, body in told)
    assert first.endswith(": registered")
    assert "another history" in lost
    assert again.endswith(": registered again")
    assert left.endswith(": deregistered")


@pytest.mark.anyio
async def test_what_is_recorded_of_discovery(recorded: Recorded) -> None:
    """Waiting for endpoints is a span, having them is none; what can be picked is a metric by source; a removal
    held and an ejection are one event each."""
    store = MemoryStore()
    for n in range(4):
        each = Endpoint(f"http://10.0.0.{n}:80", 1, {}, f"i{n}", "x", "api")
        await put(store, f"/{each.key}", each.encode())
    async with connected(store) as tide:
        view = tide.discover("api")
        await view.wait_for(4, timeout=5)
        await view.wait_for(4, timeout=5)
        for _ in range(3):
            view.report(view.endpoints[0], False)
        found = recorded.metrics()
        active, ejections = (found[f"tideover.discovery.{n}"] for n in ("endpoint.active", "ejections"))
        assert (active.unit, ejections.unit) == ("{endpoint}", "{ejection}")
        assert {k: value(p) for k, p in points(active).items()} == {("api", "live"): 3}
        assert {k: value(p) for k, p in points(ejections).items()} == {("api",): 1}
        store.rebuild({})
        await anyio.sleep(20)
        assert len(view.held) == 4
    told = {name: body for name, _, body in recorded.events() if name.startswith("tideover.discovery.")}
    assert told == {
        "tideover.discovery.ejected": "an endpoint of 'api' failed 3 times in a row: not picked for 5 s",
        "tideover.discovery.held": "etcd no longer has 4 of 4 endpoints of 'api': their removal is held back",
    }
    assert len(recorded.spans("tideover.discovery.resolve")) == 1


# Locks ----------------------------------------------------------------------------------------------------------


@pytest.mark.anyio
@pytest.mark.parametrize("record_keys", [False, True])
async def test_what_is_recorded_of_a_lock(recorded: Recorded, record_keys: bool) -> None:
    """The wait is a span, which names the lock only if asked to; waits and holds are histograms."""
    async with connected(MemoryStore(), namespace="shop", record_keys=record_keys) as tide:
        async with tide.lock("orders/42"):
            with pytest.raises(LockTimeout):
                async with tide.lock("orders/42", timeout=1):
                    raise AssertionError
    (span,) = recorded.spans("tideover.lock.acquire")
    assert attributes(span)["tideover.component"] == "lock"
    assert attributes(span).get("tideover.lock.name") == ("orders/42" if record_keys else None)
    metrics = recorded.metrics()
    waits = points(metrics["tideover.lock.acquire.duration"])
    assert {dict(point.attributes or {})["tideover.outcome"] for point in waits.values()} == {"ok", "timeout"}
    (hold,) = points(metrics["tideover.lock.hold.duration"]).values()
    assert dict(hold.attributes or {}) == {"tideover.outcome": "ok", "tideover.degraded": False}
    assert [value(point) for point in points(metrics["tideover.lock.active"]).values()] == [0]


@pytest.mark.anyio
async def test_a_lock_in_an_outage_marks_its_request(recorded: Recorded) -> None:
    """A LOCAL lock marks the current span as degraded, with the outage it belongs to."""
    store = MemoryStore()
    async with connected(store, profile="availability") as tide:
        lose(store)
        await tide.health.wait_for(HealthState.UNAVAILABLE)
        with trace.get_tracer("app").start_as_current_span("request") as span:
            async with tide.lock("orders"):
                pass
    assert isinstance(span, ReadableSpan)
    assert attributes(span)["tideover.degraded"] is True
    assert attributes(span)["tideover.components"] == ("lock",)
    assert attributes(span)["tideover.source"] == "local"
    assert attributes(span)["tideover.outage_id"]
