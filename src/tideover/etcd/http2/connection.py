"""One connection: what arrives is given to its calls, and the rules of HTTP/2 that concern all of them are kept.

A peer that breaks them ends the connection with an error for each call: none is left to wait. No more than this is
ever held: one incomplete frame (16 KiB), one incomplete header block (64 KiB), 128 short blocks that were read, 32
KiB of answers to control frames; and for each call its reply, of a stream 2 MiB of unread replies and a message.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol, cast

from tideover.etcd.http2 import frames
from tideover.etcd.http2.call import Call
from tideover.etcd.http2.call_queue import CallQueue
from tideover.etcd.http2.frames import (
    ACK,
    END_HEADERS,
    END_STREAM,
    MOST_WINDOW,
    PADDED,
    WITH_PRIORITY,
    Broken,
    ErrorCode,
    Setting,
    Splitter,
    header_fragment,
    unpadded,
)
from tideover.etcd.http2.liveness import Liveness
from tideover.etcd.http2.options import Options
from tideover.etcd.http2.reply_headers import MAX_BLOCK, HeaderReader
from tideover.etcd.http2.sending import Sender
from tideover.etcd.http2.status import StatusCode, going_away, reset_by
from tideover.etcd.http2.windows import CONNECTION_WINDOW, DEFAULT_WINDOW, STREAM_WINDOW, grown

# Calls before the server has said how many it takes at once.
_UNTOLD = 100
_PREFIXED = PADDED | WITH_PRIORITY
# Where in a frame its kind stands.
_KIND = 3
_SOCKET_CLOSED = "Socket closed"
# What TLS has to agree on.
_ALPN = "h2"

_SETTINGS = frames.settings(
    {
        # A header block of the server's then means the same wherever it stands: see `reply_headers`.
        Setting.HEADER_TABLE_SIZE: 0,
        Setting.ENABLE_PUSH: 0,
        Setting.INITIAL_WINDOW_SIZE: STREAM_WINDOW,
        Setting.MAX_HEADER_LIST_SIZE: MAX_BLOCK,
    }
)
_BEGINNING = frames.PREFACE + _SETTINGS + frames.window_update(0, CONNECTION_WINDOW - DEFAULT_WINDOW)


class Owner(Protocol):
    """Who has made a connection, and makes another one."""

    def made(self, connection: Connection) -> None:
        """Apply that there is a connection, which has to be closed."""
        ...

    def gone(self, connection: Connection) -> None:
        """Apply that a connection takes no more calls; may be told twice."""
        ...

    def lost(self, connection: Connection) -> None:
        """Apply that nothing is left of a connection."""
        ...

    def take_back(self, calls: list[Call], why: str) -> None:
        """Send calls another way that the server has provably not looked at."""
        ...


class Connection(asyncio.Protocol):
    """A connection to a server, and its calls; `lost` is set when nothing is left of it.

    Attributes:
        settled: Whether the server has said its SETTINGS, once it has, or has ended the connection.
        ready: Whether calls may be sent: it has, and does not go away.
        why: Why the connection ends, as far as that is known.
        announced: What the server has said of its going away; empty if it has said nothing.
    """

    def __init__(self, owner: Owner, options: Options) -> None:
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self.settled: asyncio.Future[bool] = self._loop.create_future()
        self.lost: asyncio.Future[None] = self._loop.create_future()
        self.ready = False
        self.why = ""
        self._going = False
        self._ended = False
        self.announced = ""
        self._transport: asyncio.Transport
        self._sender: Sender
        self._calls: dict[int, Call] = {}
        self._queue = CallQueue()
        self._most_calls = _UNTOLD
        self._next_stream = 1
        self._splitter = Splitter()
        self._headers = HeaderReader()
        # What has come since the server was told to go on.
        self._arrived = 0
        # An incomplete header block, its stream, and whether the stream ends with it.
        self._block = bytearray()
        self._block_of: int | None = None
        self._block_ends = False
        self._liveness = Liveness(
            options,
            busy=lambda: bool(self._calls),
            unsent=lambda: self._transport.get_write_buffer_size(),
            ping=self._ping,
            lost=lambda: self.abort("ping timeout"),
        )

    def __repr__(self) -> str:
        """Say how it is, and count the calls."""
        state = "ended" if self._ended else "ready" if self.ready else "going" if self._going else "begun"
        return f"<Connection {state}, {len(self._calls)} calls, {len(self._queue)} waiting>"

    def socket_number(self) -> int:
        """Return the number of its socket; -1 if there is none any more."""
        sock = self._transport.get_extra_info("socket")
        return -1 if sock is None else int(sock.fileno())

    # Calls -------------------------------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Whether calls are under way or wait."""
        return bool(self._calls) or len(self._queue) > 0

    def start(self, call: Call) -> None:
        """Send a call, as soon as there is room for it."""
        if len(self._calls) < self._most_calls and not self._queue and not self._sender.paused:
            self._begin(call)
        else:
            self._queue.add(call)

    def _begin(self, call: Call) -> None:
        stream = self._next_stream
        self._next_stream = stream + 2
        call.carrier, call.stream = self, stream
        self._calls[stream] = call
        self._liveness.watch()
        self._sender.begin(call)
        if self._next_stream > MOST_WINDOW:
            # The last number is used: what follows needs another connection.
            self._go(MOST_WINDOW)

    def _begin_waiting(self) -> None:
        while self._queue and len(self._calls) < self._most_calls and not self._sender.paused:
            self._begin(self._queue.next())

    def leave(self, call: Call, reset: ErrorCode | None) -> None:
        """Forget a call that has ended."""
        if self._calls.pop(call.stream, None) is None:
            return
        if call.unsent or not call.closed:
            # The server has ended it before this side has: what is left of it would be in everybody's way.
            reset = reset or ErrorCode.CANCEL
        self._sender.forget(call)
        if reset is not None and not self._transport.is_closing():
            with suppress(Broken):
                self._sender.owe(frames.rst_stream(call.stream, reset), now=True)
        if self._queue:
            self._begin_waiting()
        if self._going and not self._calls:
            self.close()

    def push(self, call: Call) -> None:
        """Send what a call has to send."""
        self._sender.push(call)

    def credit(self, call: Call, increment: int) -> None:
        """Let the server send so much more of a call."""
        with suppress(Broken):
            self._sender.owe(frames.window_update(call.stream, increment), now=True)

    # The end -----------------------------------------------------------------------------------------------------

    def retire(self) -> None:
        """Take no more calls, and end with the last of those under way."""
        if not self._going:
            self._go(MOST_WINDOW)

    def close(self) -> None:
        """Cancel what is under way, and take leave of the server."""
        for call in list(self._calls.values()):
            call.cancel()
        if not self._transport.is_closing():
            self._sender.write(frames.goaway(0, ErrorCode.NO_ERROR))
            self._shut()

    def _shut(self) -> None:
        # What a server does not read would keep the connection open.
        if self._transport.get_write_buffer_size():
            self._transport.abort()
        else:
            self._transport.close()

    def abort(self, why: str) -> None:
        """End it at once; its calls are told why."""
        self.why = self.why or why
        self._transport.abort()
        self._end()

    def _end(self) -> None:
        if self._ended:
            return
        self._ended, self.ready, self._going = True, False, True
        self.why = self.why or (f"{_SOCKET_CLOSED} ({self.announced})" if self.announced else _SOCKET_CLOSED)
        if not self.settled.done():
            self.settled.set_result(False)
        self._liveness.stop()
        self._sender.close()
        calls, self._calls = self._calls, {}
        self._owner.gone(self)
        for call in calls.values():
            call.end(StatusCode.UNAVAILABLE, f"Stream removed ({self.why})")
        self._owner.take_back(self._queue.take_all(), self.why)

    def _break(self, exc: Broken, data: bytes) -> None:
        """End it because of what the peer has sent; the peer is told."""
        self.why = f"Failed parsing HTTP/2 ({exc}){frames.http1(data)}"
        if not self._transport.is_closing():
            self._transport.write(frames.goaway(0, exc.code, str(exc).encode()[:100]))
            self._shut()
        self._end()

    # As a protocol of asyncio's ----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin: the server may say nothing before this side does."""
        # uvloop's does not derive from it.
        self._transport = cast("asyncio.Transport", transport)
        self._sender = Sender(self._transport)
        self._owner.made(self)
        secure = transport.get_extra_info("ssl_object")
        if secure is not None and secure.selected_alpn_protocol() != _ALPN:
            self.abort("Cannot check peer: missing selected ALPN property.")
        else:
            self._transport.write(_BEGINNING)

    def connection_lost(self, exc: Exception | None) -> None:
        """End it."""
        # With TLS 1.3 a server refuses a client's certificate only after the handshake.
        if isinstance(exc, ssl.SSLError) and not self.settled.done():
            self.why = self.why or f"Tls handshake failed {exc.reason or exc}"
        self._end()
        self.lost.set_result(None)
        self._owner.lost(self)

    def pause_writing(self) -> None:
        """Hold back what is to be sent: the server reads slowly."""
        self._sender.pause()

    def resume_writing(self) -> None:
        """Send what was held back."""
        self._sender.resume()
        self._begin_waiting()

    def data_received(self, data: bytes) -> None:
        """Apply frames."""
        self._liveness.heard = self._loop.time()
        try:
            if not self.settled.done() and not self._splitter.rest and len(data) > _KIND:
                # Before the first bytes of whatever is spoken there are taken for the length of a frame.
                _check_first(data[_KIND])
            for kind, flags, stream, payload in self._splitter.feed(data):
                if not self.settled.done():
                    _check_first(kind)
                if self._block_of is not None and kind != frames.CONTINUATION:
                    raise Broken(f"Expected CONTINUATION frame, got frame type {kind}")
                handle = _HANDLERS.get(kind)
                # A kind that is not known is ignored, as HTTP/2 wants it.
                if handle is not None:
                    handle(self, flags, stream, payload)
        except Broken as exc:
            self._break(exc, data)

    # Frames ------------------------------------------------------------------------------------------------------

    def _check(self, stream: int) -> None:
        """Look at a stream that has no call; raise `Broken` if this side has never opened such a stream."""
        if stream >= self._next_stream or not stream % 2:
            raise Broken(f"frame for stream {stream}, which is idle")

    def _take_data(self, flags: int, stream: int, payload: bytes) -> None:
        size = len(payload)
        call = self._calls.get(stream)
        if call is None:
            self._check(stream)
        else:
            data = unpadded(flags, payload) if flags & PADDED else payload
            if increment := call.take_data(data, size, bool(flags & END_STREAM)):
                self._sender.owe(frames.window_update(stream, increment), now=True)
        # What all streams share is given back whatever becomes of one of them.
        self._arrived += size
        if self._arrived * 2 >= CONNECTION_WINDOW:
            arrived, self._arrived = self._arrived, 0
            self._sender.owe(frames.window_update(0, arrived), now=True)

    def _take_headers(self, flags: int, stream: int, payload: bytes) -> None:
        fragment = header_fragment(flags, payload) if flags & _PREFIXED else payload
        if flags & END_HEADERS:
            self._apply_block(stream, fragment, bool(flags & END_STREAM))
        else:
            self._block_of, self._block_ends = stream, bool(flags & END_STREAM)
            self._block += fragment

    def _take_continuation(self, flags: int, stream: int, payload: bytes) -> None:
        if stream != self._block_of:
            raise Broken("Unexpected CONTINUATION frame")
        self._block += payload
        # An empty one counts, too: it is no more than a way to keep this side busy.
        if len(self._block) > MAX_BLOCK or (not payload and not flags & END_HEADERS):
            raise Broken("header block too large", ErrorCode.ENHANCE_YOUR_CALM)
        if flags & END_HEADERS:
            block, self._block, self._block_of = bytes(self._block), bytearray(), None
            self._apply_block(stream, block, self._block_ends)

    def _apply_block(self, stream: int, block: bytes, ended: bool) -> None:
        headers = self._headers.read(block)
        call = self._calls.get(stream)
        if call is None:
            self._check(stream)
        else:
            call.take_headers(headers, ended)

    def _take_reset(self, flags: int, stream: int, payload: bytes) -> None:
        code = frames.parse_word(payload, "RST_STREAM")
        call = self._calls.get(stream)
        if call is None:
            self._check(stream)
        elif code == ErrorCode.REFUSED_STREAM and not call.answering:
            self._take_back([call], reset_by(code)[1])
        else:
            # The server has forgotten it already.
            call.closed, call.unsent = True, b""
            call.take_reset(code)

    def _take_settings(self, flags: int, stream: int, payload: bytes) -> None:
        if stream:
            raise Broken("SETTINGS for a stream")
        if flags & ACK:
            return
        values = frames.parse_settings(payload)
        bound = self._most_calls if self.settled.done() else MOST_WINDOW
        self._most_calls = values.get(Setting.MAX_CONCURRENT_STREAMS, bound)
        self._sender.apply(values, self._calls.values())
        self._sender.owe(frames.frame(frames.SETTINGS, ACK, 0), now=True)
        if not self.settled.done():
            self.settled.set_result(True)
            self.ready = not self._going
        self._begin_waiting()

    def _take_ping(self, flags: int, stream: int, payload: bytes) -> None:
        if stream or len(payload) != 8:
            raise Broken("invalid PING", ErrorCode.FRAME_SIZE_ERROR if not stream else ErrorCode.PROTOCOL_ERROR)
        if not flags & ACK:
            self._sender.owe(frames.frame(frames.PING, ACK, 0, payload))

    def _take_goaway(self, flags: int, stream: int, payload: bytes) -> None:
        last, code, debug = frames.parse_goaway(payload)
        self.announced = going_away(code, debug)
        self._go(last)

    def _take_window_update(self, flags: int, stream: int, payload: bytes) -> None:
        increment = frames.parse_word(payload, "WINDOW_UPDATE")
        if not stream:
            self._sender.grow(increment)
        elif (call := self._calls.get(stream)) is None:
            self._check(stream)
        else:
            call.window = grown(call.window, increment)
            if call.unsent:
                self._sender.push(call)

    def _take_push(self, flags: int, stream: int, payload: bytes) -> None:
        raise Broken("PUSH_PROMISE, which was not allowed")

    def _ping(self) -> None:
        with suppress(Broken):
            self._sender.owe(frames.frame(frames.PING, 0, 0, bytes(8)), now=True)

    # Going away --------------------------------------------------------------------------------------------------

    def _go(self, last: int) -> None:
        """Take no more calls; those above the last one go elsewhere."""
        self.ready, self._going = False, True
        self._owner.gone(self)
        self._take_back([call for stream, call in self._calls.items() if stream > last], self.announced)
        self._owner.take_back(self._queue.take_all(), self.announced)
        if not self._calls:
            self.close()

    def _take_back(self, calls: list[Call], why: str) -> None:
        """Give calls back that the server has provably not looked at."""
        for call in calls:
            del self._calls[call.stream]
            self._sender.forget(call)
        self._owner.take_back(calls, why)


_HANDLERS: dict[int, Callable[[Connection, int, int, bytes], None]] = {
    frames.DATA: Connection._take_data,
    frames.HEADERS: Connection._take_headers,
    frames.RST_STREAM: Connection._take_reset,
    frames.SETTINGS: Connection._take_settings,
    frames.PUSH_PROMISE: Connection._take_push,
    frames.PING: Connection._take_ping,
    frames.GOAWAY: Connection._take_goaway,
    frames.WINDOW_UPDATE: Connection._take_window_update,
    frames.CONTINUATION: Connection._take_continuation,
}


def _check_first(kind: int) -> None:
    """Raise `Broken` unless a server begins as HTTP/2 wants it."""
    if kind != frames.SETTINGS:
        raise Broken(f"Expected SETTINGS frame as the first frame, got frame type {kind}")
