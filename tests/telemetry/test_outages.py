"""Outages: one span each, their events and counts."""

from __future__ import annotations

import logging
import re

import anyio
import pytest
from opentelemetry.trace import SpanKind, StatusCode

from tests.support import connected, request
from tests.telemetry.recording import Recorded, attributes, lose, points, put, recover, value
from tideover import HealthState, RetryPolicy, telemetry
from tideover.testing import MemoryStore

pytestmark = pytest.mark.anyio

STATES = {"tideover.component": "config"}


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
        "tideover.diagnosis": "cut_off",
        "tideover.outage_id": outage_id,
        "tideover.states": ("unavailable", "degraded"),
        "tideover.outage.reads": 0,
        "tideover.outage.requests": 0,
    }


async def test_an_outage_counts_what_was_degraded(recorded: Recorded) -> None:
    """The outage's span says how many reads and requests were degraded in it, and not those of the one before."""
    store = MemoryStore()
    await put(store, "/config/rate", b"5")
    async with connected(store) as tide:
        for reads in (3, 1):
            lose(store)
            await tide.health.wait_for(HealthState.UNAVAILABLE)
            for _ in range(reads):
                with request() as record:
                    tide.config.get("rate")
                telemetry.finish_request(record)
            tide.config.get("rate")
            recover(store)
            await tide.health.wait_for(HealthState.AVAILABLE)
            await anyio.sleep(1)
            tide.config.get("rate")
    found = [attributes(span) for span in recorded.spans("tideover.outage")]
    assert [(a["tideover.outage.reads"], a["tideover.outage.requests"]) for a in found] == [(4, 3), (2, 1)]


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
    events = [each for each in recorded.events() if each[0] == "tideover.state.transition"]
    (first_name, first, first_text), (second_name, second, second_text) = events
    assert (first_name, first) == ("tideover.state.transition", lost)
    said = f"{', '.join(store.members)}: failed to connect to all addresses"
    assert re.fullmatch(
        f"etcd is unavailable: no etcd member answers {re.escape(f'({said})')}; last in sync [3-5] s ago; "
        "what is known is served meanwhile, and etcd is asked until it answers",
        first_text,
    )
    assert re.fullmatch(r"etcd is available again after 10 min [0-2] s", second_text)
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
    assert [name for name, _, _ in recorded.events()] == ["tideover.state.transition", "tideover.config.restored"]


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


async def test_the_status_names_outages_as_spans_and_events_do(recorded: Recorded) -> None:
    """The present outage, the last one, the transitions and the query have the id of span and events."""
    store = MemoryStore()
    async with connected(store) as tide:
        lose(store)
        await tide.health.wait_for(HealthState.UNAVAILABLE)
        present = tide.status()
        recover(store)
        await tide.health.wait_for(HealthState.AVAILABLE)
        past = tide.status()
    (span,) = recorded.spans("tideover.outage")
    outage_id = attributes(span)["tideover.outage_id"]
    events = [seen for name, seen, _ in recorded.events() if name == "tideover.state.transition"]
    assert {seen["tideover.outage_id"] for seen in events} == {outage_id}
    assert present.outage is not None
    assert past.last_outage is not None
    assert present.outage_id == present.outage.outage_id == past.last_outage.outage_id == outage_id
    assert [t.outage_id for t in past.history.transitions] == ["", outage_id, ""]
    assert present.outage.trace_query == f'{{span.tideover.outage_id="{outage_id}"}}'
