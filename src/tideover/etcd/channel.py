"""The connections to one member: one for urgent calls and one for large ones, both replaced on demand."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from tideover import telemetry
from tideover.etcd.connection import Connection
from tideover.etcd.http_proxy import proxy_for
from tideover.etcd.messages import rpc
from tideover.etcd.room import Room
from tideover.etcd.rpc_errors import UNREADABLE, rpc_errors, usage_errors
from tideover.etcd.tls import TlsFiles
from tideover.etcd.transports import chosen, named
from tideover.policies import Transport
from tideover.store.endpoints import Address
from tideover.store.faults import UNANSWERED, StoreFault, classify
from tideover.store.operations import Delete, Op, Put, Range, ReadBatch
from tideover.store.transactions import Txn

# Seconds that calls in flight on a channel that is being given up may still take.
_CLOSE_GRACE = 2.0
# Seconds between two looks at the state of a connection, at the most.
_STATE_POLL = 0.4
# Seconds for grpc's thread to report what closing has cancelled; and the longest where this machine is so busy
# that a pause takes half as long again.
_DRAIN = 0.02
_MOST_DRAIN = 0.5

# Seconds at closing for reads that must not be cancelled, as long as none of them ends, and for all of them.
_LEFT_ALONE_GRACE = 1.0
_LEFT_ALONE_LONGEST = 3.0
# The most abandoned reads before others are not sent: each makes a close take longer.
_MOST_LEFT_ALONE = 32


_WITHOUT_TLS = "if TLS is spoken there, write the endpoint with https://"

T = TypeVar("T")
# Waits so many seconds at the most.
Pause = Callable[[float], Awaitable[object]]


class MemberChannel:
    """The connections to one member, replaced on demand, over `transport`; see `transports.chosen`.

    Attributes:
        way: The proxy that the member is reached through, in words; empty without one.
        urgent: The connection for small calls that must not wait: probes, renewals, proofs, logins.
        bulk: The connection for reads, writes and watches of any size; connects when first needed.
    """

    def __init__(
        self, address: Address, files: TlsFiles | None = None, transport: Transport | None = None
    ) -> None:
        self.endpoint = address.endpoint
        self.transport = chosen(transport, self.endpoint)
        self._server_name = address.server_name
        self._files = files
        self._closed = False
        self._closing: dict[asyncio.Task[None], Connection] = {}
        # Reads that must end by themselves; grpc cancels a call without references.
        self._unended: set[Any] = set()
        self._open()
        if self.way and named(transport) is None:
            telemetry.transport_proxied(self.endpoint, self.way)

    def __repr__(self) -> str:
        """Name the endpoint and the state of the better of its connections."""
        states = [connection.channel.get_state() for connection in (self.urgent, self.bulk)]
        state = next((s for s in states if s.name == "READY"), states[0])
        return f"<MemberChannel {self.endpoint} {state.name.lower()}>"

    def _open(self) -> None:
        # No other transport goes through a proxy of the environment's.
        self.way = proxy_for(self.endpoint) if self.transport == "grpc" else ""
        connect = partial(Connection, self.endpoint, self._files, self._server_name, self.transport)
        bulk = partial(connect, bulk=True)
        self._rooms = Room(connect, close=self._close_one), Room(bulk, close=self._close_one)
        self.urgent, self.bulk = (room.first for room in self._rooms)
        self.auth = rpc.AuthStub(self.urgent.channel)
        self.cluster = rpc.ClusterStub(self.urgent.channel)
        self.maintenance = rpc.MaintenanceStub(self.urgent.channel)
        self.kv, self.lease, self.watch = self.urgent.kv, self.urgent.lease, self.urgent.watch
        # Those of them, on these connections, whose callers have gone.
        self._left_alone = _LeftAlone()

    def renew(self) -> None:
        """Replace the connections; calls in flight on the old ones may finish, streams end within 2 s."""
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
        """Return the room for an operation: only reads and writes of keys may be large."""
        large = not urgent and isinstance(op, Range | ReadBatch | Txn | Put | Delete)
        return self._rooms[large]

    @contextmanager
    def named(self) -> Iterator[None]:
        """Add to a fault on the way to the member what lies there, or that TLS is missing."""
        try:
            yield
        except StoreFault as exc:
            way = self.way or (_WITHOUT_TLS if self._files is None and exc.fault.hung_up else "")
            if way and exc.fault.on_the_way:
                raise StoreFault(replace(exc.fault, way=way)) from exc
            raise

    async def wait_disconnected(self, pause: Pause) -> None:
        """Return when an established connection breaks; keep connecting the urgent one.

        A connection that `renew` replaces has not broken: its caller knows why.
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
        """Whether the member was removed and all its connections are closed."""
        return self._closed and not self._closing

    def retire(self) -> None:
        """Close for good; calls in flight may finish, streams end within 2 s."""
        self._closed = True
        self._give_up()

    async def answer_or_leave(self, over: Connection, ask: Callable[[], Any], timeout: float) -> Any:
        """Return the reply of a unary call that, once sent, must not be cancelled; see `answer`.

        A caller that gives up abandons the call, which ends by itself, at the latest with its connection. While
        too many calls are abandoned, nothing more is sent. Raises `StoreFault` also if the status comes too late.
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
                    left_alone.add(call, over)
                    raise
            if code.name != "OK":
                raise StoreFault(classify(code.name, await call.details() or ""))
            return readable(await call)
        except TimeoutError:
            raise StoreFault(UNANSWERED) from None
        finally:
            # An exception that is kept would keep grpc alive: see `etcd/forks`.
            call = None

    async def aclose(self) -> None:
        """Close all connections; calls that must not be cancelled have 1 to 3 s to end."""
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
        if self.transport == "grpc":
            await _reported()

    async def _drained(self) -> None:
        """Wait for the calls that must not be cancelled, as long as their number falls."""
        loop = asyncio.get_running_loop()
        began = moved = loop.time()
        fewest = len(self._unended)
        while self._unended and loop.time() < min(moved + _LEFT_ALONE_GRACE, began + _LEFT_ALONE_LONGEST):
            await asyncio.sleep(_DRAIN)
            if len(self._unended) < fewest:
                fewest, moved = len(self._unended), loop.time()


async def _reported() -> None:
    """Wait until grpc's own thread has probably reported what was cancelled, to a loop that must be running."""
    loop = asyncio.get_running_loop()
    end, on_time = loop.time() + _MOST_DRAIN, 0
    while on_time < 2 and loop.time() < end:
        began = loop.time()
        await asyncio.sleep(_DRAIN)
        on_time = on_time + 1 if loop.time() - began < 1.5 * _DRAIN else 0


class _LeftAlone:
    """Abandoned calls; `room` is set while there may be more of them."""

    def __init__(self) -> None:
        self._calls: dict[Any, Connection] = {}
        self.room = asyncio.Event()
        self.room.set()

    def add(self, call: Any, over: Connection) -> None:
        """Count a call until it has ended."""
        self._calls[call] = over
        over.left_alone += 1
        if len(self._calls) >= _MOST_LEFT_ALONE:
            self.room.clear()
        # Called at once if the call has ended meanwhile.
        call.add_done_callback(self._remove)

    def _remove(self, call: Any) -> None:
        self._calls.pop(call).left_alone -= 1
        if len(self._calls) < _MOST_LEFT_ALONE:
            self.room.set()


async def answer(call: Any) -> Any:
    """Return the reply of a unary call; raise `StoreFault` if its status is an error.

    The status is awaited rather than the call: when a channel is closed under a call, awaiting the call raises
    `CancelledError` although this task was not cancelled, and a real cancellation at the same moment cannot be
    told apart. The status is just a status.
    """
    try:
        code = await call.code()
        if code.name != "OK":
            raise StoreFault(classify(code.name, await call.details() or ""))
        return readable(await call)
    except asyncio.CancelledError:
        call.cancel()
        raise
    finally:
        # An exception that is kept would keep grpc alive: see `etcd/forks`.
        del call


def readable(reply: Any) -> Any:
    """Return a reply or a message of a stream; raise `StoreFault` for None, which grpc.aio makes of bad bytes."""
    if reply is None:
        raise StoreFault(classify("INTERNAL", UNREADABLE))
    return reply


async def apart(awaitable: Awaitable[T]) -> T:
    """Return the result of an operation on a stream, in a task of its own; raise `StoreFault` if the stream ended.

    grpc raises `CancelledError` in the task that uses a stream of a closed channel. In a task of its own that
    cannot be taken for a cancellation of the caller, nor the other way round.
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
    """Turn the exceptions of a transport into `StoreFault`."""
    try:
        yield
    except rpc_errors() as exc:
        raise StoreFault(classify(exc.code().name, exc.details() or "")) from exc
    except usage_errors() as exc:
        raise StoreFault(classify("UNAVAILABLE", f"stream removed ({exc})")) from exc
