"""The connections to one member: one for what is urgent, one for what may be large, both replaced on demand."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import grpc

from tideover.etcd.connection import BULK, Connection
from tideover.etcd.http_proxy import proxy_for
from tideover.etcd.messages import rpc
from tideover.etcd.room import Room
from tideover.etcd.tls import TlsFiles
from tideover.store.endpoints import Address
from tideover.store.faults import UNANSWERED, StoreFault, classify
from tideover.store.operations import Delete, Op, Put, Range, ReadBatch
from tideover.store.transactions import Txn

# Seconds that calls in flight on a channel that is being given up may still take.
_CLOSE_GRACE = 2.0
# Seconds between two looks at the state of a connection, at the most.
_STATE_POLL = 0.4
# Seconds for grpc to report what closing has cancelled.
_DRAIN = 0.02

# Seconds at closing for reads that must not be cancelled, as long as none of them ends, and for all of them.
_LEFT_ALONE_GRACE = 1.0
_LEFT_ALONE_LONGEST = 3.0
# How many of them nobody may wait for any more before others are not even sent: they would make a close take long.
_MOST_LEFT_ALONE = 32


_WITHOUT_TLS = "if TLS is spoken there, write the endpoint with https://"

T = TypeVar("T")
# Waits so many seconds at the most.
Pause = Callable[[float], Awaitable[object]]


class MemberChannel:
    """The connections to one member, replaced on demand.

    Args:
        address: Where the member is.
        files: The files of TLS; None connects without it.

    Attributes:
        endpoint: The member's `host:port`.
        way: The proxy that it is reached through, in words; empty if there is none.
        urgent: The connection for what is small and must not wait: probes, renewals, proofs, logins.
        bulk: The connection for reads, writes and watches of any size; made when it is first needed.
        auth: The stub for logging in.
        cluster: The stub for questions about the cluster.
        kv: The urgent connection's stub for reads and writes.
        lease: Its stub for leases.
        watch: Its stub for watches.
        maintenance: The stub for questions about the member itself.
    """

    def __init__(self, address: Address, files: TlsFiles | None = None) -> None:
        self.endpoint = address.endpoint
        self._server_name = address.server_name
        self._files = files
        self._closed = False
        self._closing: dict[asyncio.Task[None], Connection] = {}
        # Reads that must end by themselves; grpc cancels one nobody refers to.
        self._unended: set[Any] = set()
        self._open()

    def __repr__(self) -> str:
        """Name the endpoint and the state of the better of its connections."""
        states = [connection.channel.get_state() for connection in (self.urgent, self.bulk)]
        state = next((s for s in states if s is grpc.ChannelConnectivity.READY), states[0])
        return f"<MemberChannel {self.endpoint} {state.name.lower()}>"

    def _open(self) -> None:
        self.way = proxy_for(self.endpoint)
        connect = partial(Connection, self.endpoint, self._files, self._server_name)
        self._rooms = Room(connect, close=self._close_one), Room(partial(connect, BULK), close=self._close_one)
        self.urgent, self.bulk = (room.first for room in self._rooms)
        self.auth = rpc.AuthStub(self.urgent.channel)
        self.cluster = rpc.ClusterStub(self.urgent.channel)
        self.maintenance = rpc.MaintenanceStub(self.urgent.channel)
        self.kv, self.lease, self.watch = self.urgent.kv, self.urgent.lease, self.urgent.watch
        # Those of them, on these connections, that nobody waits for any more.
        self._left_alone = _LeftAlone()

    def renew(self) -> None:
        """Start over with new connections; calls in flight on the old ones may finish, streams end within 2 s."""
        self._give_up()
        self._open()

    def _give_up(self) -> None:
        for room in self._rooms:
            for old in room.give_up():
                self._close_one(old)

    def _close_one(self, old: Connection) -> None:
        task = asyncio.get_running_loop().create_task(old.close(_CLOSE_GRACE))
        self._closing[task] = old
        task.add_done_callback(lambda done: self._closing.pop(done).let_go())

    def room(self, op: Op[Any], *, urgent: bool) -> Room:
        """Return the room that an operation needs: only what reads and writes keys may be large."""
        large = not urgent and isinstance(op, Range | ReadBatch | Txn | Put | Delete)
        return self._rooms[large]

    @contextmanager
    def named(self) -> Iterator[None]:
        """Add to what goes wrong on the way to the member what lies on it, or that no TLS is spoken."""
        try:
            yield
        except StoreFault as exc:
            way = self.way or (_WITHOUT_TLS if self._files is None and exc.fault.hung_up else "")
            if way and exc.fault.on_the_way:
                raise StoreFault(replace(exc.fault, way=way)) from exc
            raise

    async def wait_disconnected(self, pause: Pause) -> None:
        """Return when a connection that is established breaks; connect for what is urgent if it is not.

        One that is renewed has not broken: whoever gave it up knows why.

        Args:
            pause: How to wait between two looks.
        """
        while not self._closed:
            # Polled: a pending `wait_for_state_change` cannot be taken back, and when its event comes after the
            # event loop was closed, grpc raises in whichever loop the process runs next.
            broken = [self.urgent.has_broken(try_to_connect=True), self.bulk.has_broken()]
            if any(broken):
                return
            await pause(_STATE_POLL)

    @property
    def retired(self) -> bool:
        """Whether it was given up for good, and nothing is left of it."""
        return self._closed and not self._closing

    def retire(self) -> None:
        """Give up for good; calls in flight may finish, streams end within 2 s."""
        self._closed = True
        self._give_up()

    async def answer_or_leave(self, ask: Callable[[], Any], timeout: float) -> Any:
        """Return the reply of a unary call that, once sent, must not be cancelled; see `answer`.

        Whoever gives up leaves it alone: it ends by itself, at the latest with its connection. While too many
        have been left alone, nothing more is sent.

        Args:
            ask: Makes the call, with a stub as it is then and without a timeout of its own.
            timeout: Seconds to wait for it.

        Raises:
            StoreFault: The status is an error, or has not come in time.
        """
        call: Any = None
        try:
            async with asyncio.timeout(timeout):
                await self._left_alone.room.wait()
                call, left_alone = ask(), self._left_alone
                self._unended.add(call)
                call.add_done_callback(self._unended.discard)
                try:
                    code = await call.code()
                except asyncio.CancelledError:
                    left_alone.add(call)
                    raise
            if code is not grpc.StatusCode.OK:
                raise StoreFault(classify(code.name, await call.details() or ""))
            return await call
        except TimeoutError:
            raise StoreFault(UNANSWERED) from None
        finally:
            # An exception that is kept would keep grpc alive: see `etcd/forks`.
            call = None

    async def aclose(self) -> None:
        """Close the connections and those still being given up; what must not be cancelled has 1 to 3 s to end."""
        self._closed = True
        connections = [connection for room in self._rooms for connection in room.give_up()]
        try:
            await self._close(connections)
        finally:
            for connection in connections:
                connection.let_go()
            for stub in (self.auth, self.cluster, self.maintenance):
                stub.let_go()

    async def _close(self, connections: Iterable[Connection]) -> None:
        await self._drained()
        closing = dict(self._closing)
        for connection in connections:
            await connection.close(0.0)
        for task, connection in closing.items():
            await connection.channel.close()
            task.cancel()
        if closing:
            await asyncio.wait(closing)
        # What was cancelled just now is still being reported by grpc's own thread: to a loop that must be there.
        await asyncio.sleep(_DRAIN)

    async def _drained(self) -> None:
        """Wait until nothing is under way that must not be cancelled, as long as it gets less."""
        loop = asyncio.get_running_loop()
        began = moved = loop.time()
        fewest = len(self._unended)
        while self._unended and loop.time() < min(moved + _LEFT_ALONE_GRACE, began + _LEFT_ALONE_LONGEST):
            await asyncio.sleep(_DRAIN)
            if len(self._unended) < fewest:
                fewest, moved = len(self._unended), loop.time()


class _LeftAlone:
    """Calls that nobody waits for any more.

    Attributes:
        room: Set while there may be more of them.
    """

    def __init__(self) -> None:
        self._calls: set[Any] = set()
        self.room = asyncio.Event()
        self.room.set()

    def add(self, call: Any) -> None:
        """Take one in, until it has ended."""
        self._calls.add(call)
        if len(self._calls) >= _MOST_LEFT_ALONE:
            self.room.clear()
        # At once, if it has ended meanwhile.
        call.add_done_callback(self._remove)

    def _remove(self, call: Any) -> None:
        self._calls.discard(call)
        if len(self._calls) < _MOST_LEFT_ALONE:
            self.room.set()


async def answer(call: Any) -> Any:
    """Return the reply of a unary call.

    The status is awaited rather than the call: when a channel is closed under a call, awaiting the call raises
    `CancelledError` although nobody cancelled this task, and the two cannot be told apart if somebody did at the
    same moment. The status is just a status.

    Args:
        call: What a stub returned.

    Raises:
        StoreFault: The status is an error.
    """
    try:
        code = await call.code()
        if code is not grpc.StatusCode.OK:
            raise StoreFault(classify(code.name, await call.details() or ""))
        return await call
    except asyncio.CancelledError:
        call.cancel()
        raise
    finally:
        # An exception that is kept would keep grpc alive: see `etcd/forks`.
        del call


async def apart(awaitable: Awaitable[T]) -> T:
    """Return the result of an operation on a stream, run in a task of its own.

    grpc raises `CancelledError` in whoever uses a stream whose channel is closed. In a task of its own that cannot
    be taken for a cancellation of the caller, nor the other way round.

    Args:
        awaitable: A read or a write; cancelling it ends the stream.

    Raises:
        StoreFault: The stream has ended.
    """
    task = asyncio.ensure_future(awaitable)
    try:
        await asyncio.wait({task})
    except asyncio.CancelledError:
        task.add_done_callback(lambda done: done.cancelled() or done.exception())
        task.cancel()
        raise
    if task.cancelled():
        raise StoreFault(classify("CANCELLED", "the connection was closed under the stream"))
    with translated():
        return task.result()


@contextmanager
def translated() -> Iterator[None]:
    """Turn the exceptions of grpc into `StoreFault`."""
    try:
        yield
    except grpc.aio.AioRpcError as exc:
        raise StoreFault(classify(exc.code().name, exc.details() or "")) from exc
    except (grpc.aio.UsageError, asyncio.InvalidStateError) as exc:
        raise StoreFault(classify("UNAVAILABLE", f"stream removed ({exc})")) from exc
