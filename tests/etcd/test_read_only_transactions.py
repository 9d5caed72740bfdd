"""Transactions that only read, on a real etcd: the one request whose cancelling can end a member."""

from __future__ import annotations

import random
import time
from contextlib import suppress

import anyio
import pytest

from tideover.etcd.adapter import EtcdStore
from tideover.store.faults import StoreFault
from tideover.store.operations import Put, Range, ReadBatch
from tideover.store.transactions import Txn
from tideover.testing import EtcdServer

pytestmark = [pytest.mark.etcd, pytest.mark.anyio]

KEYS = tuple(b"k%03d" % number for number in range(128))


Reads = ReadBatch | Txn


@pytest.mark.parametrize("op", [ReadBatch(KEYS), Txn(then=tuple(map(Range, KEYS)))], ids=["batch", "txn"])
@pytest.mark.parametrize("how", ["deadline", "cancelled"])
async def test_giving_up_ends_no_member(server: EtcdServer, op: Reads, how: str) -> None:
    """Sixty callers that give up within milliseconds, a hundred times and more, leave etcd 3.5.1 alive."""
    store = EtcdStore([server.endpoint])
    (member,) = store.members
    given_up = 0

    async def read(chance: random.Random, until: float) -> None:
        nonlocal given_up
        while time.monotonic() < until or given_up <= 100:
            patience = chance.uniform(0.002, 0.03)
            with anyio.move_on_after(patience if how == "cancelled" else None) as scope:
                try:
                    timeout = 5 if how == "cancelled" else patience
                    await store.call(op, member=member, timeout=timeout)  # type: ignore[misc]
                except StoreFault:
                    given_up += 1
            given_up += scope.cancelled_caught

    try:
        for key in KEYS:
            await store.call(Put(key, b"x" * 2000), member=member, timeout=5)
        until = time.monotonic() + 0.5
        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                for number in range(60):
                    tasks.start_soon(read, random.Random(number), until)
        assert server.running, server.log_tail()
        assert len((await store.call(ReadBatch(KEYS), member=member, timeout=30)).entries) == len(KEYS)
    finally:
        await store.aclose()


async def test_closing_ends_no_member(server: EtcdServer) -> None:
    """A connection that is closed while reads are under way that nobody waits for any more leaves etcd alive."""
    for _ in range(5):
        store = EtcdStore([server.endpoint])
        (member,) = store.members

        async def read(store: EtcdStore = store, member: str = member) -> None:
            with suppress(StoreFault):
                await store.call(ReadBatch(KEYS), member=member, timeout=0.05)

        for key in KEYS:
            await store.call(Put(key, b"x" * 2000), member=member, timeout=5)
        async with anyio.create_task_group() as tasks:
            for _ in range(200):
                tasks.start_soon(read)
        await store.aclose()
    assert server.running, server.log_tail()
    store = EtcdStore([server.endpoint])
    try:
        assert len((await store.call(ReadBatch(KEYS), member=store.members[0], timeout=30)).entries) == len(KEYS)
    finally:
        await store.aclose()


async def test_what_is_left_alone_is_bounded(server: EtcdServer) -> None:
    """A member that is silent is sent no more than 32 reads that nobody waits for; then it is asked again."""
    store = EtcdStore([server.endpoint])
    (member,) = store.members
    try:
        await store.call(Put(KEYS[0], b"x"), member=member, timeout=5)
        server.pause()
        for _ in range(40):
            with pytest.raises(StoreFault, match="Deadline Exceeded"):
                await store.call(ReadBatch(KEYS[:1]), member=member, timeout=0.01)
        assert len(store._channel(member)._unended) == 32
        server.resume()
        assert (await store.call(ReadBatch(KEYS[:1]), member=member, timeout=5)).entries[KEYS[0]].value == b"x"
        assert len(store._channel(member)._unended) == 0
    finally:
        if server.paused:
            server.resume()
        await store.aclose()


async def test_a_new_connection_is_not_held_up_by_the_old_one(server: EtcdServer) -> None:
    """What was left alone on a connection that is given up keeps nobody from asking over its successor."""
    store = EtcdStore([server.endpoint])
    (member,) = store.members
    try:
        await store.call(Put(KEYS[0], b"x"), member=member, timeout=5)
        server.pause()
        for _ in range(32):
            with pytest.raises(StoreFault, match="Deadline Exceeded"):
                await store.call(ReadBatch(KEYS[:1]), member=member, timeout=0.01)
        store.renew(member)
        server.resume()
        assert (await store.call(ReadBatch(KEYS[:1]), member=member, timeout=1)).entries[KEYS[0]].value == b"x"
    finally:
        if server.paused:
            server.resume()
        await store.aclose()
