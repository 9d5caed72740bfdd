"""The line of waiters: what is watched, and from when."""

from __future__ import annotations

import math
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import anyio
import pytest
import trio

from tests.locks.support import lock_keys, settle
from tests.support import connected, mock_clock
from tideover import Coordinator
from tideover.options import Options
from tideover.store.faults import StoreFault, classify
from tideover.store.operations import Delete, Put, Range, prefix_end
from tideover.store.protocol import Compacted, Watch, WatchBatch
from tideover.testing import FaultyStore, MemoryStore

pytestmark = pytest.mark.anyio


class Hooked(FaultyStore):
    """A store that notes where watches of locks begin, and does something just before they are opened."""

    def __init__(self, memory: MemoryStore) -> None:
        super().__init__(memory)
        self.memory = memory
        self.begun: dict[bytes, list[int]] = {}
        self.first: Callable[[], Awaitable[object]] | None = None
        self.silent = False
        self.events: StoreFault | None = None

    @asynccontextmanager
    async def watch(self, key: bytes, *args: Any, **options: Any) -> AsyncIterator[Watch]:
        if key.startswith(b"/locks/"):
            self.begun.setdefault(key, []).append(options["start_revision"])
            if self.first is not None:
                first, self.first = self.first, None
                await first()
        async with super().watch(key, *args, **options) as watch:
            yield watch if self.events is None else EndedWatch(watch, self.events)

    @asynccontextmanager
    async def watch_group(self, **options: Any) -> AsyncIterator[Any]:
        async with super().watch_group(**options) as group:
            yield NotingGroup(group, self)


class NotingGroup:
    """A group that notes where watches of locks begin."""

    def __init__(self, group: Any, store: Hooked) -> None:
        self._group, self._begun, self._store = group, store.begun, store
        self.drop, self.receive = group.drop, group.receive

    def request_progress(self) -> None:
        if not self._store.silent:
            self._group.request_progress()

    def add(self, tag: object, key: bytes, end: bytes | None, *, start_revision: int) -> None:
        if key.startswith(b"/locks/"):
            self._begun.setdefault(key, []).append(start_revision)
        self._group.add(tag, key, end, start_revision=start_revision)


class EndedWatch(Watch):
    """A watch that ends with a fault at its first event."""

    def __init__(self, watch: Watch, fault: StoreFault) -> None:
        self._watch, self._fault = watch, fault

    @property
    def opened_at(self) -> int:
        return self._watch.opened_at

    async def receive(self) -> WatchBatch:
        while not (await self._watch.receive()).events:
            pass
        raise self._fault

    async def request_progress(self) -> None:
        await self._watch.request_progress()


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
            assert store.begun[b"/locks/orders/"] == [0]


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
            assert store.begun[b"/locks/orders/"] == [0]


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


# Passing on without the last read -----------------------------------------------------------------------------


def reads_of_line(store: Hooked) -> int:
    """Return how often the line has been read alone."""
    memory = store.memory
    return sum(isinstance(op, Range) and op.key == b"/locks/orders/" for _, op in memory.calls)


async def reads_when_passed_on(
    store: Hooked,
    *,
    after: float = 0.5,
    leave: Callable[[], Awaitable[object]] | None = None,
    **options: Any,
) -> int:
    """Let the key before ours go while we wait for a lock; return how often the line was read from then on."""
    memory = store.memory
    await put(memory, b"/locks/orders/1")
    read = 0
    async with connected(store) as tide, anyio.create_task_group() as tasks:
        async with tide.lock("opens the session"):
            await anyio.sleep(1)

        async def go() -> None:
            nonlocal read
            await anyio.sleep(after)
            read = reads_of_line(store)
            await (leave or (lambda: delete(memory, b"/locks/orders/1")))()

        tasks.start_soon(go)
        async with tide.lock("orders", **options) as held:
            read = reads_of_line(store) - read
            place = held._grant.distributed("a key")
            assert lock_keys(memory, "orders")[0] == place.own.full
    return read


async def test_the_line_is_not_read_again_when_the_lock_is_passed_on() -> None:
    """The line was read after the watch was opened: its event says all that a read would."""
    assert await reads_when_passed_on(Hooked(MemoryStore())) == 0


async def test_with_a_lock_delay_the_line_is_read_again() -> None:
    """How the last holder left is asked for: the line is read as well."""
    assert await reads_when_passed_on(Hooked(MemoryStore()), lock_delay=0.1) > 0


async def test_in_a_long_line_it_is_read_again() -> None:
    """Eight keys before ours: only the nearest is watched, and the line is read when that goes."""
    store = Hooked(MemoryStore())
    for number in range(2, 9):
        await put(store.memory, b"/locks/orders/%x" % number)

    async def leave() -> None:
        for number in range(1, 9):
            await delete(store.memory, b"/locks/orders/%x" % number)

    assert await reads_when_passed_on(store, leave=leave) > 0
    assert b"/locks/orders/8" in store.begun


@pytest.mark.parametrize("again", [False, True])
async def test_in_a_long_line_only_the_key_right_before_ours_is_watched(again: bool) -> None:
    """Not the head: its leaving concerns the next one only. So too for who goes on with our place."""
    store = Hooked(MemoryStore())
    others = [b"/locks/orders/%x" % number for number in range(1, 13)]
    for key in others:
        await put(store.memory, key)
    async with connected(store) as tide, anyio.create_task_group() as tasks:
        async with tide.lock("opens the session"):
            await anyio.sleep(1)
        await anyio.sleep(1)  # nothing is written meanwhile
        store.begun.clear()

        async def want(patience: float) -> None:
            with anyio.move_on_after(patience):
                async with tide.lock("orders"):
                    raise AssertionError

        if again:
            tasks.start_soon(want, 0.5)
            await anyio.sleep(0.1)
        tasks.start_soon(want, 60)
        await anyio.sleep(1)
        assert store.begun.keys() & {b"/locks/orders/", *others} == {others[-1]}
        place = tide._parts.locks._cohorts["orders", 15].front.place
        assert place is not None
        assert place.ahead.last is not None
        assert place.ahead.last.key == others[-1]
        assert place.ahead.holder is not None
        assert place.ahead.holder.key == others[0]
        tasks.cancel_scope.cancel()


async def test_a_line_that_becomes_long_is_read_again() -> None:
    """Eight more come to stand behind us: from then on only the key before ours is watched."""
    store = Hooked(MemoryStore())

    async def leave() -> None:
        for number in range(2, 9):
            await put(store.memory, b"/locks/orders/%x" % number)
        await anyio.sleep(0.5)
        assert store.begun[b"/locks/orders/1"] == [0]
        await delete(store.memory, b"/locks/orders/1")

    assert await reads_when_passed_on(store, leave=leave) > 0


async def test_without_a_sign_of_life_of_our_keys_it_is_read_again() -> None:
    """What watches the session's keys has been silent for more than two seconds."""
    store = Hooked(MemoryStore())

    async def leave() -> None:
        store.silent = True
        await anyio.sleep(2.0)
        await delete(store.memory, b"/locks/orders/1")

    assert await reads_when_passed_on(store, leave=leave) > 0


async def test_after_a_suspend_the_line_is_read_again() -> None:
    """What was heard before the machine slept for five seconds is old, though the monotonic clock stood still."""
    memory, asleep = MemoryStore(), 0.0
    store = Hooked(memory)
    await put(memory, b"/locks/orders/1")
    awake = mock_clock()
    clock = replace(awake, boot=lambda: awake.boot() + asleep)
    options = Options(endpoints=tuple(store.members), cache_dir=False)
    async with Coordinator(options, store=store, clock=clock, chance=random.Random(7).random) as tide:
        async with tide.lock("opens the session", ttl=30):
            await anyio.sleep(1)
        read = math.inf

        async def leave() -> None:
            nonlocal asleep, read
            await anyio.sleep(0.5)
            read = reads_of_line(store)
            asleep = 5.0
            await delete(memory, b"/locks/orders/1")

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(leave)
            async with tide.lock("orders", ttl=30):
                assert reads_of_line(store) > read


@pytest.mark.parametrize("fault", [Compacted(3), StoreFault(classify("UNAVAILABLE", "transport is closing"))])
async def test_when_the_watch_has_ended_the_line_is_read_again(fault: StoreFault) -> None:
    """Its event may not have been the only one: the history is gone, or the member."""
    store = Hooked(MemoryStore())
    store.events = fault
    assert await reads_when_passed_on(store) > 0


async def test_a_transaction_that_deletes_our_key_too_passes_nothing_on() -> None:
    """`del --prefix` of the line deletes both keys at one revision: we stand in line again, behind a newer key."""
    store = Hooked(MemoryStore())
    memory = store.memory

    async def leave() -> None:
        whole = Delete(b"/locks/orders/", prefix_end(b"/locks/orders/"))
        await memory.call(whole, member=memory.members[0], timeout=1)
        await put(memory, b"/locks/orders/2")
        await anyio.sleep(1)
        assert lock_keys(memory, "orders")[0] == b"/locks/orders/2"
        await delete(memory, b"/locks/orders/2")

    began = trio.current_time()
    await reads_when_passed_on(store, leave=leave)
    assert trio.current_time() - began > 2


async def test_a_history_that_is_rebuilt_passes_nothing_on() -> None:
    """etcd is restored from a time at which another key stood in line, and not ours: that one is waited for."""
    store = Hooked(MemoryStore())
    memory = store.memory

    async def leave() -> None:
        memory.rebuild({b"/locks/orders/2": b""}, revision=2)
        await anyio.sleep(5)
        assert lock_keys(memory, "orders")[0] == b"/locks/orders/2"
        await delete(memory, b"/locks/orders/2")

    began = trio.current_time()
    await reads_when_passed_on(store, leave=leave)
    assert trio.current_time() - began > 6
