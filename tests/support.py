"""What several tests need: a coordinator on a fake cluster and a mock clock."""

from __future__ import annotations

import math
import random
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import anyio.to_thread
import pytest
import trio
import trio.testing

from tideover.client.client import Client
from tideover.client.direct import DirectCalls
from tideover.client.gateway import Gateway
from tideover.client.lifecycle import Lifecycle
from tideover.clock import Clock
from tideover.cluster.health import ClusterHealth
from tideover.cluster.state import ClusterState
from tideover.coordinator.coordinator import Coordinator
from tideover.elections.peers.network import Network
from tideover.holders import ProcessName
from tideover.home import Home
from tideover.options import Options
from tideover.policies import RetryPolicy
from tideover.request_record import RequestRecord, current_record
from tideover.store.protocol import Store
from tideover.ticker import Ticker


def mock_trio() -> tuple[str, dict[str, object]]:
    """Return anyio's trio backend with a clock that jumps whenever everything waits."""
    return "trio", {"clock": trio.testing.MockClock(autojump_threshold=0)}


@pytest.fixture
def mock_backend() -> tuple[str, dict[str, object]]:
    """Run on trio with a clock that jumps; a folder's conftest takes it as its `anyio_backend`."""
    return mock_trio()


@pytest.fixture
def threads_stop_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a mock clock stand still while a worker thread runs; else it jumps, for all wait for the thread."""
    run_sync, running = anyio.to_thread.run_sync, 0

    async def run(function: Callable[..., object], *args: object, **options: Any) -> object:
        nonlocal running
        clock = _mock_clock_here()
        if clock is None:
            return await run_sync(function, *args, **options)
        running += 1
        clock.autojump_threshold = math.inf
        try:
            return await run_sync(function, *args, **options)
        finally:
            running -= 1
            if not running:
                clock.autojump_threshold = 0

    monkeypatch.setattr(anyio.to_thread, "run_sync", run)


def _mock_clock_here() -> trio.testing.MockClock | None:
    try:
        clock = trio.lowlevel.current_clock()
    except RuntimeError:  # asyncio
        return None
    return clock if isinstance(clock, trio.testing.MockClock) else None


def mock_clock() -> Clock:
    """Return clocks that follow trio's mock clock, in any thread."""
    now = trio.lowlevel.current_clock().current_time
    return Clock(
        monotonic=now,
        boot=now,
        wall=lambda: 1_000_000_000.0 + now(),
        boot_id="mock",
    )


@asynccontextmanager
async def connected(store: Store, *, network: Network | None = None, **options: Any) -> AsyncIterator[Coordinator]:
    """Run a coordinator on a store, on trio's mock clock, with chance that repeats."""
    made = Options(endpoints=tuple(store.members), cache_dir=False, **options)
    coordinator = Coordinator(
        made, store=store, clock=mock_clock(), chance=random.Random(7).random, network=network
    )
    async with coordinator as tide:
        yield tide


@contextmanager
def request() -> Iterator[RequestRecord]:
    """Be within a request."""
    record = RequestRecord()
    token = current_record.set(record)
    try:
        yield record
    finally:
        current_record.reset(token)


def client_of(store: Store, clock: Clock) -> Client:
    """Return an open client of a cluster, as a process of its own would have one."""

    def half() -> float:
        return 0.5

    state = ClusterState(store.members, clock=clock, active=store.members[0], random=half)
    home, lifecycle = Home(chance=half, monotonic=clock.monotonic), Lifecycle()
    client = Client(
        Gateway(state, policy=RetryPolicy(), namespace="/app"),
        DirectCalls(state),
        state,
        ClusterHealth(state, home=home),
        clock,
        half,
        home,
        Ticker(clock.monotonic),
        lifecycle,
        "/app",
        epoch=lambda: 1,
        outage_id=str,
        process_name=ProcessName(),
    )
    client.calls.connect(store)
    client.direct.connect(store)
    lifecycle.open()
    return client
