"""Calls to etcd: attempts, retries, refusals, watches."""

from __future__ import annotations

import anyio
import pytest
from opentelemetry.sdk.metrics.export import HistogramDataPoint
from opentelemetry.trace import SpanKind, StatusCode

from tests.support import connected
from tests.telemetry.recording import Recorded, attributes, lose, points, put, value
from tideover import HealthState, Unavailable, telemetry
from tideover.store.operations import Range
from tideover.testing import FaultyStore, MemoryStore

pytestmark = pytest.mark.anyio

SCHEMA = "https://opentelemetry.io/schemas/1.44.0"


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
        "server.address": tide._parts.client.state.active.partition(":")[0],
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
            await tide._parts.elections.admin("reaper").look()
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
