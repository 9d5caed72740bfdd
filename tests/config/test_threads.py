"""Reading from threads while the event loop applies changes: the real clock, because threads have no mock one."""

from __future__ import annotations

import anyio
import anyio.to_thread
import pytest

import tideover
from tideover.testing import MemoryStore

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """Run on asyncio."""
    return "asyncio"


async def test_threads_read_while_values_change() -> None:
    """Threads that decode while the loop applies changes never leave an old value behind."""
    async with tideover.connect(store=MemoryStore(), cache_dir=False) as tide:
        await tide.config.put("a", 0)
        done = False

        def read_much() -> None:
            while not done:
                tide.config.get("a", int)

        async with anyio.create_task_group() as tasks:
            for _ in range(4):
                tasks.start_soon(anyio.to_thread.run_sync, read_much)
            for n in range(1, 100):
                await tide.config.put("a", n)
                assert tide.config.get("a", int) == n
            done = True
        assert tide.config.get("a", int) == 99
