"""`EtcdStore`: the port over aetcd's generated stubs."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar, cast

from aetcd import rpc

from tideover.etcd.channel import MemberChannel, answer, translated
from tideover.etcd.convert import entry_of, header_of
from tideover.etcd.endpoints import parse_endpoints
from tideover.etcd.store import (
    Delete,
    Op,
    Put,
    Range,
    RangeResult,
    ReadBatch,
    ReadBatchResult,
    Result,
    Status,
    StatusResult,
    Watch,
    WriteResult,
)
from tideover.etcd.watch import open_watch
from tideover.records import Header

R = TypeVar("R", bound=Result)

# Refused within 20 ms instead of hanging for 7 s when the member has no leader. Not for serializable reads: it
# would refuse the very reads that still work.
_HAS_LEADER = (("hasleader", "true"),)


class EtcdStore:
    """A real etcd cluster, over one channel per member.

    Belongs to the asyncio event loop in which it was made: aetcd's stubs are grpc.aio's.

    Args:
        endpoints: The members' `host:port`.

    Raises:
        ValueError: There is no endpoint, or one is malformed.
        RuntimeError: No asyncio event loop runs here.
    """

    def __init__(self, endpoints: Sequence[str]) -> None:
        try:
            asyncio.get_running_loop()
        except RuntimeError as exc:
            raise RuntimeError(
                "tideover talks to etcd on asyncio only; on trio give it a store of your own"
            ) from exc
        self._channels = {endpoint: MemberChannel(endpoint) for endpoint in parse_endpoints(endpoints)}

    def __repr__(self) -> str:
        """Show the members and the states of their connections."""
        return f"<EtcdStore {list(self._channels.values())}>"

    @property
    def members(self) -> Sequence[str]:
        """The members' endpoints, in the order given."""
        return tuple(self._channels)

    async def call(self, op: Op[R], *, member: str, timeout: float) -> R:
        """Make one attempt at one member; see `Store.call`."""
        kv, maintenance = self._channels[member].kv, self._channels[member].maintenance
        match op:
            case Range():
                metadata = None if op.serializable else _HAS_LEADER
                with translated():
                    reply = await answer(kv.Range(_range_request(op), timeout=timeout, metadata=metadata))
                return cast("R", _range_result(reply, header_of(reply)))
            case ReadBatch(reads):
                request = rpc.TxnRequest(success=[rpc.RequestOp(request_range=_range_request(r)) for r in reads])
                with translated():
                    reply = await answer(kv.Txn(request, timeout=timeout, metadata=_HAS_LEADER))
                header = header_of(reply)
                # The answers within a transaction do not name the cluster; the transaction's own header does.
                results = tuple(_range_result(r.response_range, header) for r in reply.responses)
                return cast("R", ReadBatchResult(header, results))
            case Status():
                with translated():
                    reply = await answer(maintenance.Status(rpc.StatusRequest(), timeout=timeout))
                return cast("R", StatusResult(header_of(reply), reply.version))
            case Put(key, value):
                with translated():
                    request = rpc.PutRequest(key=key, value=value)
                    reply = await answer(kv.Put(request, timeout=timeout, metadata=_HAS_LEADER))
                return cast("R", WriteResult(header_of(reply)))
            case Delete(key, end):
                with translated():
                    request = rpc.DeleteRangeRequest(key=key, range_end=end or b"")
                    reply = await answer(kv.DeleteRange(request, timeout=timeout, metadata=_HAS_LEADER))
                return cast("R", WriteResult(header_of(reply), reply.deleted))
            case _:
                raise TypeError(f"EtcdStore does not know the operation {op!r}")

    def watch(
        self, key: bytes, end: bytes | None, *, start_revision: int, member: str, timeout: float
    ) -> AbstractAsyncContextManager[Watch]:
        """Open a watch; see `Store.watch`."""
        return open_watch(self._channels[member].watch, key, end, start_revision=start_revision, timeout=timeout)

    async def wait_disconnected(self, member: str) -> None:
        """Return when an established connection to the member breaks."""
        await self._channels[member].wait_disconnected()

    def renew(self, member: str) -> None:
        """Give up the connection to a member, so that the next call makes a new one at once."""
        self._channels[member].renew()

    async def aclose(self) -> None:
        """Close all connections."""
        for channel in self._channels.values():
            await channel.aclose()


def _range_request(op: Range) -> Any:
    return rpc.RangeRequest(
        key=op.key,
        range_end=op.end or b"",
        serializable=op.serializable,
        limit=op.limit,
        revision=op.revision,
        keys_only=op.keys_only,
        min_mod_revision=op.changed_since,
    )


def _range_result(reply: Any, header: Header) -> RangeResult:
    entries = {kv.key: entry_of(kv) for kv in reply.kvs}
    return RangeResult(header, entries, reply.more, reply.count)
