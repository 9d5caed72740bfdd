"""etcd with nothing in between: aetcd's generated stubs on a grpc channel, the peer of what goes over the wire."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Any

_HAS_LEADER = (("hasleader", "true"),)


class Stubs:
    """Calls to one member.

    Args:
        channel: A grpc.aio channel.
    """

    def __init__(self, channel: Any) -> None:
        self._rpc: Any = import_module("aetcd").rpc
        self._kv = self._rpc.KVStub(channel)
        self._watch = self._rpc.WatchStub(channel)

    async def put(self, key: bytes, value: bytes) -> int:
        """Write a key; return the revision."""
        return int((await self._kv.Put(self._rpc.PutRequest(key=key, value=value))).header.revision)

    async def put_all(self, values: Mapping[bytes, bytes]) -> None:
        """Write keys in one transaction."""
        puts = [
            self._rpc.RequestOp(request_put=self._rpc.PutRequest(key=key, value=value))
            for key, value in values.items()
        ]
        await self._kv.Txn(self._rpc.TxnRequest(success=puts))

    async def read(self, key: bytes, *, timeout: float) -> bytes | None:
        """Read a key through the quorum; None if it is absent."""
        reply = await self._kv.Range(self._rpc.RangeRequest(key=key), timeout=timeout, metadata=_HAS_LEADER)
        return reply.kvs[0].value if reply.kvs else None

    async def read_all(self, keys: Sequence[bytes]) -> list[bytes]:
        """Read keys that are there in one transaction."""
        reads = [self._rpc.RequestOp(request_range=self._rpc.RangeRequest(key=key)) for key in keys]
        reply = await self._kv.Txn(self._rpc.TxnRequest(success=reads), metadata=_HAS_LEADER)
        return [one.response_range.kvs[0].value for one in reply.responses]

    async def take(self, name: bytes, anchor: bytes, anchored_at: int) -> None:
        """Make a key under the condition that another one is as it was: the transaction that `tide.lock` makes."""
        rpc, target = self._rpc, self._rpc.Compare.MOD
        prefix, end = name.rpartition(b"/")[0] + b"/", name.rpartition(b"/")[0] + b"0"
        oldest = rpc.RangeRequest(
            key=prefix, range_end=end, limit=1, keys_only=True, sort_target="CREATE", sort_order="ASCEND"
        )
        taking = rpc.TxnRequest(
            compare=[
                rpc.Compare(key=anchor, target=target, mod_revision=anchored_at),
                rpc.Compare(key=name, target=target, mod_revision=0),
            ],
            success=[
                rpc.RequestOp(request_put=rpc.PutRequest(key=name, value=b"host/1")),
                rpc.RequestOp(request_range=rpc.RangeRequest(key=name)),
                rpc.RequestOp(request_range=oldest),
            ],
            failure=[
                rpc.RequestOp(request_range=rpc.RangeRequest(key=anchor)),
                rpc.RequestOp(request_range=rpc.RangeRequest(key=name)),
            ],
        )
        reply = await self._kv.Txn(taking, timeout=2.0, metadata=_HAS_LEADER)
        if not reply.succeeded:
            raise RuntimeError(f"{name!r} could not be taken")

    async def delete(self, key: bytes) -> None:
        """Delete a key."""
        await self._kv.DeleteRange(self._rpc.DeleteRangeRequest(key=key), timeout=2.0, metadata=_HAS_LEADER)

    async def watch(self, prefix: bytes, *, since: int = 0) -> Any:
        """Open a watch, from a revision on if that is not 0; return its stream when etcd has confirmed it."""
        end = prefix[:-1] + bytes([prefix[-1] + 1])
        request = self._rpc.WatchCreateRequest(key=prefix, range_end=end, watch_id=1, start_revision=since)
        stream = self._watch.Watch(metadata=_HAS_LEADER)
        await stream.write(self._rpc.WatchRequest(create_request=request))
        await stream.read()
        return stream


@asynccontextmanager
async def stubs(endpoint: str) -> AsyncIterator[Stubs]:
    """Open a connection of its own to one member."""
    grpc: Any = import_module("grpc")
    async with grpc.aio.insecure_channel(endpoint, options=(("grpc.use_local_subchannel_pool", 1),)) as channel:
        yield Stubs(channel)


@asynccontextmanager
async def watching(endpoint: str, prefix: bytes, *, since: int = 0) -> AsyncIterator[Any]:
    """Open a connection and a watch; yield the stream."""
    async with stubs(endpoint) as etcd:
        stream = await etcd.watch(prefix, since=since)
        try:
            yield stream
        finally:
            stream.cancel()
