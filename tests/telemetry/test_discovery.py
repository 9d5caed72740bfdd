"""Discovery: what is registered here, and the endpoints of others."""

from __future__ import annotations

import anyio
import pytest

from tests.support import connected
from tests.telemetry.recording import Recorded, lose, points, put, recover, value
from tideover.discovery.endpoint import Endpoint
from tideover.testing import MemoryStore

pytestmark = pytest.mark.anyio


async def test_registrations_are_events_and_a_metric(recorded: Recorded) -> None:
    """Coming to be in etcd, doubt, loss, comeback and leaving are one event each; the metric tells the state."""
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
    first, doubted, lost, again, left = (body for _, body in told)
    assert first.endswith(": registered")
    assert "unconfirmed: its key stays in etcd as long as etcd is away" in doubted
    assert "another history" in lost
    assert again.endswith(": registered again")
    assert left.endswith(": deregistered")


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
