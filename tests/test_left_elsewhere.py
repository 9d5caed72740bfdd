"""Entered in one task and left in another: fixtures, notebook cells, `asyncio.wait_for` on Python 3.11."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import anyio
import pytest

import tideover
from tideover import HealthState, LeadershipLost, LockLost, SessionLost
from tideover.coordinator.coordinator import Coordinator
from tideover.testing import MemoryStore

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """Trio refuses other tasks by itself."""
    return "asyncio"


@pytest.fixture
async def tide() -> AsyncIterator[Coordinator]:
    """A coordinator on a fake cluster."""
    async with tideover.connect(store=MemoryStore()) as entered:
        yield entered


async def test_a_coordinator_works_in_whichever_task() -> None:
    """Entered in a task that ends, used in a second, left in a third: as ever, and nothing is left running."""
    before = asyncio.all_tasks()
    coordinator = tideover.connect(store=MemoryStore())
    tide = await asyncio.create_task(coordinator.__aenter__())

    async def use() -> None:
        async with tide.lock("job", timeout=5):
            await tide.config.put("a", "1")

    await asyncio.create_task(use())
    assert tide.health.state is HealthState.AVAILABLE
    await asyncio.create_task(coordinator.__aexit__(None, None, None))
    assert asyncio.all_tasks() == before


async def test_a_coordinator_within_wait_for() -> None:
    """What bounds the start by `asyncio.wait_for` on a stack works, on Python 3.11, too."""
    async with AsyncExitStack() as stack:
        entering = stack.enter_async_context(tideover.connect(store=MemoryStore()))
        tide = await asyncio.wait_for(entering, 5)
        assert tide.health.state is HealthState.AVAILABLE


async def test_a_start_that_is_cancelled_leaves_nothing() -> None:
    """A task that is cancelled while it enters has ended the background tasks when it is done."""
    before = asyncio.all_tasks()
    coordinator = tideover.connect(store=MemoryStore())
    for moments in range(12):
        coordinator = tideover.connect(store=MemoryStore())
        task = asyncio.create_task(coordinator.__aenter__())
        for _ in range(moments):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
        if not task.cancelled():
            await coordinator.__aexit__(None, None, None)
        assert asyncio.all_tasks() == before


async def test_a_cancellation_at_any_moment_leaves_nothing() -> None:
    """`task.cancel()` at any moment of connecting, using and closing: nothing is left running when it is done."""
    before = asyncio.all_tasks()

    async def use() -> None:
        async with tideover.connect(store=MemoryStore()) as tide:
            await tide.config.put("a", "1")

    for moments in range(80):
        task = asyncio.create_task(use())
        for _ in range(moments):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task})
        assert asyncio.all_tasks() == before, moments


async def test_a_scope_around_ends_no_background_task() -> None:
    """A scope around the coordinator is cancelled: the body ends, and what closing needs still runs meanwhile."""
    store = MemoryStore()
    with anyio.CancelScope() as around:
        async with tideover.connect(store=store) as tide:
            async with tide.lock("job"):
                assert store.leases
                around.cancel()
                await anyio.sleep(60)
    assert around.cancelled_caught
    assert not store.leases


async def test_a_lock_whose_task_has_ended_is_refused(tide: Coordinator, caplog: pytest.LogCaptureFixture) -> None:
    """A lock whose entering task has ended counts as lost at once, and says why; left, others get it."""
    lock = tide.lock("job")
    held = await asyncio.create_task(lock.__aenter__())
    await asyncio.sleep(0)
    with pytest.raises(LockLost, match="enter and leave it in one task"):
        held.check()
    assert any(
        "enter and leave it in one task" in r.message for r in caplog.records if r.levelno >= logging.WARNING
    )
    with pytest.raises(tideover.LockTimeout):
        async with tide.lock("job", timeout=0):
            pass
    with pytest.raises(LockLost, match="which has ended"):
        await lock.__aexit__(None, None, None)
    async with tide.lock("job", timeout=5):
        pass


async def test_a_session_whose_task_has_ended_is_refused(tide: Coordinator) -> None:
    """A session likewise; its keys are gone when it is left."""
    block = tide.session(ttl=15)
    session = await asyncio.create_task(block.__aenter__())
    await asyncio.sleep(0)
    with pytest.raises(SessionLost, match="enter and leave it in one task"):
        session.check()
    with pytest.raises(SessionLost, match="which has ended"):
        await block.__aexit__(None, None, None)


async def test_a_leadership_whose_task_has_ended_is_refused(tide: Coordinator) -> None:
    """A leadership likewise; the office is free once it is left."""
    leadership = tide.leader("reaper")
    term = await asyncio.create_task(leadership.__aenter__())
    await asyncio.sleep(0)
    with pytest.raises(LeadershipLost, match="enter and leave it in one task"):
        term.check()
    with pytest.raises(LeadershipLost, match="which has ended"):
        await leadership.__aexit__(None, None, None)
    with anyio.fail_after(5):
        async with tide.leader("reaper") as again:
            again.check()


async def test_a_generator_that_is_closed_by_the_event_loop(tide: Coordinator) -> None:
    """A lock in an async generator that is left half way is let go in a task of the loop, and the user goes on."""

    async def guarded() -> AsyncIterator[int]:
        async with tide.lock("job"):
            yield 1

    async def use() -> str:
        async for _ in guarded():
            break
        async with tide.lock("job", timeout=5):
            await asyncio.sleep(0.05)
        return "done"

    assert await asyncio.create_task(use()) == "done"
