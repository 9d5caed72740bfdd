"""A key on which a lock was lost, while what watches our keys has not told of it yet."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from tests.locks.support import lock_keys
from tests.support import connected
from tideover import Coordinator, LockLost
from tideover.store.operations import Delete
from tideover.testing import FaultyStore, MemoryStore

pytestmark = pytest.mark.anyio


class LaggingStore(FaultyStore):
    """A store whose member tells the watch of our own keys everything `lag` seconds late."""

    lag = 0.0

    @asynccontextmanager
    async def watch_group(self, **options: Any) -> AsyncIterator[Any]:
        async with super().watch_group(**options) as group:
            yield LaggingGroup(group, self)


class LaggingGroup:
    """A group of watches that is late."""

    def __init__(self, group: Any, store: LaggingStore) -> None:
        self._group, self._store = group, store
        self.add, self.drop, self.request_progress = group.add, group.drop, group.request_progress

    async def receive(self) -> Any:
        """Return the next frames, late."""
        frames = await self._group.receive()
        await anyio.sleep(self._store.lag)
        return frames


async def lose(tide: Coordinator, memory: MemoryStore, then: anyio.Event | None = None) -> None:
    """Hold a lock whose key is deleted, and be told so by a guarded write."""
    with pytest.raises(LockLost, match="at a guarded write"):
        async with tide.lock("orders") as held:
            if then is not None:
                then.set()
                await anyio.sleep(0.005)
            guard = held.guard()
            for key in lock_keys(memory, "orders"):
                await memory.call(Delete(key), member=memory.members[0], timeout=1)
            await tide.config.put("x", "1", guard=guard)


async def test_a_key_that_etcd_has_said_is_gone_is_not_kept_warm() -> None:
    """A guarded write was refused: the next body of this process is entered on a key that is there."""
    memory = MemoryStore()
    store = LaggingStore(memory)
    async with connected(store) as tide:
        async with tide.lock("opens the session"):
            pass
        for _ in range(2):
            async with tide.lock("orders"):
                pass
            await anyio.sleep(0.03)
        store.lag = 0.1
        await lose(tide, memory)
        async with tide.lock("orders") as held:
            place = held._grant.distributed("a key")
            assert lock_keys(memory, "orders") == [place.own.full]


async def test_nor_is_it_handed_to_a_task_that_waits() -> None:
    """Likewise when another task is in line as the lock is lost."""
    memory = MemoryStore()
    store = LaggingStore(memory)
    found: list[list[bytes]] = []
    async with connected(store) as tide:
        async with tide.lock("opens the session"):
            await anyio.sleep(1)
        is_held = anyio.Event()

        async def wait() -> None:
            await is_held.wait()
            async with tide.lock("orders"):
                found.append(lock_keys(memory, "orders"))

        async with anyio.create_task_group() as tasks:
            store.lag = 0.1
            tasks.start_soon(wait)
            await lose(tide, memory, is_held)
    assert [len(keys) for keys in found] == [1]
