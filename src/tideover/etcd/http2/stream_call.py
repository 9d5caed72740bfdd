"""A call with many requests, many replies, or both."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from tideover.etcd.http2.call import Call
from tideover.etcd.http2.envelope import wrapped
from tideover.etcd.http2.frames import ErrorCode
from tideover.etcd.http2.status import StatusCode
from tideover.etcd.http2.windows import STREAM_WINDOW, ReceiveWindow
from tideover.etcd.rpc_errors import UNREADABLE, RpcError, UsageError

# Bytes of messages that wait to be read before the server is let wait.
_MOST_HELD = 1 << 20


class _Eof:
    """What is read after the last message; false, as grpc.aio's is."""

    def __bool__(self) -> bool:
        return False


EOF = _Eof()


class StreamCall(Call):
    """A call whose messages are read, and perhaps written, one by one.

    Cancelling a read or a write leaves the call alone. `only` is the one request, wrapped; None if requests are
    written.
    """

    def __init__(
        self,
        block: bytes,
        serialize: Callable[[Any], bytes],
        deserialize: Callable[[bytes], Any],
        timeout: float | None,
        only: bytes | None = None,
    ) -> None:
        super().__init__(block, deserialize, timeout)
        self._serialize = serialize
        self._incoming = ReceiveWindow(STREAM_WINDOW)
        self._unread: deque[bytes] = deque()
        # Bytes of messages that were not read yet, and bytes that count as read once there are fewer of them.
        self._held = self._owed = 0
        if only is not None:
            self.unsent, self.closed = only, True

    async def write(self, request: Any) -> None:
        """Send a request; see `write_all`."""
        await self.write_all((request,))

    async def write_all(self, requests: Iterable[Any]) -> None:
        """Send requests at once; return when they are on their way, which may wait for the server to read others.

        Raises `RpcError` if the call has ended with an error, `UsageError` if it has ended well, or takes no more
        requests.
        """
        if self.status is None and self.closed:
            raise UsageError("no more requests are taken")
        self.unsent = b"".join((self.unsent, *(wrapped(self._serialize(request)) for request in requests)))
        self._push()
        while self.unsent and self.status is None:
            await self._news()
        if self.status is not None:
            self._raise_end()
            raise UsageError("RPC already finished.")

    async def done_writing(self) -> None:
        """Say that no more requests follow."""
        if not self.closed:
            self.closed = True
            self._push()

    async def read(self) -> Any:
        """Return the next reply; `EOF` after the last one of a call that has ended well, else raise `RpcError`."""
        while not self._unread:
            if self.status is not None:
                self._raise_end()
                return EOF
            await self._news()
        message = self._unread.popleft()
        self._held -= len(message)
        if self._owed and self._held < _MOST_HELD:
            owed, self._owed = self._owed, 0
            increment = self._incoming.give_back(owed)
            if increment and self.carrier is not None:
                self.carrier.credit(self, increment)
        try:
            return self._deserialize(message)
        except Exception as exc:
            self.end(StatusCode.INTERNAL, UNREADABLE, reset=ErrorCode.CANCEL)
            raise RpcError(StatusCode.INTERNAL, UNREADABLE) from exc

    def _push(self) -> None:
        if self.carrier is not None:
            self.carrier.push(self)

    def _raise_end(self) -> None:
        if self.status is not StatusCode.OK:
            raise RpcError(self.status, self._details)

    def _take(self, data: bytes, size: int) -> int:
        self._incoming.take(size)
        messages = self._unwrap(data)
        if messages:
            self._held += sum(map(len, messages))
            self._unread.extend(messages)
            self._tell()
        if self._held < _MOST_HELD:
            return self._incoming.give_back(size)
        # What is read slowly is sent slowly; a message that is not complete is read as fast as it comes.
        self._owed += size
        return 0
