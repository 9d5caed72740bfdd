"""What a server of HTTP/2 sends: fed to a whole connection with a call and a stream."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from hyperframe import frame as frames

from tests.etcd.http2 import peer
from tests.etcd.http2.test_nonsense import feed
from tests.fuzz.reader import Read, Reader

_SEEDS = (
    peer.reply(1),
    peer.headers(1, (*peer.GRPC, ("grpc-status", "3"), ("grpc-message", "no%20")), "END_STREAM"),
    peer.headers(3, peer.GRPC) + peer.data(3, peer.message(b"a") + peer.message(b"b")),
    peer.settings(initial_window_size=10, max_frame_size=20_000) + peer.grow(0, 5) + peer.grow(1, 5),
    frames.HeadersFrame(1, b"").serialize() + frames.ContinuationFrame(1, peer.encoded(peer.GRPC)).serialize(),
    frames.DataFrame(1, b"x", pad_length=9, flags=["PADDED"]).serialize() + peer.reset(1, 7),
    frames.PingFrame(0, b"12345678").serialize() + peer.goaway(1, 11, b"too_many_pings"),
)


@contextmanager
def _connection() -> Iterator[Read]:
    with asyncio.Runner() as runner:

        def read(raw: bytes) -> None:
            # In two pieces, and to a client whose answers are read or not.
            runner.run(feed(raw, [len(raw) // 2], read=len(raw) % 2 == 0))

        yield read


HTTP2 = (Reader("HTTP/2", _connection, (), _SEEDS, cost=4),)
