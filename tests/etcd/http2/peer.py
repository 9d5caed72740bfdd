"""A server that speaks HTTP/2 as it is told: hyperframe makes and reads the frames, hpack the headers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from hpack import Decoder, Encoder
from hyperframe import frame as frames

from tideover.etcd.http2.channel import Channel
from tideover.etcd.http2.dialling import Target
from tideover.etcd.http2.options import Options

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
METHOD = "/test.Service/Method"
GRPC = ((":status", "200"), ("content-type", "application/grpc"))
OK = (("grpc-status", "0"), ("grpc-message", ""))

Pairs = Sequence[tuple[str, str]]
Script = Callable[["Peer"], Awaitable[None]]


def encoded(pairs: Pairs) -> bytes:
    """Return a header block that needs no table."""
    encoder = Encoder()
    encoder.header_table_size = 0
    return bytes(encoder.encode(list(pairs), huffman=False))


def headers(stream: int, pairs: Pairs, *flags: str) -> bytes:
    """Return a whole header block as HEADERS."""
    return frames.HeadersFrame(stream, encoded(pairs), flags=["END_HEADERS", *flags]).serialize()


def data(stream: int, payload: bytes, *flags: str) -> bytes:
    """Return DATA."""
    return frames.DataFrame(stream, payload, flags=list(flags)).serialize()


def message(payload: bytes) -> bytes:
    """Return a message as gRPC wraps it."""
    return b"\0" + len(payload).to_bytes(4, "big") + payload


def reply(stream: int, payload: bytes = b"reply") -> bytes:
    """Return a good reply."""
    return headers(stream, GRPC) + data(stream, message(payload)) + headers(stream, OK, "END_STREAM")


def settings(**values: int) -> bytes:
    """Return SETTINGS, by hyperframe's names in small letters."""
    named = {getattr(frames.SettingsFrame, name.upper()): value for name, value in values.items()}
    return frames.SettingsFrame(0, settings=named).serialize()


def goaway(last: int, code: int = 0, debug: bytes = b"") -> bytes:
    """Return GOAWAY."""
    return frames.GoAwayFrame(0, last, code, debug).serialize()


def reset(stream: int, code: int) -> bytes:
    """Return RST_STREAM."""
    return frames.RstStreamFrame(stream, code).serialize()


def grow(stream: int, increment: int) -> bytes:
    """Return WINDOW_UPDATE."""
    return frames.WindowUpdateFrame(stream, increment).serialize()


class Peer:
    """One connection, as its server sees it.

    Args:
        reader: What the client sends.
        writer: Where answers go.
        number: Which connection it is, from 0.

    Attributes:
        number: Which connection it is.
        seen: The frames that have come.
    """

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        self.number = number
        self.seen: list[Any] = []
        self._reader, self._writer = reader, writer
        self._decoder = Decoder()

    def say(self, *parts: bytes) -> None:
        """Send bytes."""
        self._writer.write(b"".join(parts))

    async def begin(self, first: bytes | None = None) -> None:
        """Take the client's beginning and send SETTINGS, empty ones unless others are given."""
        assert await self._reader.readexactly(len(PREFACE)) == PREFACE
        self.say(settings() if first is None else first)

    async def next(self, kind: type | None = None) -> Any:
        """Return the next frame, or the next of a kind."""
        while True:
            frame, length = frames.Frame.parse_frame_header(memoryview(await self._reader.readexactly(9)))
            frame.parse_body(memoryview(await self._reader.readexactly(length)))
            self.seen.append(frame)
            if kind is None or isinstance(frame, kind):
                return frame

    async def request(self) -> int:
        """Take the next request, with all its data; return its stream."""
        while True:
            frame = await self.next(frames.DataFrame)
            if "END_STREAM" in frame.flags:
                return int(frame.stream_id)

    def decoded(self, frame: Any) -> dict[str, str]:
        """Return the headers in a frame."""
        return {str(name): str(value) for name, value in self._decoder.decode(frame.data)}

    async def end(self) -> None:
        """Wait until the client closes the connection."""
        with suppress(ConnectionError):
            while await self._reader.read(65_536):
                pass

    def close(self) -> None:
        """Close the connection."""
        self._writer.close()

    def abort(self) -> None:
        """Cut the connection."""
        self._writer.transport.abort()


@asynccontextmanager
async def serving(script: Script) -> AsyncIterator[int]:
    """Serve connections as a script says; give the port. What goes wrong in the script is raised at the end."""
    tasks: list[asyncio.Task[None]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            try:
                await script(Peer(reader, writer, number))
            finally:
                writer.close()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.append(asyncio.create_task(serve(reader, writer, len(tasks))))

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        for ended in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(ended, Exception):
                raise ended


@asynccontextmanager
async def channel_to(port: int, options: Options | None = None) -> AsyncIterator[Channel]:
    """Open a channel to a port."""
    channel = Channel(Target("127.0.0.1", port), authority=f"127.0.0.1:{port}", options=options or Options())
    try:
        yield channel
    finally:
        await channel.close()


@asynccontextmanager
async def calling(script: Script, options: Options | None = None) -> AsyncIterator[Channel]:
    """Serve as a script says, and open a channel to that server."""
    async with serving(script) as port, channel_to(port, options) as channel:
        yield channel


def unary(channel: Channel, payload: bytes = b"request", timeout: float | None = 5.0) -> Any:
    """Make a call whose request and reply are bytes."""
    return channel.unary_unary(METHOD, bytes, bytes)(payload, timeout=timeout)


def stream(channel: Channel) -> Any:
    """Open a stream of bytes both ways."""
    return channel.stream_stream(METHOD, bytes, bytes)()


async def ending(call: Any) -> tuple[str, str]:
    """Return the status of a call and what is said of it."""
    return (await call.code()).name, await call.details()
