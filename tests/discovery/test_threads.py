"""`tide.discover` from threads, on the real clock: the mock clock is the event loop's alone."""

from __future__ import annotations

import threading
from collections import Counter

import anyio
import anyio.to_thread
import pytest

from tideover import connect
from tideover.discovery.endpoint import Endpoint
from tideover.store.operations import Put
from tideover.testing import MemoryStore

pytestmark = pytest.mark.anyio

SERVICE = "billing"


@pytest.fixture
def anyio_backend() -> str:
    """Run on asyncio."""
    return "asyncio"


async def published(count: int) -> MemoryStore:
    """Return a cluster in which a service has so many endpoints."""
    store = MemoryStore()
    for n in range(count):
        each = Endpoint(f"http://10.0.0.{n}:80", 1, {}, f"i{n:03}", "one", SERVICE)
        await store.call(Put(f"/{each.key}".encode(), each.encode()), member=store.members[0], timeout=1)
    return store


async def test_pick_and_report_from_threads() -> None:
    """Threads may pick and report while the list changes; nothing is lost and nobody is picked too often."""
    store = await published(20)
    async with connect(store=store) as tide:
        view = tide.discover(SERVICE)
        await view.wait_for(20, timeout=1)

        def work() -> list[str]:
            return [view.pick().instance for _ in range(2000)]

        found: list[list[str]] = []

        async def run() -> None:
            found.append(await anyio.to_thread.run_sync(work))

        async with anyio.create_task_group() as tasks:
            for _ in range(4):
                tasks.start_soon(run)
        counts = Counter(instance for each in found for instance in each)
        assert len(counts) == 20
        assert set(counts.values()) == {400}


async def test_a_thread_of_the_loop_may_begin_and_a_stranger_may_not() -> None:
    """A worker thread can begin to follow a service; any other thread is told who can."""
    store = await published(5)
    async with connect(store=store) as tide:
        view = await anyio.to_thread.run_sync(tide.discover, SERVICE)
        assert len(await view.wait_for(5, timeout=1)) == 5
        errors: list[Exception] = []

        def stranger() -> None:
            try:
                assert tide.discover(SERVICE) is view
                tide.discover("unheard of")
            except Exception as exc:
                errors.append(exc)

        thread = threading.Thread(target=stranger)
        thread.start()
        await anyio.to_thread.run_sync(thread.join)
        assert "call discover() in the coordinator's event loop first" in str(errors[0])
