"""A channel: the calls to one server. The shape is that of grpc.aio's channels."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any

from tideover.etcd.http2.call import UnaryCall
from tideover.etcd.http2.connector import Connector
from tideover.etcd.http2.dialling import Target
from tideover.etcd.http2.envelope import wrapped
from tideover.etcd.http2.header_blocks import metadata_block, request_start, timeout_block
from tideover.etcd.http2.options import Options
from tideover.etcd.http2.stream_call import StreamCall
from tideover.etcd.rpc_errors import UsageError
from tideover.version import VERSION

Metadata = tuple[tuple[str, str], ...]
Serialize = Callable[[Any], bytes]
Deserialize = Callable[[bytes], Any]

_AGENT = f"tideover/{VERSION}"
# How many sets of metadata are remembered as header blocks: one token, now and then another.
_REMEMBERED = 16


class State(Enum):
    """How a channel is connected."""

    IDLE = "idle"
    CONNECTING = "connecting"
    READY = "ready"
    TRANSIENT_FAILURE = "transient failure"
    SHUTDOWN = "shutdown"


class Channel:
    """Calls to a server.

    It connects when a call needs that, or when its state is looked at with `try_to_connect`. A connection that has
    broken is replaced with the next call. A channel belongs to the event loop in which it is used.
    """

    def __init__(self, target: Target, *, authority: str, options: Options) -> None:
        self._connector = Connector(target, options)
        self._target = target
        self._authority = authority
        self._largest = options.max_message
        self._blocks: dict[Metadata, bytes] = {}

    def get_state(self, try_to_connect: bool = False) -> State:
        """Return how it is connected."""
        connector = self._connector
        if connector.closed:
            return State.SHUTDOWN
        if try_to_connect:
            connector.connect()
        if connector.ready:
            return State.READY
        if connector.connecting:
            return State.CONNECTING
        return State.IDLE if connector.failure is None else State.TRANSIENT_FAILURE

    def unary_unary(
        self, method: str, request_serializer: Serialize = bytes, response_deserializer: Deserialize = bytes
    ) -> Callable[..., UnaryCall]:
        """Return what makes calls with one request and one reply."""
        start = self._start(method)

        def call(request: Any, *, timeout: float | None = None, metadata: Metadata = ()) -> UnaryCall:
            message = wrapped(request_serializer(request))
            made = UnaryCall(self._block(start, timeout, metadata), message, response_deserializer, timeout)
            made.largest = self._largest
            self._connector.send(made)
            return made

        return call

    def unary_stream(
        self, method: str, request_serializer: Serialize = bytes, response_deserializer: Deserialize = bytes
    ) -> Callable[..., StreamCall]:
        """Return what makes calls with one request and many replies."""
        start = self._start(method)

        def call(request: Any, *, timeout: float | None = None, metadata: Metadata = ()) -> StreamCall:
            only = wrapped(request_serializer(request))
            block = self._block(start, timeout, metadata)
            made = StreamCall(block, request_serializer, response_deserializer, timeout, only)
            made.largest = self._largest
            self._connector.send(made)
            return made

        return call

    def stream_stream(
        self, method: str, request_serializer: Serialize = bytes, response_deserializer: Deserialize = bytes
    ) -> Callable[..., StreamCall]:
        """Return what makes calls whose requests are written, with many replies."""
        start = self._start(method)

        def call(*, timeout: float | None = None, metadata: Metadata = ()) -> StreamCall:
            block = self._block(start, timeout, metadata)
            made = StreamCall(block, request_serializer, response_deserializer, timeout)
            made.largest = self._largest
            self._connector.send(made)
            return made

        return call

    # Its one reply is read like the first of many.
    stream_unary = stream_stream

    async def close(self, grace: float | None = None) -> None:
        """Take no more calls, and end those under way in `grace` seconds; None ends them at once."""
        await self._connector.close(grace or 0.0)

    def _start(self, method: str) -> bytes:
        secure = self._target.context is not None
        return request_start(method, authority=self._authority, secure=secure, agent=_AGENT)

    def _block(self, start: bytes, timeout: float | None, metadata: Metadata) -> bytes:
        """Return the header block of a call of a method."""
        if self._connector.closed:
            raise UsageError("Channel is closed.")
        if timeout is not None:
            start += timeout_block(timeout)
        if not metadata:
            return start
        block = self._blocks.get(metadata)
        if block is None:
            if len(self._blocks) >= _REMEMBERED:
                self._blocks.clear()
            block = self._blocks[metadata] = metadata_block(metadata)
        return start + block
