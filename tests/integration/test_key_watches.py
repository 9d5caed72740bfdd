"""The keys of sessions, watched on a real etcd: one loss among a thousand, compaction, and a member that stops."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from typing import Any

import anyio
import anyio.to_thread
import pytest

import tideover
from tests.etcd.metrics import gauge
from tideover.coordinator.coordinator import Coordinator
from tideover.sessions.key import LeasedKey
from tideover.sessions.session import Session
from tideover.store.faults import StoreFault
from tideover.store.leases import LeaseRevoke
from tideover.store.operations import Delete, Op, Put
from tideover.testing import EtcdCluster, EtcdServer

pytestmark = [pytest.mark.anyio, pytest.mark.etcd, pytest.mark.takes(30)]

MANY = 1_000


@pytest.fixture(scope="module")
def cluster() -> Iterator[EtcdCluster]:
    """Three members."""
    with EtcdCluster() as running:
        yield running


async def ask(tide: Coordinator, op: Op[Any], member: str | None = None) -> int:
    """Do something past the sessions; return the revision."""
    assert tide._parts.store is not None
    answer = await tide._parts.store.call(op, member=member or tide._parts.client.state.active, timeout=5)
    return int(answer.header.revision)


async def put_many(session: Session, count: int) -> list[LeasedKey]:
    """Make keys, many at once."""
    keys: dict[int, LeasedKey] = {}

    async def put(numbers: range) -> None:
        for n in numbers:
            keys[n] = await session.put(f"k/{n:04}")

    async with anyio.create_task_group() as tasks:
        for first in range(32):
            tasks.start_soon(put, range(first, count, 32))
    return [keys[n] for n in range(count)]


async def test_one_loss_among_a_thousand_keys() -> None:
    """With a thousand keys watched a deletion, and the end of one of fifty leases, is known within 0.1 s."""
    with EtcdServer() as server:
        async with tideover.connect(server.endpoint, cache_dir=False, start_timeout=5, follow=()) as tide:
            async with tide.session(ttl=60) as session:
                others = [await tide._parts.sessions.open(60) for _ in range(50)]
                keys = await put_many(session, MANY)
                with anyio.fail_after(20):
                    while gauge(server, "etcd_debugging_mvcc_watcher_total") < MANY + 1:
                        await anyio.sleep(0.05)
                assert gauge(server, "etcd_debugging_mvcc_watch_stream_total") <= 2
                took = []
                for n in range(0, MANY, 100):
                    began = time.perf_counter()
                    await ask(tide, Delete(keys[n].full))
                    with anyio.fail_after(5):
                        await keys[n].gone
                    took.append(time.perf_counter() - began)
                for other in others[::10]:
                    began = time.perf_counter()
                    await ask(tide, LeaseRevoke(other.lease_id))
                    with anyio.fail_after(5):
                        await other.lost
                    took.append(time.perf_counter() - began)
                assert statistics.median(took) < 0.1
                assert sum(bool(key.gone) for key in keys) == 10
                assert sum(bool(other.lost) for other in others) == 5


async def test_a_member_stops_and_history_goes_meanwhile(cluster: EtcdCluster) -> None:
    """The member of the watch is stopped, a key and a lease go, and their history: both are known in seconds."""
    async with tideover.connect(*cluster.endpoints, cache_dir=False, start_timeout=5, follow=()) as tide:
        async with tide.session(ttl=60) as session:
            taken = await tide._parts.sessions.open(60)
            keys = await put_many(session, 20)
            await anyio.sleep(0.5)
            watches = tide._parts.sessions._watches
            assert watches is not None
            stopped = next(member for member in cluster.members if member.endpoint == watches._member)
            running = next(member for member in cluster.members if member is not stopped)
            stopped.pause()
            try:
                with anyio.fail_after(20):
                    revision = await until_done(tide, Delete(keys[3].full), running.endpoint)
                    await until_done(tide, LeaseRevoke(taken.lease_id), running.endpoint)
                    for _ in range(3):
                        revision = await until_done(tide, Put(b"/x", b""), running.endpoint)
                    await anyio.to_thread.run_sync(running.etcdctl, "compaction", str(revision))
                    await keys[3].gone
                    await taken.lost
            finally:
                stopped.resume()
            assert sum(bool(key.gone) for key in keys) == 1
            await anyio.sleep(1)
            session.check()
            await ask(tide, Delete(keys[4].full), running.endpoint)
            with anyio.fail_after(10):
                await keys[4].gone


async def until_done(tide: Coordinator, op: Op[Any], member: str) -> int:
    """Do something that may be done twice until it is done: there may be an election."""
    while True:
        try:
            return await ask(tide, op, member)
        except StoreFault:
            await anyio.sleep(0.2)
