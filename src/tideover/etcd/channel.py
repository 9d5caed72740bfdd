"""One grpc channel per member: its options, its life, and what grpc's exceptions mean."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar

import grpc

from tideover.etcd.http_proxy import proxy_for
from tideover.etcd.messages import rpc
from tideover.etcd.tls import TlsFiles
from tideover.store.endpoints import Address, host_of
from tideover.store.faults import StoreFault, classify

# Measured with grpcio 1.85: on a frozen peer only http2.ping_timeout_ms acts, keepalive_timeout_ms only on packet
# loss; a keepalive_time below 5 s earns a GOAWAY; without a pool of its own a new channel inherits the reconnect
# backoff of the old one.
_OPTIONS = (
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 3_000),
    ("grpc.http2.ping_timeout_ms", 3_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.keepalive_permit_without_calls", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 2_000),
    ("grpc.use_local_subchannel_pool", 1),
    # A connection is kept however long it idles: that it breaks is the first sign of trouble.
    ("grpc.client_idle_timeout_ms", 2**31 - 1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.enable_retries", 0),
    # A name that has moved is looked up again soon, not after 30 s.
    ("grpc.dns_min_time_between_resolutions_ms", 1_000),
)

# Seconds that calls in flight on a channel that is being given up may still take.
_CLOSE_GRACE = 2.0
# Seconds between two looks at the state of a connection.
_STATE_POLL = 0.4
# Seconds for grpc to report what closing has cancelled.
_DRAIN = 0.02

# Seconds at closing for reads that must not be cancelled, as long as none of them ends, and for all of them.
_LEFT_ALONE_GRACE = 1.0
_LEFT_ALONE_LONGEST = 3.0
# How many of them nobody may wait for any more before others are not even sent: they would make a close take long.
_MOST_LEFT_ALONE = 32


T = TypeVar("T")


class MemberChannel:
    """The connection to one member, replaced on demand.

    Args:
        address: Where the member is.
        files: The files of TLS; None connects without it.

    Attributes:
        endpoint: The member's `host:port`.
        auth: The stub for logging in.
        cluster: The stub for questions about the cluster.
        kv: The stub for reads and writes.
        lease: The stub for leases.
        watch: The stub for watches.
        maintenance: The stub for questions about the member itself.
    """

    def __init__(self, address: Address, files: TlsFiles | None = None) -> None:
        self.endpoint = address.endpoint
        self._server_name = address.server_name
        self._files = files
        self._closed = False
        self._closing: dict[asyncio.Task[None], grpc.aio.Channel] = {}
        # Reads that must end by themselves; grpc cancels one nobody refers to.
        self._unended: set[Any] = set()
        # The one that was seen to be established, until it is seen to have broken.
        self._established: grpc.aio.Channel | None = None
        # The connections are counted, as far as they can be told apart; the second is the one that was proven.
        self._connection = self._proven = 0
        self._open()

    def __repr__(self) -> str:
        """Name the endpoint and the state of the connection."""
        return f"<MemberChannel {self.endpoint} {self._channel.get_state().name.lower()}>"

    def _open(self) -> None:
        self._way = proxy_for(self.endpoint)
        self._channel = _open_channel(self.endpoint, self._files, self._server_name)
        self.auth = rpc.AuthStub(self._channel)
        self.cluster = rpc.ClusterStub(self._channel)
        self.kv = rpc.KVStub(self._channel)
        self.lease = rpc.LeaseStub(self._channel)
        self.watch = rpc.WatchStub(self._channel)
        self.maintenance = rpc.MaintenanceStub(self._channel)
        # Those of them, on this connection, that nobody waits for any more.
        self._left_alone = _LeftAlone()
        self._connection += 1

    def renew(self) -> None:
        """Start over with a new connection; calls in flight on the old one may finish, streams end within 2 s."""
        self._give_up()
        self._open()

    def _give_up(self) -> None:
        old = self._channel
        task = asyncio.get_running_loop().create_task(_close(old, (self.watch, self.lease), _CLOSE_GRACE))
        self._closing[task] = old
        task.add_done_callback(lambda done: self._closing.pop(done, None))

    @property
    def connection(self) -> int:
        """Which connection it is: another number once there may be another one.

        gRPC connects again only when a call is made or its state is looked at, and both begin here. Left is the
        moment between a look and the call that follows; see docs/decisions/0044.
        """
        self._look()
        return self._connection

    @property
    def proven(self) -> bool:
        """Whether at the other end of the connection, as it is now, the member is that was expected."""
        return self._look() and self._proven == self._connection

    def prove(self, connection: int) -> None:
        """Record that the expected member has answered over a connection; see `connection`."""
        self._proven = connection

    def heard(self, stub: object) -> None:
        """Record an answer to a call that was made while `kv` was `stub`: the connection is established.

        It may break before anybody looks at its state.
        """
        if stub is self.kv:
            self._established = self._channel

    def doubt(self) -> None:
        """Record that it was not the expected member that has answered."""
        self._connection += 1

    def _look(self, *, try_to_connect: bool = False) -> bool:
        """Whether the connection is established."""
        ready = self._channel.get_state(try_to_connect=try_to_connect) is grpc.ChannelConnectivity.READY
        if not ready:
            self._connection += 1
        return ready

    @contextmanager
    def named(self) -> Iterator[None]:
        """Add to what goes wrong on the way to the member what lies on it."""
        try:
            yield
        except StoreFault as exc:
            if self._way and exc.fault.on_the_way:
                raise StoreFault(replace(exc.fault, way=self._way)) from exc
            raise

    async def wait_disconnected(self) -> None:
        """Return when the connection, once it is established, breaks; connect if it is not.

        One that is renewed has not broken: whoever gave it up knows why.
        """
        while not self._closed:
            # Polled: a pending `wait_for_state_change` cannot be taken back, and when its event comes after the
            # event loop was closed, grpc raises in whichever loop the process runs next.
            channel = self._channel
            ready = self._look(try_to_connect=True)
            if channel is self._established and not ready:
                self._established = None
                return
            if ready:
                self._established = channel
            await asyncio.sleep(_STATE_POLL)

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
        except TimeoutError:
            raise StoreFault(classify("DEADLINE_EXCEEDED", "Deadline Exceeded")) from None
        if code is not grpc.StatusCode.OK:
            raise StoreFault(classify(code.name, await call.details() or ""))
        return await call

    async def aclose(self) -> None:
        """Close the connection and those still being given up; what must not be cancelled has 1 to 3 s to end."""
        self._closed = True
        await self._drained()
        closing = dict(self._closing)
        await _close(self._channel, (self.watch, self.lease), 0.0)
        for task, channel in closing.items():
            await channel.close()
            task.cancel()
        await asyncio.gather(*closing, return_exceptions=True)
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


def _open_channel(endpoint: str, files: TlsFiles | None, server_name: str | None) -> grpc.aio.Channel:
    # With its scheme, because a host may be called "unix" or "dns".
    target = f"dns:///{endpoint}"
    if files is None:
        return grpc.aio.insecure_channel(target, options=_OPTIONS)
    material, host = files.material, host_of(endpoint)
    # The final dot of a name is the resolver's: no certificate bears it, nor may the SNI (RFC 6066).
    name = (files.tls.server_name or server_name or host).removesuffix(".")
    credentials = grpc.ssl_channel_credentials(material.ca, material.key, material.cert)
    options = _OPTIONS if name == host else (*_OPTIONS, ("grpc.ssl_target_name_override", name))
    return grpc.aio.secure_channel(target, credentials, options=options)


async def _close(channel: grpc.aio.Channel, stubs: Iterable[Any], grace: float) -> None:
    """Close a connection and end its streams, at once if cancelled; calls in flight and streams have a grace."""
    loop = asyncio.get_running_loop()
    end = loop.time() + grace
    try:
        await channel.close(grace=grace)
        # grpc before 1.83 returns at once and leaves streams open: a watch would stay at a connection whose
        # certificate was replaced.
        if any(not stream.done() for stub in stubs for stream in stub.streams):
            await asyncio.sleep(end - loop.time())
    finally:
        for stub in stubs:
            for stream in list(stub.streams):
                stream.cancel()


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
    except asyncio.CancelledError:
        call.cancel()
        raise
    if code is not grpc.StatusCode.OK:
        raise StoreFault(classify(code.name, await call.details() or ""))
    return await call


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
