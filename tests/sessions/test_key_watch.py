"""Watching our own keys: what is deleted is known at once, and a quiet watch is not believed."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
import trio

from tests.support import connected
from tideover import SessionState
from tideover.store.leases import LeaseKeepAlive
from tideover.store.operations import Delete, Put
from tideover.testing import MemoryStore

pytestmark = pytest.mark.anyio


async def test_a_frozen_member_hides_a_loss_for_seconds_only() -> None:
    """The member in use freezes and the lease is taken away: known 4 s later at most, however long the TTL."""
    store = MemoryStore()
    async with connected(store) as tide:
        session = await tide._sessions.open(600)
        await anyio.sleep(30)
        store.frozen = {session._tenure.member}
        store.touch()
        await anyio.sleep(0.1)
        store.revoke(session.lease_id)
        began = trio.current_time()
        with anyio.fail_after(5):
            await session.lost
        assert trio.current_time() - began < 4.1
        await tide._sessions.close(session)


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
