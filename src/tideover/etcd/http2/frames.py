"""Frames: HTTP/2's bytes as tuples, and back. RFC 9113, sections 4 and 6.

A frame is `(kind, flags, stream, payload)`. Nothing here knows what a frame means for a connection.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from struct import Struct

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)

# Flags; ACK and END_STREAM are the same bit, of different kinds of frames.
END_STREAM = ACK = 0x1
END_HEADERS = 0x4
PADDED = 0x8
WITH_PRIORITY = 0x20

# The largest payload, of either side that has not allowed more; this side never does.
MAX_FRAME = 16_384
MOST_FRAME = 2**24 - 1
MOST_WINDOW = 2**31 - 1
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

Frame = tuple[int, int, int, bytes]

# Length and kind in one word, flags, stream.
_HEADER = Struct(">IBI")
_SETTING = Struct(">HI")
_WORDS = Struct(">II")
_LENGTH = _HEADER.size


class ErrorCode(IntEnum):
    """Why a stream or a connection ends; RFC 9113, section 7."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    ENHANCE_YOUR_CALM = 11
    INADEQUATE_SECURITY = 12


class Setting(IntEnum):
    """What SETTINGS may set; RFC 9113, section 6.5.2."""

    HEADER_TABLE_SIZE = 1
    ENABLE_PUSH = 2
    MAX_CONCURRENT_STREAMS = 3
    INITIAL_WINDOW_SIZE = 4
    MAX_FRAME_SIZE = 5
    MAX_HEADER_LIST_SIZE = 6


class Broken(Exception):
    """Raised when the peer does not keep to HTTP/2, so that the connection ends; `code` is what it is told."""

    def __init__(self, text: str, code: ErrorCode = ErrorCode.PROTOCOL_ERROR) -> None:
        super().__init__(text)
        self.code = code


class Splitter:
    """Cuts what arrives into frames; `rest` is the beginning of a frame that is not complete yet."""

    def __init__(self) -> None:
        self.rest = b""

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Yield the complete frames, in order; all must be taken. Raises `Broken` if a frame is too large."""
        if self.rest:
            data = self.rest + data
        begin, end = 0, len(data)
        while end - begin >= _LENGTH:
            word, flags, stream = _HEADER.unpack_from(data, begin)
            after = begin + _LENGTH + (word >> 8)
            if word >> 8 > MAX_FRAME:
                text = f"Frame size {word >> 8} is larger than max frame size {MAX_FRAME}"
                raise Broken(text, ErrorCode.FRAME_SIZE_ERROR)
            if after > end:
                break
            # The first bit of the stream is reserved, and ignored.
            yield word & 0xFF, flags, stream & MOST_WINDOW, data[begin + _LENGTH : after]
            begin = after
        self.rest = data[begin:]


def http1(data: bytes) -> str:
    """Return what to add where the bytes are HTTP/1's: gRPC's words; empty where they are not."""
    if not data.startswith(b"HTTP/1"):
        return ""
    status = data[9:12].decode("ascii", "replace")
    return f" (Trying to connect an http1.x server (HTTP status {status}))"


# What is sent ----------------------------------------------------------------------------------------------------


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return a frame."""
    return _HEADER.pack(len(payload) << 8 | kind, flags, stream) + payload


def request(stream: int, block: bytes, message: bytes | memoryview) -> bytes:
    """Return a whole request of one message: HEADERS and DATA, each small enough for a frame."""
    headers = _HEADER.pack(len(block) << 8 | HEADERS, END_HEADERS, stream)
    data = _HEADER.pack(len(message) << 8 | DATA, END_STREAM, stream)
    return b"".join((headers, block, data, message))


def headers(stream: int, block: bytes, largest: int = MAX_FRAME) -> bytes:
    """Return a header block as HEADERS and, where one frame is too small for it, CONTINUATION."""
    parts = [block[begin : begin + largest] for begin in range(0, len(block), largest)]
    last = len(parts) - 1
    return b"".join(
        frame(CONTINUATION if number else HEADERS, END_HEADERS if number == last else 0, stream, part)
        for number, part in enumerate(parts)
    )


def settings(values: dict[Setting, int]) -> bytes:
    """Return SETTINGS."""
    return frame(SETTINGS, 0, 0, b"".join(_SETTING.pack(*each) for each in values.items()))


def window_update(stream: int, increment: int) -> bytes:
    """Return WINDOW_UPDATE; stream 0 is the connection."""
    return frame(WINDOW_UPDATE, 0, stream, increment.to_bytes(4, "big"))


def rst_stream(stream: int, code: int) -> bytes:
    """Return RST_STREAM."""
    return frame(RST_STREAM, 0, stream, code.to_bytes(4, "big"))


def goaway(last: int, code: int, debug: bytes = b"") -> bytes:
    """Return GOAWAY."""
    return frame(GOAWAY, 0, 0, _WORDS.pack(last, code) + debug)


# What is received ------------------------------------------------------------------------------------------------


def unpadded(flags: int, payload: bytes) -> bytes:
    """Return the payload of DATA or HEADERS without its padding; raise `Broken` if the padding is longer."""
    if not flags & PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        raise Broken("invalid padding")
    return payload[1 : len(payload) - payload[0]]


def header_fragment(flags: int, payload: bytes) -> bytes:
    """Return a header block's part in HEADERS, without padding and priority; raise `Broken` if too short."""
    payload = unpadded(flags, payload)
    if not flags & WITH_PRIORITY:
        return payload
    if len(payload) < 5:
        raise Broken("HEADERS too short for its priority", ErrorCode.FRAME_SIZE_ERROR)
    return payload[5:]


def parse_settings(payload: bytes) -> dict[int, int]:
    """Return what SETTINGS sets, by number; of one that stands there twice the later.

    Raises `Broken` for a length that SETTINGS cannot have, or a value that is none.
    """
    if len(payload) % _SETTING.size:
        raise Broken(f"invalid SETTINGS length {len(payload)}", ErrorCode.FRAME_SIZE_ERROR)
    values = dict(_SETTING.iter_unpack(payload))
    if values.get(Setting.INITIAL_WINDOW_SIZE, 0) > MOST_WINDOW:
        raise Broken("invalid SETTINGS: INITIAL_WINDOW_SIZE", ErrorCode.FLOW_CONTROL_ERROR)
    if not MAX_FRAME <= values.get(Setting.MAX_FRAME_SIZE, MAX_FRAME) <= MOST_FRAME:
        raise Broken("invalid SETTINGS: MAX_FRAME_SIZE")
    return values


def parse_word(payload: bytes, name: str) -> int:
    """Return the one number that RST_STREAM or WINDOW_UPDATE holds; raise `Broken` if its length is another."""
    if len(payload) != 4:
        raise Broken(f"invalid {name} length {len(payload)}", ErrorCode.FRAME_SIZE_ERROR)
    return int.from_bytes(payload, "big")


def parse_goaway(payload: bytes) -> tuple[int, int, bytes]:
    """Return the last stream that is served, the error code and the peer's words; raise `Broken` if too short."""
    if len(payload) < _WORDS.size:
        raise Broken(f"invalid GOAWAY length {len(payload)}", ErrorCode.FRAME_SIZE_ERROR)
    last, code = _WORDS.unpack_from(payload)
    return last & MOST_WINDOW, code, payload[_WORDS.size :]
