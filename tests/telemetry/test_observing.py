"""What observable instruments show."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass

import anyio
import pytest
from opentelemetry.sdk.metrics.export import Gauge, HistogramDataPoint, Sum

import tideover
from tests.support import connected
from tests.telemetry.recording import Recorded, lose, points, put, recover, value
from tideover import HealthState, LeadershipLost, telemetry
from tideover.telemetry import observing
from tideover.testing import MemoryStore

pytestmark = pytest.mark.anyio


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
        age = tide._life.instruments.observe_age()
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


@contextmanager
def asking(ask: Callable[[], object]) -> Iterator[list[Exception]]:
    """Ask without a pause in another thread, as an exporter may at any moment; give what that has raised."""
    errors: list[Exception] = []
    over = threading.Event()

    def run() -> None:
        while not over.is_set():
            try:
                ask()
            except Exception as exc:  # whatever it is
                errors.append(exc)

    thread = threading.Thread(target=run)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    thread.start()
    try:
        yield errors
    finally:
        over.set()
        thread.join()
        sys.setswitchinterval(interval)


def test_an_exporters_thread_may_ask_at_any_moment() -> None:
    """While another thread asks, registrations, candidacies and coordinators come and go: nothing fails."""

    def ask() -> None:
        for coordinator in observing._coordinators():
            coordinator.observe_registrations()
            coordinator.observe_endpoints()
            coordinator.observe_leaders()
            coordinator.observe_degraded_time()

    async def come_and_go() -> None:
        store = MemoryStore()
        async with tideover.connect(store=store) as tide:
            for _ in range(10):
                async with AsyncExitStack() as stack:
                    for number in range(20):
                        registered = tide.register(f"shop-{number}", "http://10.0.0.1:80", ttl=15)
                        await stack.enter_async_context(registered)
                    await stack.enter_async_context(tideover.connect(store=store))

    with asking(ask) as errors:
        asyncio.run(come_and_go())
    assert errors == []


def test_reads_are_counted_while_others_ask() -> None:
    """The number of reads only grows for a thread that asks while they go on, and is right in the end."""
    seen: list[int] = []

    async def read() -> int:
        async with tideover.connect(store=MemoryStore()) as tide:
            with asking(
                lambda: seen.append(tide._life.instruments.observe_reads().get(("default", False), 0))
            ) as errors:
                for number in range(20_000):
                    tide.config.get("rate", default="1")
                    if number % 100 == 0:
                        tide.config.refresh()
            assert errors == []
            return sum(tide._life.instruments.observe_reads().values())

    assert asyncio.run(read()) == 20_000
    assert seen == sorted(seen)


async def test_closed_coordinator_is_not_observed(recorded: Recorded) -> None:
    """A coordinator that was closed is no longer shown as available, and an unknown age is not shown at all."""
    store = MemoryStore()
    lose(store)
    async with connected(store):
        assert "tideover.config.age" not in recorded.metrics()
    assert "tideover.component.status" not in recorded.metrics()


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


async def test_the_time_in_bad_states_is_counted(recorded: Recorded) -> None:
    """Seconds in each state that is not well are counted from its declaration to now, or its end."""
    store = MemoryStore()
    async with connected(store) as tide:
        await anyio.sleep(100)
        lose(store)
        await tide.health.wait_for(HealthState.UNAVAILABLE)
        await anyio.sleep(60)
        during = recorded.metrics()["tideover.degraded.time"]
        lose(store, members=2)
        await tide.health.wait_for(HealthState.DEGRADED)
        await anyio.sleep(10)
        recover(store)
        await tide.health.wait_for(HealthState.AVAILABLE)
        await anyio.sleep(1000)
        after = recorded.metrics()["tideover.degraded.time"]
    assert during.unit == "s"
    assert isinstance(during.data, Sum)
    assert during.data.is_monotonic
    found = {k: value(p) for k, p in points(during).items()}
    assert found == {("config", "degraded"): 0, ("config", "unavailable"): pytest.approx(60, abs=0.1)}
    total = {k: value(p) for k, p in points(after).items()}
    assert total["config", "degraded"] == pytest.approx(10.5, abs=1)
    assert total["config", "unavailable"] == pytest.approx(60.5, abs=1)


async def test_a_fleet_has_one_leader_at_most(recorded: Recorded) -> None:
    """Through elections, an outage and a change of leaders the sum over all candidates is never more than 1."""
    store = MemoryStore()
    sums: list[float] = []

    async def candidate(number: int) -> None:
        async with connected(store) as tide:
            while True:
                try:
                    async with tide.leader("reaper", ttl=6):
                        await anyio.sleep(20 + number)
                except LeadershipLost:
                    pass

    async with anyio.create_task_group() as tasks:
        for number in range(3):
            tasks.start_soon(candidate, number)
        for second in range(200):
            if second == 50:
                lose(store)
            if second == 90:
                recover(store)
            metric = recorded.metrics().get("tideover.election.leader")
            sums.append(sum(map(value, points(metric).values())) if metric else 0)
            await anyio.sleep(1)
        tasks.cancel_scope.cancel()
    assert set(sums) == {0, 1}
    assert sums[30:50] == [1] * 20
    # Nobody is elected without a quorum, and whoever led has stepped down.
    assert set(sums[60:90]) == {0}


async def test_of_several_coordinators_the_oldest_age_is_shown(recorded: Recorded) -> None:
    """Where a process has two coordinators of one namespace, the age is that of the one that lags."""
    store, lost = MemoryStore(), MemoryStore()
    async with connected(store), connected(lost) as behind:
        lose(lost)
        await behind.health.wait_for(HealthState.UNAVAILABLE)
        await anyio.sleep(60)
        (age,) = points(recorded.metrics()["tideover.config.age"]).values()
        assert value(age) == pytest.approx(behind._life.instruments.observe_age())


async def test_what_is_refused_now_is_counted(recorded: Recorded) -> None:
    """A value counts as long as it is refused, as what a key and as what an object has; a good one ends that."""

    @dataclass(frozen=True)
    class Pool:
        size: int = 1

    store = MemoryStore()
    await put(store, "/config/rate", b"5")

    def refused() -> float:
        return value(points(recorded.metrics()["tideover.config.rejected.active"])[("",)])

    async with connected(store) as tide:
        pool = tide.config.bind(Pool, prefix="pool/")
        assert (tide.config.get("rate", int), refused()) == (5, 0)
        await put(store, "/config/rate", b"five")
        await put(store, "/config/pool/size", b"many")
        await anyio.sleep(1)
        assert (tide.config.get("rate", int), pool.value) == (5, Pool())
        assert refused() == 3  # two keys, and the object that one of them belongs to
        await put(store, "/config/rate", b"6")
        await put(store, "/config/pool/size", b"2")
        await anyio.sleep(1)
        assert (tide.config.get("rate", int), pool.value, refused()) == (6, Pool(2), 0)


async def test_candidates_are_counted_with_and_without_a_leader(recorded: Recorded) -> None:
    """An election with candidates here is shown, also while nobody leads: that is what an alert compares."""
    store = MemoryStore()

    def shown(name: str) -> dict[tuple[object, ...], float]:
        found = recorded.metrics().get(f"tideover.election.{name}")
        return {} if found is None else {k: value(p) for k, p in points(found).items()}

    async def stand(tide: tideover.Coordinator) -> None:
        async with tide.leader("reaper"):
            await anyio.sleep_forever()

    async with connected(store) as tide, anyio.create_task_group() as tasks:
        tasks.start_soon(stand, tide)
        await anyio.sleep(1)
        assert (shown("candidate.active"), shown("leader")) == ({("", "reaper"): 1}, {("", "reaper", "held"): 1})
        tasks.cancel_scope.cancel()
    async with connected(store) as tide, anyio.create_task_group() as tasks:
        lose(store)
        await tide.health.wait_for(HealthState.UNAVAILABLE)
        tasks.start_soon(stand, tide)
        await anyio.sleep(1)
        assert (shown("candidate.active"), shown("leader")) == ({("", "reaper"): 1}, {})
        tasks.cancel_scope.cancel()


async def test_members_are_shown_with_their_versions(recorded: Recorded) -> None:
    """Each member that is known is shown once; its version where it has told it, and not after it was away."""
    store = MemoryStore()

    def versions() -> dict[str, str]:
        found = points(recorded.metrics()["tideover.backend.member.info"])
        assert {value(point) for point in found.values()} == {1}
        return {str(member): str(version) for member, version in found}

    async with connected(store) as tide, connected(store):
        await anyio.sleep(1)
        before = versions()
        lose(store)
        await tide.health.wait_for(HealthState.UNAVAILABLE)
        after = versions()
    assert set(before) == set(after) == set(store.members)
    assert set(before.values()) == {"3.5.9", "unknown"}
    assert set(after.values()) == {"unknown"}


async def test_boundaries_are_floats(recorded: Recorded) -> None:
    """A whole number would be `le="1"` on a scrape, which Prometheus 2 keeps and Prometheus 3 calls `"1.0"`."""
    store = MemoryStore()
    async with connected(store) as tide:
        await tide.config.fetch("rate", default="1")
        async with tide.lock("orders"):
            pass
    found = [
        p for m in recorded.metrics().values() for p in points(m).values() if isinstance(p, HistogramDataPoint)
    ]
    assert len(found) >= 3
    assert {type(bound) for point in found for bound in point.explicit_bounds} == {float}
