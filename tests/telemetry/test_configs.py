"""Configuration: the calls that ask etcd, the values refused."""

from __future__ import annotations

import anyio
import pytest
from opentelemetry.trace import StatusCode

from tests.support import connected
from tests.telemetry.recording import Recorded, attributes, lose, points, put, value
from tideover import ConfigValueError, HealthState, Source, Unavailable
from tideover.store.operations import Range
from tideover.testing import FaultyStore, MemoryStore

pytestmark = pytest.mark.anyio

STATES = {"tideover.component": "config"}


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
    ((name, found, text),) = [each for each in recorded.events() if each[0] != "tideover.config.applied"]
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
