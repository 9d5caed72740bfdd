"""A watch on one gRPC stream.

aetcd's own watcher is not used: it hangs for ever on a denied watch and resumes from "now". One stream carries
one watch here, with an explicit watch id above 0 (on etcd 3.5.1 a denied watch silently kills id 0 of its
stream), and every way in which etcd can end it comes out as an exception.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import grpc
from aetcd import rpc

from tideover.etcd.channel import apart, translated
from tideover.etcd.convert import entry_of, header_of
from tideover.etcd.faults import StoreFault, classify
from tideover.etcd.store import Compacted, Event, WatchBatch

_WATCH_ID = 1
_DELETE = 1


@asynccontextmanager
async def open_watch(
    stub: Any,
    key: bytes,
    end: bytes | None,
    *,
    start_revision: int,
    timeout: float,
    metadata: tuple[tuple[str, str], ...] = (),
) -> AsyncIterator[StreamWatch]:
    """Open a watch and cancel its stream at the end; see `Store.watch`."""
    with translated():
        stream = stub.Watch(metadata=(("hasleader", "true"), *metadata))
    try:
        watch = StreamWatch(stream)
        with anyio.move_on_after(timeout) as scope:
            await watch.create(key, end, start_revision)
        if scope.cancelled_caught:
            raise StoreFault(classify("DEADLINE_EXCEEDED", "Deadline Exceeded"))
        yield watch
    finally:
        stream.cancel()


class StreamWatch:
    """A watch that is the only one on its stream."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __repr__(self) -> str:
        """Say whether the stream is still open."""
        return f"<StreamWatch {'ended' if self._stream.done() else 'open'}>"

    async def create(self, key: bytes, end: bytes | None, start_revision: int) -> None:
        """Send the create request and wait for the reply to it."""
        request = rpc.WatchCreateRequest(
            key=key,
            range_end=end or b"",
            start_revision=start_revision,
            progress_notify=True,
            watch_id=_WATCH_ID,
        )
        await apart(self._stream.write(rpc.WatchRequest(create_request=request)))
        await self._read()

    async def receive(self) -> WatchBatch:
        """Return the next frame; see `Watch.receive`."""
        reply = await self._read()
        events = tuple(
            Event(
                kv_event.kv.key,
                None if kv_event.type == _DELETE else entry_of(kv_event.kv),
                kv_event.kv.mod_revision,
            )
            for kv_event in reply.events
        )
        return WatchBatch(header_of(reply), events)

    async def request_progress(self) -> None:
        """Ask for a progress frame; see `Watch.request_progress`."""
        await apart(self._stream.write(rpc.WatchRequest(progress_request=rpc.WatchProgressRequest())))

    async def _read(self) -> Any:
        reply = await apart(self._stream.read())
        if reply is grpc.aio.EOF:
            code, details = await self._stream.code(), await self._stream.details()
            raise StoreFault(classify(code.name, details or "stream removed (ended by the server)"))
        if reply.compact_revision:
            raise Compacted(reply.compact_revision)
        if reply.canceled:
            reason = reply.cancel_reason or "stream removed (watch cancelled by the server)"
            raise StoreFault(classify("UNKNOWN", reason))
        return reply
