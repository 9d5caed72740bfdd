"""What the row `telemetry` counts: calls into OpenTelemetry."""

from __future__ import annotations

import pytest
from opentelemetry import trace

from benchmarks.telemetry import calls_into_opentelemetry
from tests.support import connected, mock_trio
from tests.telemetry.recording import install, lose, put
from tideover import HealthState
from tideover.testing import MemoryStore

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    """Run on trio with a clock that jumps."""
    return mock_trio()


async def test_a_warm_get_calls_nothing_of_opentelemetry() -> None:
    """With an SDK set up and within a span, a thousand warm reads of either kind call OpenTelemetry not once."""
    install()
    store = MemoryStore()
    await put(store, "/config/rate", b"5")
    async with connected(store) as tide:
        with trace.get_tracer("app").start_as_current_span("work"):
            tide.config.get("rate", int)

            def read() -> None:
                for _ in range(1000):
                    tide.config.get("rate")
                    tide.config.get("rate", int)

            assert calls_into_opentelemetry(read) == 0
            lose(store)
            await tide.health.wait_for(HealthState.UNAVAILABLE)
            # The measure sees what there is: each degraded read outside of a request looks at the current span.
            assert calls_into_opentelemetry(read) > 0
