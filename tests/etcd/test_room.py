"""Connections with room for few streams. The server is gRPC's own, with HAProxy's bound and slow writes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import grpc
import pytest

from tests.etcd.one_loop import anyio_backend, one_loop
from tests.slow_links import slow_link
from tideover.etcd import channel, room
from tideover.etcd.adapter import EtcdStore
from tideover.etcd.messages import rpc
from tideover.store.faults import FaultKind, StoreFault
from tideover.store.operations import Put, Range, ReadBatch, WriteResult
from tideover.testing import EtcdServer

__all__ = ["anyio_backend", "one_loop"]

pytestmark = pytest.mark.anyio


class Member(grpc.GenericRpcHandler):  # type: ignore[misc] # grpc has no types
    """Answers at once, but for writes.

    Attributes:
        go_on: Set for writes to be answered.
        reads: The same for reads of many keys; None lets them be answered at once.
        reading: How many of those have come.
        writing: How many are under way at most, by connection.
    """

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.reads: asyncio.Event | None = None
        self.reading = 0
        self.writing: dict[str, int] = {}

    async def _put(self, request: Any, context: Any) -> Any:
        self.writing[context.peer()] = self.writing.get(context.peer(), 0) + 1
        await self.go_on.wait()
        return rpc.PutResponse()

    async def _range(self, request: Any, context: Any) -> Any:
        return rpc.RangeResponse()

    async def _txn(self, request: Any, context: Any) -> Any:
        self.reading += 1
        if self.reads is not None:
            await self.reads.wait()
        return rpc.TxnResponse(succeeded=True, responses=[rpc.ResponseOp(response_range=rpc.RangeResponse())])

    async def _watch(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        async for request in requests:
            header = rpc.ResponseHeader(cluster_id=1, member_id=1)
            yield rpc.WatchResponse(header=header, created=True, watch_id=request.create_request.watch_id)

    async def _keep_alive(self, requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
        async for request in requests:
            yield rpc.LeaseKeepAliveResponse(ID=request.ID, TTL=5)

    def service(self, handler_call_details: Any) -> Any:
        """Find what to do with a call."""
        behaviour, request, handler = {
            "Put": (self._put, rpc.PutRequest, grpc.unary_unary_rpc_method_handler),
            "Range": (self._range, rpc.RangeRequest, grpc.unary_unary_rpc_method_handler),
            "Txn": (self._txn, rpc.TxnRequest, grpc.unary_unary_rpc_method_handler),
            "Watch": (self._watch, rpc.WatchRequest, grpc.stream_stream_rpc_method_handler),
            "LeaseKeepAlive": (self._keep_alive, rpc.LeaseKeepAliveRequest, grpc.stream_stream_rpc_method_handler),
        }[handler_call_details.method.rpartition("/")[2]]
        return handler(behaviour, request.FromString, lambda reply: reply.SerializeToString())


@pytest.fixture
async def member() -> AsyncIterator[Member]:
    """What the member does."""
    return Member()


@pytest.fixture
async def store(member: Member) -> AsyncIterator[EtcdStore]:
    """A store at that member, for what is urgent."""
    server = grpc.aio.server(options=[("grpc.max_concurrent_streams", 100)])
    server.add_generic_rpc_handlers((member,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    store = EtcdStore([f"127.0.0.1:{port}"])
    try:
        yield store.urgent()
    finally:
        member.go_on.set()
        await store.aclose()
        await server.stop(None)
        # The server's events come from a thread of grpc's, and must find the loop.
        await channel._reported()


async def until(true: Callable[[], bool]) -> None:
    """Wait for something to be true."""
    with anyio.fail_after(10):
        while not true():
            await anyio.sleep(0.01)


async def test_nothing_waits_behind_a_thousand_writes(member: Member, store: EtcdStore) -> None:
    """With as many writes under way as go, over a handful of connections, all else is answered at once."""
    written: list[WriteResult] = []

    async def write() -> None:
        written.append(await store.call(Put(b"/k", b""), member=store.members[0], timeout=20))

    async with anyio.create_task_group() as tasks:
        for _ in range(1000):
            tasks.start_soon(write)
        await until(lambda: len(member.writing) == 5 and sum(member.writing.values()) == 5 * 48)
        with anyio.fail_after(5):
            await store.call(Range(b"/k"), member=store.members[0], timeout=4)
            async with (
                store.keep_alive(member=store.members[0]) as renewing,
                store.watch(b"/k", None, start_revision=0, member=store.members[0], timeout=4),
            ):
                assert (await renewing.renew(1)).ttl == 5
        assert len(member.writing) == 5
        assert not written
        member.go_on.set()
    assert len(written) == sum(member.writing.values()) == 1000


async def test_streams_without_a_caller_count(member: Member, store: EtcdStore) -> None:
    """Long streams, and reads that must not be cancelled though their callers have gone, leave less room for
    calls: no more than eighty streams are open when the last call begins."""
    member.reads = member.go_on
    name = store.members[0]
    own = store._channels[name]._rooms[0]
    batch = ReadBatch((b"/k",))
    async with anyio.create_task_group() as tasks, store.keep_alive(member=name) as renewing:
        await renewing.renew(1)
        async with anyio.create_task_group() as leaving:
            for _ in range(30):
                leaving.start_soon(lambda: store.call(batch, member=name, timeout=20))
            await until(lambda: member.reading == 30)
            leaving.cancel_scope.cancel()
        assert (own.first.left_alone, own.first.streams) == (30, 31)
        for _ in range(64):
            tasks.start_soon(lambda: store.call(batch, member=name, timeout=20))
        await until(lambda: sum(own._calls.values()) == 64)
        assert own._calls[own.first] == 80 - 31
        member.go_on.set()
    await until(lambda: not own.first.left_alone)


async def test_idle_connections_are_given_up(
    member: Member, store: EtcdStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a burst has needed besides the first connection ends soon after it; another burst needs it again."""
    monkeypatch.setattr(room, "_IDLE", 0.2)
    own = store._channels[store.members[0]]._rooms[0]
    for _ in range(2):
        async with anyio.create_task_group() as tasks:
            for _ in range(100):
                tasks.start_soon(lambda: store.call(Put(b"/k", b""), member=store.members[0], timeout=20))
            await until(lambda: len(own._others) >= 1 and sum(own._calls.values()) == 100)
            member.go_on.set()
        member.go_on.clear()
        await until(lambda: not own._others)
        assert list(own._calls.values()) == [0]


async def test_who_waits_for_room_gives_up(
    member: Member, store: EtcdStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call that finds no room in time, or whose connections are given up meanwhile, was provably not sent."""
    monkeypatch.setattr(room, "_MOST_OTHERS", 0)
    faults: list[tuple[FaultKind, bool]] = []

    async def refused(timeout: float) -> None:
        with pytest.raises(StoreFault) as caught:
            await store.call(Put(b"/k", b""), member=store.members[0], timeout=timeout)
        faults.append((caught.value.fault.kind, caught.value.fault.applied))

    async with anyio.create_task_group() as tasks:
        for _ in range(48):
            tasks.start_soon(lambda: store.call(Put(b"/k", b""), member=store.members[0], timeout=20))
        await until(lambda: sum(member.writing.values()) == 48)
        await refused(0.1)
        with anyio.move_on_after(0.1):
            await refused(20)
        tasks.start_soon(refused, 20)
        await anyio.wait_all_tasks_blocked()
        store.renew(store.members[0])
        await until(lambda: len(faults) == 2)
        member.go_on.set()
    assert faults == [(FaultKind.DEADLINE, False), (FaultKind.CONNECTION_LOST, False)]
    assert sum(member.writing.values()) == 48


async def test_added_connections_that_break(server: EtcdServer) -> None:
    """The connections that a burst has needed break while more calls wait for room: each call ends, what is told
    of each is true of etcd, and no place stays taken."""
    async with slow_link(server.endpoint, rtt=0.2) as link:
        store = EtcdStore([link.endpoint])
        try:
            member = store.members[0]
            own = store._channels[member]._rooms[1]
            told: dict[bytes, bool | None] = {}

            async def write(key: bytes) -> None:
                try:
                    await store.call(Put(key, b""), member=member, timeout=10)
                    told[key] = True
                except StoreFault as exc:
                    told[key] = None if exc.fault.applied else False

            await write(b"/room/first")
            before = link.connections
            with anyio.fail_after(20):
                async with anyio.create_task_group() as tasks:
                    for number in range(600):
                        tasks.start_soon(write, b"/room/%d" % number)
                    await until(lambda: sum(other.is_ready() for other in own._others) >= 2)
                    await until(lambda: sum(own._calls.values()) > 2 * 48 and any(own._waiting))
                    assert link.break_all_but(before) >= 2
            found = await store.call(Range(b"/room/", b"/room0"), member=member, timeout=5)
            assert len(told) == 601
            assert {key for key, there in told.items() if there} <= set(found.entries)
            assert not {key for key, there in told.items() if there is False} & set(found.entries)
            assert sum(there is True for there in told.values()) > 300
            assert not any(own._waiting)
            assert not any(own._calls.values())
        finally:
            await store.aclose()
