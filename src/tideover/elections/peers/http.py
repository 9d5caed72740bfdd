"""Requests between candidates over HTTP/1.1, on h11, and everything bounded.

One `POST` per connection, of at most 16 KiB, within 2 s, at most 64 at a time; anything else gets an error, and
the connection is closed. Further connections replace the oldest one without a complete request, so a client that
opens many and sends nothing keeps no other out. No received bytes raise here.

HTTP passes through what passes between services, and `curl` can show it. Imported only with `failsafe=`.
"""

from __future__ import annotations

import errno
import logging
import re
import socket
from http import HTTPStatus

import anyio
import anyio.abc
import h11

from tideover import telemetry
from tideover.elections.peers.network import Handler, Silent, split_address
from tideover.foreign_bytes import Malformed, decimal

PATH = "/tideover/peers"
MAX_HEADER = 4096
MAX_BODY = 16_384
MAX_CONNECTIONS = 64
# Seconds for one request, from the first byte to the last.
EXCHANGE_TIMEOUT = 2.0
# Seconds before connections are accepted again, after none could be.
_AFTER_TROUBLE = 0.1

_HEAD_TOO_LARGE = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE

# A field that continues in the next line is obsolete (RFC 9112, 5.2); h11 joins the lines.
_FOLDED = re.compile(rb"\n[ \t]")


class HttpNetwork:
    """Requests over TCP."""

    def __init__(self) -> None:
        self._listener: anyio.abc.SocketListener | None = None
        self._waiting: dict[anyio.CancelScope, None] = {}
        self._busy = 0

    async def listen(self, host: str, port: int) -> int:
        """Bind; see `Network`."""
        # IPv4 only, unless the host is an IPv6 address: two families would mean two ports.
        listening = (
            await anyio.create_tcp_listener(local_host=host, local_port=port, family=socket.AF_INET6)
            if ":" in host
            else await anyio.create_tcp_listener(local_host=host, local_port=port, family=socket.AF_INET)
        )
        listener = listening.listeners[0]
        assert isinstance(listener, anyio.abc.SocketListener)
        self._listener = listener
        return int(listener.extra(anyio.abc.SocketAttribute.local_port))

    async def serve(self, handler: Handler) -> None:
        """Answer requests until cancelled."""
        listener = self._listener
        if listener is None:
            raise RuntimeError("not listening")
        async with anyio.create_task_group() as tasks:
            while True:
                try:
                    stream = await listener.accept()
                except OSError as exc:
                    # Out of file descriptors, or a connection that was gone before it was accepted.
                    if exc.errno in (errno.EBADF, errno.EINVAL):
                        raise
                    await anyio.sleep(_AFTER_TROUBLE)
                    continue
                if self._busy >= MAX_CONNECTIONS:
                    self._cancel_oldest()
                if self._busy >= 2 * MAX_CONNECTIONS:
                    # The cancelled ones have not ended yet.
                    await stream.aclose()
                    continue
                self._busy += 1
                tasks.start_soon(self._converse, stream, handler)

    async def post(self, address: str, body: bytes, *, timeout: float) -> bytes:
        """Send a request; see `Network`."""
        host, port = split_address(address)
        peer = _Peer(h11.CLIENT)
        request = h11.Request(method="POST", target=PATH, headers=[("Host", address), *_fields(body)])
        try:
            with anyio.fail_after(timeout):
                async with await anyio.connect_tcp(host, port) as stream:
                    await stream.send(peer.message(request, body))
                    response, answer = await _response(peer, stream)
        except ConnectionRefusedError:
            raise Silent("nobody listens there", gone=True) from None
        # The look-up raises UnicodeError for a host name that IDNA refuses.
        except (
            OSError,
            TimeoutError,
            UnicodeError,
            anyio.BrokenResourceError,
            anyio.EndOfStream,
            h11.RemoteProtocolError,
        ) as exc:
            refused = isinstance(exc.__cause__, ConnectionRefusedError)
            raise Silent(f"no answer ({type(exc).__name__})", gone=refused) from None
        if response.status_code != HTTPStatus.OK:
            gone = response.status_code == HTTPStatus.MISDIRECTED_REQUEST
            raise Silent(f"answered with {response.status_code}", gone=gone)
        return answer

    async def aclose(self) -> None:
        """Stop listening."""
        if self._listener is not None:
            listener, self._listener = self._listener, None
            await listener.aclose()

    def _cancel_oldest(self) -> None:
        if (scope := next(iter(self._waiting), None)) is not None:
            del self._waiting[scope]
            scope.cancel()

    async def _converse(self, stream: anyio.abc.SocketStream, handler: Handler) -> None:
        """Answer one request and close."""
        try:
            with anyio.move_on_after(EXCHANGE_TIMEOUT) as scope:
                self._waiting[scope] = None
                try:
                    answer = await _answer(stream, handler)
                    self._waiting.pop(scope, None)
                    await stream.send(answer)
                    await stream.send_eof()
                except (OSError, anyio.BrokenResourceError, anyio.EndOfStream, anyio.ClosedResourceError):
                    pass
                finally:
                    self._waiting.pop(scope, None)
        finally:
            self._busy -= 1
            with anyio.CancelScope(shield=True), anyio.move_on_after(0.5):
                await anyio.aclose_forcefully(stream)


class _Peer:
    """The process at the other end of a connection, as h11 reads what it sends."""

    def __init__(self, role: type[h11.CLIENT | h11.SERVER]) -> None:
        self._connection = h11.Connection(role, max_incomplete_event_size=MAX_HEADER)
        self._received = b""

    def message(self, head: h11.Request | h11.Response, body: bytes) -> bytes:
        """Return a whole message, ready to send."""
        events = (head, h11.Data(data=body), h11.EndOfMessage())
        return b"".join(self._connection.send(event) or b"" for event in events)

    async def head(self, stream: anyio.abc.ByteStream) -> h11.Request | h11.Response:
        """Receive the first line and the fields; raise `EndOfStream` at the end of the connection."""
        while True:
            event = self._connection.next_event()
            if isinstance(event, h11.Request | h11.Response):
                head, _, _ = self._received.partition(b"\r\n\r\n")
                if _FOLDED.search(head):
                    raise h11.RemoteProtocolError("a folded field")
                return event
            if event is h11.NEED_DATA:
                # h11 itself accepts a longer head that has come whole, and any number of interim responses.
                if len(self._received) > MAX_HEADER:
                    raise h11.RemoteProtocolError("too much", error_status_hint=_HEAD_TOO_LARGE)
                chunk = await stream.receive(MAX_HEADER + 1 - len(self._received))
                self._received += chunk
                self._connection.receive_data(chunk)

    async def body(self, stream: anyio.abc.ByteStream, head: h11.Request | h11.Response) -> bytes:
        """Receive the body, whose length the head must give, within bounds."""
        fields = dict(head.headers)
        if b"transfer-encoding" in fields or b"content-length" not in fields:
            raise h11.RemoteProtocolError("no length", error_status_hint=HTTPStatus.LENGTH_REQUIRED)
        if _length(fields[b"content-length"]) > MAX_BODY:
            raise h11.RemoteProtocolError("too long", error_status_hint=HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        body = b""
        while True:
            event = self._connection.next_event()
            if isinstance(event, h11.Data):
                body += event.data
            elif event is h11.NEED_DATA:
                self._connection.receive_data(await stream.receive(MAX_BODY))
            else:
                return body


async def _answer(stream: anyio.abc.ByteStream, handler: Handler) -> bytes:
    """Receive a request and return the answer to it, ready to send."""
    peer = _Peer(h11.SERVER)
    try:
        status, body = await _understand(peer, stream, handler)
    except h11.RemoteProtocolError as exc:
        status, body = exc.error_status_hint, b""
    reason = HTTPStatus(status).phrase
    return peer.message(h11.Response(status_code=status, reason=reason, headers=_fields(body)), body)


async def _understand(peer: _Peer, stream: anyio.abc.ByteStream, handler: Handler) -> tuple[int, bytes]:
    request = await peer.head(stream)
    assert isinstance(request, h11.Request)
    if request.method != b"POST":
        return HTTPStatus.METHOD_NOT_ALLOWED, b""
    if request.target != PATH.encode():
        return HTTPStatus.NOT_FOUND, b""
    body = await peer.body(stream, request)
    try:
        return handler(body)
    except Exception as exc:  # noqa: BLE001  # a bug here must not end the listener
        what = "a message from another candidate could not be handled"
        telemetry.peers_noted(what, level=logging.ERROR, error=exc)
        return HTTPStatus.SERVICE_UNAVAILABLE, b""


async def _response(peer: _Peer, stream: anyio.abc.ByteStream) -> tuple[h11.Response, bytes]:
    head = await peer.head(stream)
    assert isinstance(head, h11.Response)
    return head, await peer.body(stream, head)


def _fields(body: bytes) -> list[tuple[str, str]]:
    return [("Content-Type", "application/json"), ("Content-Length", str(len(body))), ("Connection", "close")]


def _length(value: bytes) -> int:
    try:
        return decimal(value.decode("latin-1"), "the length", most=9_999_999_999)
    except Malformed as exc:
        raise h11.RemoteProtocolError(str(exc)) from None
