"""A connection fed with anything: it ends in order, calls end, and what it holds is bounded."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.etcd.http2 import peer
from tests.etcd.http2.test_frames import pieces
from tideover.etcd.http2 import frames
from tideover.etcd.http2.call import Call, UnaryCall
from tideover.etcd.http2.connection import Connection
from tideover.etcd.http2.options import Options
from tideover.etcd.http2.reply_headers import MAX_BLOCK
from tideover.etcd.http2.sending import Sender
from tideover.etcd.http2.stream_call import StreamCall
from tideover.store.faults import classify


class Wire(asyncio.Transport):
    """A transport that leads nowhere, and counts what is written while nobody reads."""

    def __init__(self, *, read: bool) -> None:
        super().__init__()
        self.connection: Connection | None = None
        self.read = read
        self.written = 0
        self._closing = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Count bytes; say that there are many, once there are."""
        self.written += len(data)
        if not self.read and self.written > 65_536 and self.connection is not None:
            self.connection.pause_writing()

    def is_closing(self) -> bool:
        """Return whether it was closed."""
        return self._closing

    def get_write_buffer_size(self) -> int:
        """Return how much nobody has read."""
        return 0 if self.read else self.written

    def close(self) -> None:
        """Close."""
        self._closing = True

    abort = close


class Owner:
    """Ends the calls that come back."""

    def made(self, connection: Connection) -> None:
        """Do nothing."""

    def gone(self, connection: Connection) -> None:
        """Do nothing."""

    def lost(self, connection: Connection) -> None:
        """Do nothing."""

    def take_back(self, calls: list[Call], why: str) -> None:
        """End the calls."""
        for call in calls:
            call.cancel()


streams = st.sampled_from([0, 1, 1, 3, 3, 2, 5, 2**31 - 1])
payload = st.one_of(
    st.binary(max_size=60),
    st.sampled_from([peer.encoded(peer.GRPC), peer.encoded(peer.OK), peer.message(b"reply"), bytes(16_384)]),
    st.integers(0, 2**32 - 1).map(lambda number: number.to_bytes(4, "big")),
)
likely = st.builds(frames.frame, st.integers(0, 10), st.integers(0, 255), streams, payload)
junk = st.lists(st.one_of(likely, likely, likely, st.binary(max_size=40)), max_size=25).map(b"".join)


async def feed(data: bytes, cuts: list[int], *, read: bool) -> None:
    """Feed bytes to a connection with a call and a stream; see that nothing is left waiting and little is held."""
    connection, wire = Connection(Owner(), Options()), Wire(read=read)
    wire.connection = connection
    connection.connection_made(wire)
    connection.data_received(peer.settings())
    unary = UnaryCall(b"\x83", peer.message(b"x"), bytes, 60.0)
    stream = StreamCall(b"\x83", bytes, bytes, None)
    for call in (unary, stream):
        connection.start(call)
    fed = 0
    for piece in pieces(data, cuts):
        if wire.is_closing():
            break
        connection.data_received(piece)
        fed += len(piece)
        assert len(connection._splitter.rest) < 9 + frames.MAX_FRAME
        assert len(connection._block) <= MAX_BLOCK + frames.MAX_FRAME
        assert len(connection._sender._owed) <= 2 * 16_384
        assert stream._held <= 2 << 20
    if wire.is_closing():
        connection.connection_lost(None)
    else:
        connection.abort("the end")
    for ended in (unary, stream):
        assert ended.status is not None
        if ended.status.name != "OK":
            fault = classify(ended.status.name, await ended.details())
            # No nonsense is a no; what the server says by HTTP or gRPC may be.
            assert fault.outage or b"grpc-status" in data or "http2 header" in fault.message, fault
    # What each byte makes this side answer is bounded, too.
    assert wire.written < 2_000 + 40 * (fed + 1)


@pytest.mark.parametrize("read", [True, False], ids=["read", "unread"])
@given(data=junk, cuts=st.lists(st.integers(0, 100_000), max_size=6))
@settings(max_examples=150, deadline=None)
def test_whatever_a_server_sends(read: bool, data: bytes, cuts: list[int]) -> None:
    """No bytes raise anything, strand a call, or make this side hold or send without bound."""
    asyncio.run(feed(data, cuts, read=read))


@pytest.mark.anyio
async def test_nothing_is_written_after_the_end() -> None:
    """Of a connection that has broken nothing more is written, whatever its calls still have to say: asyncio logs
    a warning for each such write."""
    wire = Wire(read=True)
    sender = Sender(wire)
    sender.write(b"before")
    wire.close()
    sender.write(b"after")
    sender.owe(b"an answer", now=True)
    assert wire.written == len(b"before")
