"""A call: one stream of HTTP/2, from the request until its status. The shape is that of grpc.aio's calls."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator
from typing import Any, Protocol

from tideover.etcd.http2.envelope import PREFIX, Unwrapper
from tideover.etcd.http2.frames import ErrorCode
from tideover.etcd.http2.options import URGENT
from tideover.etcd.http2.reply_headers import ReplyHeaders
from tideover.etcd.http2.status import Failure, StatusCode, is_good, is_interim, reset_by, said_by
from tideover.etcd.http2.windows import STREAM_WINDOW
from tideover.etcd.rpc_errors import UNREADABLE, RpcError

_CANCELLED = "Locally cancelled by application!"
_NO_MESSAGE = "Stream removed (no message in the reply)"
_TOO_MANY = "Stream removed (more than one message in the reply)"


class Carrier(Protocol):
    """What a call is with: its connection, or a queue as long as there is none."""

    def leave(self, call: Call, reset: ErrorCode | None) -> None:
        """Forget a call that has ended; the server is told of a reset."""
        ...

    def push(self, call: Call) -> None:
        """Send what a call has to send."""
        ...

    def credit(self, call: Call, increment: int) -> None:
        """Let the server send so much more of a call."""
        ...


class Call(ABC):
    """One call; after `timeout` seconds it ends by itself.

    Attributes:
        carrier: What it is with; None once it has ended.
        stream: The number of its stream; 0 before it has one.
        window: How much of its data the server takes now.
        closed: Whether nothing follows what is unsent.
        answering: Whether the server has begun to answer.
        largest: How many bytes a reply may have, if it does not come in one frame.
        status: How it has ended; None before.
    """

    # Of the class, because most calls never have another value: thousands are made in a second.
    carrier: Carrier | None = None
    stream = 0
    window = 0
    unsent: bytes | memoryview = b""
    closed = False
    answering = False
    largest = URGENT.max_message
    status: StatusCode | None = None
    _details = ""
    _timer: asyncio.TimerHandle | None = None
    _unwrapper: Unwrapper | None = None
    _waiters: list[asyncio.Future[None]] | None = None
    _callbacks: list[Callable[[Any], object]] | None = None

    def __init__(self, block: bytes, deserialize: Callable[[bytes], Any], timeout: float | None) -> None:
        self.block = block
        self._deserialize = deserialize
        self._loop = asyncio.get_running_loop()
        if timeout is not None:
            self._timer = self._loop.call_later(timeout, self._expire)

    # For the one who has made it ---------------------------------------------------------------------------------

    async def code(self) -> StatusCode:
        """Return the status, once there is one; cancelling this leaves the call alone."""
        while self.status is None:
            await self._news()
        return self.status

    async def details(self) -> str:
        """Return what was said of the status, once there is one."""
        await self.code()
        return self._details

    def done(self) -> bool:
        """Whether it has ended."""
        return self.status is not None

    def cancel(self) -> bool:
        """End it, and tell the server; return whether it was still under way."""
        if self.status is not None:
            return False
        self.end(StatusCode.CANCELLED, _CANCELLED, reset=ErrorCode.CANCEL)
        return True

    def add_done_callback(self, callback: Callable[[Any], object]) -> None:
        """Call a function with this call once it has ended: at once if it has."""
        if self.status is not None:
            callback(self)
        elif self._callbacks is None:
            self._callbacks = [callback]
        else:
            self._callbacks.append(callback)

    def _news(self) -> asyncio.Future[None]:
        """Return what is done when something has changed."""
        waiter = self._loop.create_future()
        if self._waiters is None:
            self._waiters = [waiter]
        else:
            self._waiters.append(waiter)
        return waiter

    def _tell(self) -> None:
        waiters, self._waiters = self._waiters, None
        for waiter in waiters or ():
            if not waiter.done():
                waiter.set_result(None)

    # For its connection ------------------------------------------------------------------------------------------

    def take_headers(self, headers: ReplyHeaders, ended: bool) -> None:
        """Apply headers or trailers."""
        if ended:
            self._take_status(*said_by(headers))
        elif self.answering or not is_good(headers):
            if not is_interim(headers):
                self.end(*said_by(headers), reset=ErrorCode.CANCEL)
        else:
            self.answering = True

    def take_data(self, data: bytes, size: int, ended: bool) -> int:
        """Apply data without padding, `size` with padding; return how much more the server may send of this call.

        Raises `Broken` if the server was not allowed to send so much.
        """
        if ended:
            self.end(StatusCode.UNKNOWN, "Stream removed (Data frame with END_STREAM flag received)")
            return 0
        try:
            return self._take(data, size)
        except Failure as exc:
            self.end(exc.code, exc.details, reset=ErrorCode.CANCEL)
            return 0

    def take_reset(self, code: int) -> None:
        """Apply RST_STREAM."""
        self.end(*reset_by(code))

    def sent(self) -> None:
        """Apply that all was sent that there was to send."""
        self._tell()

    def begin_again(self) -> bool:
        """Become a call that was not sent yet, if that can be."""
        return not self.stream

    def end(self, code: StatusCode, details: str, *, reset: ErrorCode | None = None) -> None:
        """End it; the first end counts. The server is told of a reset; without one it knows."""
        if self.status is not None:
            return
        self.status, self._details = code, details
        if self._timer is not None:
            self._timer.cancel()
        carrier = self.carrier
        if carrier is not None:
            self.carrier = None
            carrier.leave(self, reset)
        if self._waiters is not None:
            self._tell()
        if self._callbacks is not None:
            callbacks, self._callbacks = self._callbacks, None
            for callback in callbacks:
                callback(self)

    def _expire(self) -> None:
        self.end(StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded", reset=ErrorCode.CANCEL)

    def _unwrap(self, data: bytes) -> list[bytes]:
        if self._unwrapper is None:
            self._unwrapper = Unwrapper(self.largest)
        return self._unwrapper.feed(data)

    def _take_status(self, code: StatusCode, details: str) -> None:
        """Apply the status that the server has sent."""
        self.end(code, details)

    @abstractmethod
    def _take(self, data: bytes, size: int) -> int:
        """Apply data; return how much more the server may send."""


class UnaryCall(Call):
    """A call with one request, already wrapped, and one reply; awaiting it gives the reply."""

    closed = True
    _reply: Any = None
    # What has come since the server was told to go on.
    _arrived = 0
    _retried = False

    def __init__(
        self, block: bytes, message: bytes, deserialize: Callable[[bytes], Any], timeout: float | None
    ) -> None:
        super().__init__(block, deserialize, timeout)
        self.unsent = self._message = message

    def __await__(self) -> Generator[Any, None, Any]:
        """Wait for the reply; cancelling this cancels the call. Raises `RpcError` unless the status is OK."""
        try:
            while self.status is None:
                yield from self._news()
        except asyncio.CancelledError:
            self.cancel()
            raise
        if self.status is not StatusCode.OK:
            raise RpcError(self.status, self._details)
        return self._reply

    def begin_again(self) -> bool:
        """Become a call that was not sent yet: once, if it was sent."""
        if self.stream:
            if self._retried:
                return False
            self.unsent, self.stream, self._retried = self._message, 0, True
        return True

    def _take(self, data: bytes, size: int) -> int:
        # Nearly always a reply is one frame.
        if self._unwrapper is None and size >= PREFIX and data[:1] == b"\0" and _size(data) == len(data) - PREFIX:
            self._found(data[PREFIX:])
        else:
            for message in self._unwrap(data):
                self._found(message)
        # A reply is wanted whole, so that the server may send on as soon as it is told.
        self._arrived += size
        if self._arrived * 2 < STREAM_WINDOW:
            return 0
        increment, self._arrived = self._arrived, 0
        return increment

    def _found(self, message: bytes) -> None:
        if self._reply is not None:
            raise Failure(StatusCode.INTERNAL, _TOO_MANY)
        try:
            self._reply = self._deserialize(message)
        except Exception as exc:
            raise Failure(StatusCode.INTERNAL, UNREADABLE) from exc

    def _take_status(self, code: StatusCode, details: str) -> None:
        if code is StatusCode.OK and self._reply is None:
            code, details = StatusCode.INTERNAL, _NO_MESSAGE
        self.end(code, details)


def _size(data: bytes) -> int:
    return int.from_bytes(data[1:PREFIX], "big")
