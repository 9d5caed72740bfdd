"""Requests between processes, over HTTP/1.1: as little of it as will do, and everything bounded.

One `POST` per connection, of at most 16 KiB, within 2 s, at most 64 at a time; whatever is anything else gets an
error and is closed. When more come, the connection that has been open for longest without having said what it
wants is given up: so who opens many and says nothing keeps nobody out. Nothing that is received can raise here.

HTTP, so that it passes through what passes between services, and can be looked at with `curl`. It is not for
browsers, and needs no library.
"""

from __future__ import annotations

import errno
import logging
import re
import socket
from collections.abc import Callable
from typing import Protocol

import anyio
import anyio.abc

from tideover import telemetry
from tideover.foreign_bytes import Malformed, decimal

PATH = "/tideover/peers"
MAX_HEADER = 4096
MAX_BODY = 16_384
MAX_CONNECTIONS = 64
# Seconds for one request, from the first byte to the last.
EXCHANGE_TIMEOUT = 2.0
# Seconds before connections are accepted again, after none could be.
_AFTER_TROUBLE = 0.1

_REASONS = {200: "OK", 400: "Bad Request", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed"} | {
    411: "Length Required",
    413: "Content Too Large",
    421: "Misdirected Request",
    431: "Request Header Fields Too Large",
    503: "Service Unavailable",
}

_HOST = re.compile(r"[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.%a-z]+\]")

# Returns a status and a body. It must not wait: what it decides is decided at once.
Handler = Callable[[bytes], tuple[int, bytes]]


class Silent(Exception):
    """Raised when a request was not answered, or with an error.

    Attributes:
        gone: Whether nobody is there: the connection was refused, or another process answered.
    """

    def __init__(self, why: str, *, gone: bool = False) -> None:
        super().__init__(why)
        self.gone = gone


class Network(Protocol):
    """How requests get to other processes."""

    async def listen(self, host: str, port: int) -> int:
        """Begin to accept connections, and return the port; 0 asks for any.

        Raises:
            OSError: That cannot be.
        """

    async def serve(self, handler: Handler) -> None:
        """Answer requests until cancelled."""

    async def post(self, address: str, body: bytes, *, timeout: float) -> bytes:
        """Send a request and return the answer's body.

        Raises:
            Silent: There is none.
        """

    async def aclose(self) -> None:
        """Accept nothing any more."""


class HttpNetwork:
    """The real one."""

    def __init__(self) -> None:
        self._listener: anyio.abc.SocketListener | None = None
        self._waiting: dict[anyio.CancelScope, None] = {}
        self._busy = 0

    def __repr__(self) -> str:
        """Count connections."""
        return f"<HttpNetwork {self._busy} connections{'' if self._listener else ', not listening'}>"

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
                    self._give_one_up()
                if self._busy >= 2 * MAX_CONNECTIONS:
                    # Those that were given up have not gone yet.
                    await stream.aclose()
                    continue
                self._busy += 1
                tasks.start_soon(self._converse, stream, handler)

    async def post(self, address: str, body: bytes, *, timeout: float) -> bytes:
        """Send a request; see `Network`."""
        host, port = split_address(address)
        head = (
            f"POST {PATH} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        try:
            with anyio.fail_after(timeout):
                async with await anyio.connect_tcp(host, port) as stream:
                    await stream.send(head.encode("ascii") + body)
                    status, answer = await _read_response(stream)
        except ConnectionRefusedError:
            raise Silent("nobody listens there", gone=True) from None
        # Of a host's name that IDNA refuses the look-up raises UnicodeError.
        except (
            OSError,
            TimeoutError,
            UnicodeError,
            anyio.BrokenResourceError,
            anyio.EndOfStream,
            _Malformed,
        ) as exc:
            refused = isinstance(exc.__cause__, ConnectionRefusedError)
            raise Silent(f"no answer ({type(exc).__name__})", gone=refused) from None
        if status != 200:
            raise Silent(f"answered with {status}", gone=status == 421)
        return answer

    async def aclose(self) -> None:
        """Stop listening."""
        if self._listener is not None:
            listener, self._listener = self._listener, None
            await listener.aclose()

    def _give_one_up(self) -> None:
        for scope in self._waiting:
            del self._waiting[scope]
            scope.cancel()
            return

    async def _converse(self, stream: anyio.abc.SocketStream, handler: Handler) -> None:
        """Answer one request and close."""
        try:
            with anyio.move_on_after(EXCHANGE_TIMEOUT) as scope:
                self._waiting[scope] = None
                try:
                    answer = _response(*await _understand(stream, handler))
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


class _Malformed(Exception):
    """Raised when what came is no HTTP that is understood here."""

    def __init__(self, status: int) -> None:
        super().__init__(str(status))
        self.status = status


async def _understand(stream: anyio.abc.ByteStream, handler: Handler) -> tuple[int, bytes]:
    try:
        line, headers, rest = await _read_head(stream)
        parts = line.split(" ")
        if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
            return 400, b""
        if parts[0] != "POST":
            return 405, b""
        if parts[1] != PATH:
            return 404, b""
        if "transfer-encoding" in headers or "content-length" not in headers:
            return 411, b""
        body = await _read_body(stream, rest, _length(headers["content-length"]))
    except _Malformed as exc:
        return exc.status, b""
    try:
        return handler(body)
    except Exception as exc:  # noqa: BLE001  # a mistake of ours, and no reason to listen to nobody any more
        what = "a message from another candidate could not be handled"
        telemetry.peers_noted(what, level=logging.ERROR, error=exc)
        return 503, b""


async def _read_response(stream: anyio.abc.ByteStream) -> tuple[int, bytes]:
    line, headers, rest = await _read_head(stream)
    parts = line.split(" ", 2)
    try:
        status = decimal(parts[1], "the status", most=999) if len(parts) > 1 else 0
    except Malformed:
        status = 0
    if not status or not parts[0].startswith("HTTP/1."):
        raise _Malformed(400)
    return status, await _read_body(stream, rest, _length(headers.get("content-length", "")))


async def _read_head(stream: anyio.abc.ByteStream) -> tuple[str, dict[str, str], bytes]:
    """Return the first line, the fields, and what was read of the body."""
    raw = b""
    while b"\r\n\r\n" not in raw:
        if len(raw) >= MAX_HEADER:
            raise _Malformed(431)
        raw += await stream.receive(MAX_HEADER)
    head, _, rest = raw.partition(b"\r\n\r\n")
    if len(head) > MAX_HEADER:
        raise _Malformed(431)
    line, *lines = head.decode("latin-1").split("\r\n")
    headers: dict[str, str] = {}
    for field in lines:
        name, colon, value = field.partition(":")
        name = name.lower()
        # Two lengths would be two opinions on where the message ends.
        if not colon or not name or name != name.strip() or name in headers:
            raise _Malformed(400)
        headers[name] = value.strip()
    return line, headers, rest


def _length(text: str) -> int:
    try:
        length = decimal(text, "the length", most=9_999_999_999)
    except Malformed:
        raise _Malformed(400) from None
    if length > MAX_BODY:
        raise _Malformed(413)
    return length


async def _read_body(stream: anyio.abc.ByteStream, body: bytes, length: int) -> bytes:
    while len(body) < length:
        body += await stream.receive(length - len(body))
    return body[:length]


def _response(status: int, body: bytes) -> bytes:
    head = (
        f"HTTP/1.1 {status} {_REASONS.get(status, 'Error')}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode("ascii") + body


def split_address(address: str) -> tuple[str, int]:
    """Return host and port of an address; an IPv6 host stands in brackets.

    Args:
        address: Such as `"10.0.0.7:7000"` or `"[::1]:7000"`.

    Raises:
        Silent: It is none.
    """
    host, colon, port = address.rpartition(":")
    try:
        number = decimal(port, "the port", least=1, most=65_535)
    except Malformed:
        number = 0
    if not colon or not number or len(address) >= 300 or not _HOST.fullmatch(host):
        raise Silent("that is no address")
    return host.removeprefix("[").removesuffix("]"), number


def join_address(host: str, port: int) -> str:
    """Return an address; see `split_address`."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def local_host(towards: str, port: int) -> str:
    """Return this machine's address on the way to another one. Sends nothing, and looks no names up.

    Args:
        towards: The other's IP address.
        port: Any port.

    Raises:
        OSError: There is no way to it.
    """
    family = socket.AF_INET6 if ":" in towards else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect((towards, port))
        return str(probe.getsockname()[0])


# An address that is nobody's (RFC 5737): the way to it is the default route.
NOWHERE = "192.0.2.1"
