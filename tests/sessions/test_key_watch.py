"""Watching our own keys: what is deleted is known at once, and a quiet watch is not believed."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import anyio
import pytest
import trio

from tests.support import connected, mock_clock
from tideover import Coordinator, SessionState
from tideover.options import Options
from tideover.store.faults import StoreFault, classify
from tideover.store.leases import LeaseKeepAlive
from tideover.store.operations import Delete, Put, Range
from tideover.store.protocol import WatchBatch, WatchGroup
from tideover.testing import FaultyStore, MemoryStore

pytestmark = pytest.mark.anyio


async def test_a_frozen_member_hides_a_loss_for_seconds_only() -> None:
    """The member in use freezes and the lease is taken away: known 4 s later at most, however long the TTL."""
    store = MemoryStore()
    async with connected(store) as tide:
        session = await tide._parts.sessions.open(600)
        await anyio.sleep(30)
        store.frozen = {session._tenure.member}
        store.touch()
        await anyio.sleep(0.1)
        store.revoke(session.lease_id)
        began = trio.current_time()
        with anyio.fail_after(5):
            await session.lost
        assert trio.current_time() - began < 4.1
        await tide._parts.sessions.close(session)


async def test_watches_have_moved_when_it_happens_later() -> None:
    """Some seconds after the member in use froze, the watches are elsewhere: a deletion is known at once."""
    store = MemoryStore()
    async with connected(store) as tide, tide.session(ttl=600) as session:
        key = await session.put("a")
        await anyio.sleep(30)
        store.frozen = {session._tenure.member}
        store.touch()
        await anyio.sleep(6)
        assert session.state is SessionState.ALIVE
        await store.call(Delete(b"/a"), member=next(m for m in store.members if m not in store.frozen), timeout=1)
        with anyio.fail_after(0.1):
            await key.gone


async def test_a_quiet_watch_that_lives_is_left_alone() -> None:
    """Ten minutes without an event: the watch gives its signs of life, and is never opened anew."""
    store = MemoryStore()
    groups = 0
    genuine = store.watch_group

    def counted(**options: Any) -> Any:
        nonlocal groups
        groups += 1
        return genuine(**options)

    async with connected(store, follow=()) as tide:
        store.watch_group = counted  # type: ignore[method-assign]
        before = store.watched
        async with tide.session(ttl=60) as session:
            await session.put("a")
            await anyio.sleep(600)
            assert session.state is SessionState.ALIVE
            assert store.watched - before == 2
    assert groups == 1


async def test_a_suspend_counts_as_silence_and_moves_no_watch() -> None:
    """The machine sleeps for five seconds: that long nothing was heard; the member is asked, and is left alone."""
    store, asleep = MemoryStore(), 0.0
    awake = mock_clock()
    clock = replace(awake, boot=lambda: awake.boot() + asleep)
    options = Options(endpoints=tuple(store.members), cache_dir=False, follow=())
    async with Coordinator(options, store=store, clock=clock, chance=random.Random(7).random) as tide:
        async with tide.session(ttl=60) as session:
            await session.put("a")
            await anyio.sleep(10)
            watched = store.watched
            assert session._holdings.silence <= 2.1
            asleep = 5.0
            assert session._holdings.silence >= 5
            await anyio.sleep(2.2)
            assert session._holdings.silence <= 2.1
            await anyio.sleep(10)
            assert store.watched == watched


@pytest.mark.parametrize("taken", [False, True])
async def test_history_compacted_in_an_outage(taken: bool) -> None:
    """What happened in an outage has been compacted away: the key is looked at, and lost only if it is gone."""
    store = MemoryStore()
    async with connected(store) as tide, tide.session(ttl=600) as session:
        key = await session.put("a")
        await anyio.sleep(1)
        store.down = set(store.members)
        store.touch()
        await anyio.sleep(5)
        store.down = set()
        if taken:
            await store.call(Delete(b"/a"), member=store.members[0], timeout=1)
        for n in range(5):
            await store.call(Put(b"/x", str(n).encode()), member=store.members[0], timeout=1)
        store.compact(store.revision)
        store.touch()
        await anyio.sleep(5)
        assert bool(key.gone) is taken
        assert session.state is SessionState.ALIVE
        await store.call(Delete(b"/a"), member=store.members[0], timeout=1)
        await anyio.sleep(0.1)
        assert key.gone


async def test_a_key_made_anew_by_somebody_else_is_not_ours() -> None:
    """Deleted and made again within one look, a key is gone: the new one has another create revision."""
    store = MemoryStore()
    async with connected(store) as tide, tide.session(ttl=60) as session:
        key = await session.put("a")
        member = store.members[0]
        await store.call(Delete(b"/a"), member=member, timeout=1)
        await store.call(Put(b"/a", b"theirs"), member=member, timeout=1)
        await anyio.sleep(0.1)
        assert key.gone
        assert session.keys == ()


async def test_giving_back_is_no_reason_to_hurry() -> None:
    """Keys made and given back cost no renewal more; keys deleted by others, five a second at the most."""
    store = MemoryStore()
    async with connected(store) as tide, tide.session(ttl=600) as session:
        await anyio.sleep(1)

        def renewals() -> int:
            return sum(isinstance(op, LeaseKeepAlive) for _, op in store.calls)

        for n in range(40):
            await session.put(f"k/{n}")
            await session.delete(f"k/{n}")
        await anyio.sleep(1)
        assert renewals() == 0
        for n in range(40):
            await session.put(f"k/{n}")
        for n in range(40):
            await store.call(Delete(f"/k/{n}".encode()), member=store.members[0], timeout=1)
            await anyio.sleep(0.025)
        await anyio.sleep(1)
        assert 1 <= renewals() <= 11


async def test_all_sessions_share_one_reader_and_one_watch_of_anchors() -> None:
    """Fifty sessions with a key each take one group, one watch of all anchors and one of each key, and no task."""
    store = MemoryStore()
    groups = 0
    genuine = store.watch_group

    def counted(**options: Any) -> Any:
        nonlocal groups
        groups += 1
        return genuine(**options)

    store.watch_group = counted  # type: ignore[method-assign]
    async with connected(store, follow=()) as tide:
        async with tide.session(ttl=600):
            await anyio.sleep(1)
            before = store.watched
            tasks = trio.lowlevel.current_statistics().tasks_living
            sessions = [await tide._parts.sessions.open(600) for _ in range(50)]
            keys = [await session.put(f"k/{n}") for n, session in enumerate(sessions)]
            await anyio.sleep(1)
            assert trio.lowlevel.current_statistics().tasks_living == tasks
            assert (groups, store.watched - before) == (1, 50)
            store.revoke(sessions[7].lease_id)
            with anyio.fail_after(0.1):
                await sessions[7].lost
                await keys[7].gone
            assert "etcd has ended the lease" in (sessions[7].lost.reason or "")
            assert sum(bool(session.lost) for session in sessions) == 1


async def test_an_anchor_that_is_gone_before_it_was_known() -> None:
    """The watch of all anchors is over the deletion of one before its session is known: it begins again there."""
    store = MemoryStore()
    async with connected(store, follow=()) as tide, tide.session(ttl=600):
        await anyio.sleep(1)
        genuine = tide._parts.sessions._grants.grant

        async def slow(*args: Any, **options: Any) -> Any:
            tenure = await genuine(*args, **options)
            store.revoke(tenure.lease_id)
            await anyio.sleep(0.5)
            return tenure

        tide._parts.sessions._grants.grant = slow  # type: ignore[method-assign]
        session = await tide._parts.sessions.open(600)
        with anyio.fail_after(0.1):
            await session.lost


async def test_a_lease_alone_elsewhere_moves_no_watch() -> None:
    """One lease is renewed at another member from now on: the watched one shows that it keeps up, and is kept."""
    store = MemoryStore()
    async with connected(store, follow=()) as tide, tide.session(ttl=600), tide.session(ttl=600) as alone:
        key = await alone.put("a")
        await anyio.sleep(5)
        watches = tide._parts.sessions._watches
        assert watches is not None
        member = watches._member
        other = next(m for m in store.members if m != member)
        before = (store.watched, len(store.calls))
        alone._tenure.move(other)
        await anyio.sleep(5)
        assert (watches._member, store.watched) == (member, before[0])
        asked = [(m, op.limit) for m, op in store.calls[before[1] :] if isinstance(op, Range) and op.linearizable]
        assert (member, 1) in asked
        await store.call(Delete(b"/a"), member=other, timeout=1)
        with anyio.fail_after(0.1):
            await key.gone


async def test_a_member_that_does_not_keep_up_is_left() -> None:
    """A lease has left the member of the watch, and that cannot be asked anything: all is watched elsewhere."""
    memory = MemoryStore()
    store = FaultyStore(memory)
    async with connected(store, follow=()) as tide, tide.session(ttl=600), tide.session(ttl=600) as alone:
        key = await alone.put("a")
        await anyio.sleep(5)
        watches = tide._parts.sessions._watches
        assert watches is not None
        member = watches._member
        store.inject("UNAVAILABLE", "etcdserver: request timed out", member=member, times=10**6)
        other = next(m for m in store.members if m != member)
        alone._tenure.move(other)
        await anyio.sleep(3)
        assert watches._member != member
        memory.mute = {member}
        await memory.call(Delete(b"/a"), member=other, timeout=1)
        with anyio.fail_after(0.1):
            await key.gone


async def test_watches_go_where_all_leases_have_gone() -> None:
    """All leases are renewed at another member: so are the watches, although the first one would still tell."""
    store = MemoryStore()
    async with connected(store, follow=()) as tide, tide.session(ttl=600) as session:
        await session.put("a")
        await anyio.sleep(5)
        watches = tide._parts.sessions._watches
        assert watches is not None
        other = next(m for m in store.members if m != watches._member)
        session._tenure.move(other)
        await anyio.sleep(0.5)
        assert watches._member == other


async def test_a_refused_watch_is_alone_with_it() -> None:
    """One key may not be watched: the others are, after all were begun again once, and it alone is tried again."""
    memory = MemoryStore()
    store = Refusing(memory)
    async with connected(store, follow=()) as tide, tide.session(ttl=600) as session:
        await anyio.sleep(1)
        keys = [await session.put(f"k/{n}") for n in range(3)]
        await anyio.sleep(1)
        assert store.groups == 2
        await memory.call(Delete(b"/k/0"), member=memory.members[0], timeout=1)
        with anyio.fail_after(0.1):
            await keys[0].gone
        await anyio.sleep(20)
        assert store.groups == 2
        store.refused = b""
        await anyio.sleep(6)
        await memory.call(Delete(b"/k/1"), member=memory.members[0], timeout=1)
        with anyio.fail_after(0.1):
            await keys[1].gone
        assert not keys[2].gone


async def test_anchors_whose_history_is_gone_are_read_together() -> None:
    """After an outage with a compaction all anchors are looked at with one read, and only what is gone is lost."""
    store = MemoryStore()
    async with connected(store, follow=()) as tide, tide.session(ttl=600) as kept:
        taken = await tide._parts.sessions.open(600)
        await anyio.sleep(1)
        store.down = set(store.members)
        store.touch()
        await anyio.sleep(5)
        store.down = set()
        store.revoke(taken.lease_id)
        for n in range(5):
            await store.call(Put(b"/x", str(n).encode()), member=store.members[0], timeout=1)
        store.compact(store.revision)
        store.touch()
        await anyio.sleep(2)
        prefix = tide._parts.sessions.own_anchors
        assert taken.lost
        assert not kept.lost
        reads = [op for _, op in store.calls if isinstance(op, Range) and op.key == prefix and not op.limit]
        assert len(reads) == 1


class Refusing(FaultyStore):
    """A store at which one key may not be watched."""

    def __init__(self, memory: MemoryStore) -> None:
        super().__init__(memory)
        self.refused = b"/k/1"
        self.groups = 0

    @asynccontextmanager
    async def watch_group(self, **options: Any) -> AsyncIterator[Any]:
        self.groups += 1
        async with super().watch_group(**options) as group:
            yield RefusingGroup(group, self)


class RefusingGroup:
    """A group of watches of a `Refusing` store."""

    def __init__(self, group: WatchGroup, store: Refusing) -> None:
        self._group, self._store = group, store
        self._refused: list[tuple[Any, WatchBatch | StoreFault]] = []
        self.drop, self.request_progress = group.drop, group.request_progress

    def add(self, tag: Any, key: bytes, end: bytes | None, *, start_revision: int) -> None:
        if key == self._store.refused:
            self._refused.append((tag, StoreFault(classify("PERMISSION_DENIED", "etcdserver: permission denied"))))
            self.request_progress()
        else:
            self._group.add(tag, key, end, start_revision=start_revision)

    async def receive(self) -> Sequence[tuple[Any, WatchBatch | StoreFault]]:
        frames = [*await self._group.receive(), *self._refused]
        self._refused.clear()
        return frames
