"""Renewing leases on one gRPC stream.

aetcd opens a stream per renewal and takes the answer "TTL 0" for a success. Here a stream lives as long as its
owner, one question at a time, so that each answer belongs to the question before it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc

from tideover.etcd.channel import apart, translated
from tideover.etcd.messages import rpc
from tideover.etcd.requests import HAS_LEADER, Metadata, header_of
from tideover.store.faults import StoreFault, classify
from tideover.store.operations import LeaseResult


@asynccontextmanager
async def open_keep_alive(stub: Any, *, metadata: Metadata = ()) -> AsyncIterator[StreamKeepAlive]:
    """Open a stream and cancel it at the end; see `Store.keep_alive`."""
    with translated():
        stream = stub.LeaseKeepAlive(metadata=(*HAS_LEADER, *metadata))
    try:
        yield StreamKeepAlive(stream)
    finally:
        stream.cancel()


class StreamKeepAlive:
    """A stream of renewals.

    Args:
        stream: What the stub returned.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._asking = False

    def __repr__(self) -> str:
        """Say whether the stream is still open."""
        return f"<StreamKeepAlive {'ended' if self._stream.done() else 'open'}>"

    async def renew(self, lease: int) -> LeaseResult:
        """Renew a lease; see `KeepAlive.renew`."""
        if self._asking:
            raise RuntimeError("a keep-alive stream with an unanswered question is of no more use: open another")
        self._asking = True
        await apart(self._stream.write(rpc.LeaseKeepAliveRequest(ID=lease)))
        reply = await apart(self._stream.read())
        if reply is grpc.aio.EOF:
            code, details = await self._stream.code(), await self._stream.details()
            raise StoreFault(classify(code.name, details or "stream removed (ended by the server)"))
        self._asking = False
        return LeaseResult(header_of(reply), reply.ID, reply.TTL, reply.TTL)
