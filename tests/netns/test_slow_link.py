"""A link of 1 Mbit/s with 300 ms of queue, shaped by the kernel: what grew by events is read after an outage."""

from __future__ import annotations

import time
from collections.abc import Sequence

import pytest

from tests.history.events import Event
from tests.netns.bench import Bench

pytestmark = [pytest.mark.etcd, pytest.mark.any_etcd, pytest.mark.netns]

RATE, QUEUE = 1_000_000, 0.3


def test_a_view_that_grew_by_events_recovers(bench: Bench) -> None:
    """360 kB arrive as events, 3 s long, and after an outage at once; the state knows nothing but the outage."""
    bench.client("reader", "read", "grown", on="c1")
    shaped = bench.note("shape c1's link")
    bench.network.netem("c1", rate=RATE, queue=QUEUE)

    def live(since: float) -> Sequence[Event]:
        readings = bench.readings("reader", "read", since=since)
        return [e for e in readings if e["value"] == 1 and e["source"] == "live"]

    bench.client("writer", "large", "grown", on="c2")
    bench.await_(lambda: live(shaped), within=30.0, what="value that came as an event")
    time.sleep(2)
    assert bench.states("reader", since=shaped) == []

    lost = bench.note("cut c1 off")
    bench.network.isolate("c1", among=("m1", "m2", "m3"))
    bench.await_state("reader", "unavailable", within=15.0, since=lost)
    healed = bench.note("heal c1's links, slow as before")
    bench.network.heal("c1")
    bench.network.netem("c1", rate=RATE, queue=QUEUE)
    bench.await_(lambda: live(healed), within=40.0, what="live value")
    time.sleep(2)
    assert bench.states("reader", since=healed) == ["available"]
