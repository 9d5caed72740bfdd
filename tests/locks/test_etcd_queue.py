"""The line of waiters: what is watched, and from when."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
import trio

from tests.locks.support import lock_keys, settle
from tests.support import connected
from tideover.store.operations import Delete, Put
from tideover.store.protocol import Watch
from tideover.testing import FaultyStore, MemoryStore

pytestmark = pytest.mark.anyio


class Hooked(FaultyStore):
    """A store that notes where watches of locks begin, and does something just before they are opened."""

    def __init__(self, memory: MemoryStore) -> None:
        super().__init__(memory)
        self.begun: dict[bytes, list[int]] = {}
        self.first: Callable[[], Awaitable[object]] | None = None

    @asynccontextmanager
    async def watch(self, key: bytes, *args: Any, **options: Any) -> AsyncIterator[Watch]:
        if key.startswith(b"/locks/"):
            self.begun.setdefault(key, []).append(options["start_revision"])
            if self.first is not None:
                first, self.first = self.first, None
                await first()
        async with super().watch(key, *args, **options) as watch:
            yield watch

    @asynccontextmanager
    async def watch_group(self, **options: Any) -> AsyncIterator[Any]:
        async with super().watch_group(**options) as group:
            yield NotingGroup(group, self.begun)


class NotingGroup:
    """A group that notes where watches of locks begin."""

    def __init__(self, group: Any, begun: dict[bytes, list[int]]) -> None:
        self._group, self._begun = group, begun
        self.drop, self.receive, self.request_progress = group.drop, group.receive, group.request_progress

    def add(self, tag: object, key: bytes, end: bytes | None, *, start_revision: int) -> None:
        if key.startswith(b"/locks/"):
            self._begun.setdefault(key, []).append(start_revision)
        self._group.add(tag, key, end, start_revision=start_revision)


async def put(memory: MemoryStore, key: bytes) -> None:
    """Write a key."""
    await memory.call(Put(key, b""), member=memory.members[0], timeout=1)


async def delete(memory: MemoryStore, key: bytes) -> None:
    """Delete a key."""
    await memory.call(Delete(key), member=memory.members[0], timeout=1)


async def test_who_leaves_between_the_look_and_the_watch_is_not_waited_for() -> None:
    """A watch of what is to come does not tell of what came before it: that is read instead."""
    memory = MemoryStore()
    store = Hooked(memory)
    await put(memory, b"/locks/orders/1")
    async with connected(store) as tide:
        store.first = lambda: delete(memory, b"/locks/orders/1")
        began = trio.current_time()
        async with tide.lock("orders"):
            assert trio.current_time() - began < 1
            assert store.begun[b"/locks/orders/1"] == [0]


async def test_what_else_happens_between_the_look_and_the_watch_changes_nothing() -> None:
    """The one before us is still there: its leaving is seen at once, on the watch that is open."""
    memory = MemoryStore()
    store = Hooked(memory)
    await put(memory, b"/locks/orders/1")
    async with connected(store) as tide, anyio.create_task_group() as tasks:
        store.first = lambda: put(memory, b"/unrelated")

        async def leave() -> None:
            await anyio.sleep(2)
            await delete(memory, b"/locks/orders/1")

        tasks.start_soon(leave)
        began = trio.current_time()
        async with tide.lock("orders"):
            assert 2 <= trio.current_time() - began < 2.1
            assert store.begun[b"/locks/orders/1"] == [0]


async def test_a_lock_delay_needs_the_moment_of_leaving() -> None:
    """With lock_delay= the watch begins behind the look, so that it tells at which revision the key went."""
    memory = MemoryStore()
    store = Hooked(memory)
    await put(memory, b"/locks/orders/1")
    async with connected(store) as tide:
        store.first = lambda: delete(memory, b"/locks/orders/1")
        async with tide.lock("orders", lock_delay=1):
            assert store.begun[b"/locks/orders/1"][0] > 0


async def test_a_waiter_whose_own_key_goes_looks_at_once() -> None:
    """Its own key is deleted while it waits: it stands in line anew, and does not wait for a watch to end."""
    memory = MemoryStore()
    await put(memory, b"/locks/orders/1")
    async with connected(memory) as tide, anyio.create_task_group() as tasks:

        async def take_away() -> None:
            await anyio.sleep(1)
            await delete(memory, lock_keys(memory, "orders")[-1])
            await delete(memory, b"/locks/orders/1")

        tasks.start_soon(take_away)
        began = trio.current_time()
        async with tide.lock("orders"):
            assert trio.current_time() - began < 2


async def test_a_short_hold_takes_no_watch() -> None:
    """A key that is given back within a moment is not watched; one held for longer is, from its beginning."""
    memory = MemoryStore()
    store = Hooked(memory)
    async with connected(store) as tide:
        async with tide.lock("opens the session"):
            await anyio.sleep(1)
        store.begun.clear()
        async with tide.lock("orders"):
            await anyio.sleep(0.005)
        await settle(1)
        assert not store.begun
        async with tide.lock("orders") as held:
            await anyio.sleep(1)
            assert list(store.begun.values()) == [[held.revision + 1]]
