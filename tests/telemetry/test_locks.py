"""Locks: the wait, the hold, and what a LOCAL one does to its request."""

from __future__ import annotations

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan

from tests.support import connected
from tests.telemetry.recording import Recorded, attributes, lose, points, value
from tideover import HealthState, LockTimeout
from tideover.testing import MemoryStore

pytestmark = pytest.mark.anyio


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
    # Other tests of this process may have held LOCAL ones.
    assert value(points(metrics["tideover.lock.active"])[("distributed",)]) == 0


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
