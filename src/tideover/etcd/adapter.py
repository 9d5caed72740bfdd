"""`EtcdStore`: the port over aetcd's generated stubs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, TypeVar, cast

from aetcd import rpc

from tideover.etcd.channel import MemberChannel, answer, translated
from tideover.etcd.convert import entry_of, header_of
from tideover.etcd.endpoints import parse_endpoints, tls_for
from tideover.etcd.faults import StoreFault
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
from tideover.etcd.tls import TlsFiles
from tideover.etcd.token import Login, asks_for_token, metadata_of
from tideover.etcd.watch import open_watch
from tideover.policies import Tls
from tideover.records import Header

R = TypeVar("R", bound=Result)

# Refused within 20 ms instead of hanging for 7 s when the member has no leader. Not for serializable reads: it
# would refuse the very reads that still work.
_HAS_LEADER = (("hasleader", "true"),)
# Seconds between two looks at whether the files of TLS have changed.
_LOOK_EVERY = 60.0
# How much of an attempt's time logging in may take: the end of it must be seen here, where it is known that the
# call itself was never sent, and not by whoever gives the attempt up.
_LOGIN_SHARE = 0.9
# Seconds that repeating a call is given at the least, however late its token was renewed.
_LEAST = 0.001

_Metadata = tuple[tuple[str, str], ...]


class EtcdStore:
    """A real etcd cluster, over one channel per member.

    Belongs to the asyncio event loop in which it was made: aetcd's stubs are grpc.aio's.

    Args:
        endpoints: The members' `host:port`.
        tls: How to encrypt; None means only if an endpoint begins with `https://`.
        username: The etcd user; None if there is none.
        password: The user's password.
        look_every: Seconds between two looks at whether the files of TLS have changed.

    Raises:
        ValueError: There is no endpoint, or one is malformed, or the files of TLS cannot be used.
        RuntimeError: No asyncio event loop runs here.
    """

    def __init__(
        self,
        endpoints: Sequence[str],
        *,
        tls: Tls | None = None,
        username: str | None = None,
        password: str | None = None,
        look_every: float = _LOOK_EVERY,
    ) -> None:
        try:
            asyncio.get_running_loop()
        except RuntimeError as exc:
            raise RuntimeError("tideover talks to etcd on asyncio only, not on trio") from exc
        tls = tls_for(endpoints, tls)
        self._files = None if tls is None else TlsFiles(tls)
        self._look_every = look_every
        self._looked_at = time.monotonic()
        self._login = None if username is None else Login(username, password or "")
        self._channels = {e: MemberChannel(e, self._files) for e in parse_endpoints(endpoints)}

    def __repr__(self) -> str:
        """Show the members and the states of their connections."""
        return f"<EtcdStore {list(self._channels.values())}>"

    @property
    def members(self) -> Sequence[str]:
        """The members' endpoints, in the order given."""
        return tuple(self._channels)

    async def call(self, op: Op[R], *, member: str, timeout: float) -> R:
        """Make one attempt at one member; see `Store.call`."""
        self._look_at_files()
        channel = self._channels[member]
        if self._login is None:
            return await _send(op, channel, timeout, ())
        deadline = time.monotonic() + timeout
        token = await self._login.token(channel, timeout=timeout * _LOGIN_SHARE)
        try:
            return await _send(op, channel, _left(deadline), metadata_of(token))
        except StoreFault as exc:
            if not asks_for_token(exc.fault):
                raise
        # Whatever was refused for its token was not applied, so that it may be repeated: once.
        token = await self._login.token(channel, timeout=_left(deadline) * _LOGIN_SHARE, refused=token)
        return await _send(op, channel, _left(deadline), metadata_of(token))

    @asynccontextmanager
    async def watch(
        self, key: bytes, end: bytes | None, *, start_revision: int, member: str, timeout: float
    ) -> AsyncIterator[Watch]:
        """Open a watch; see `Store.watch`."""
        channel = self._channels[member]
        deadline = time.monotonic() + timeout

        def opening(token: str) -> AbstractAsyncContextManager[Watch]:
            return open_watch(
                channel.watch,
                key,
                end,
                start_revision=start_revision,
                timeout=_left(deadline),
                metadata=metadata_of(token),
            )

        async with AsyncExitStack() as stack:
            token = "" if self._login is None else await self._login.token(channel, timeout=timeout)
            try:
                watch = await stack.enter_async_context(opening(token))
            except StoreFault as exc:
                if self._login is None or not asks_for_token(exc.fault, watch=True):
                    raise
                token = await self._login.token(channel, timeout=_left(deadline), refused=token)
                watch = await stack.enter_async_context(opening(token))
            yield watch

    async def wait_disconnected(self, member: str) -> None:
        """Return when an established connection to the member breaks."""
        await self._channels[member].wait_disconnected()

    def renew(self, member: str) -> None:
        """Give up the connection to a member, so that the next call makes a new one at once."""
        if not self._take_new_files():
            self._channels[member].renew()

    def _look_at_files(self) -> None:
        """Look now and then whether the files of TLS have changed."""
        if self._files is not None and time.monotonic() - self._looked_at >= self._look_every:
            self._take_new_files()

    def _take_new_files(self) -> bool:
        """Renew all connections if the files of TLS have changed; say whether they have."""
        self._looked_at = time.monotonic()
        if self._files is None or not self._files.refresh():
            return False
        for channel in self._channels.values():
            channel.renew()
        return True

    async def aclose(self) -> None:
        """Close all connections."""
        for channel in self._channels.values():
            await channel.aclose()


def _left(deadline: float) -> float:
    return max(_LEAST, deadline - time.monotonic())


async def _send(op: Op[R], channel: MemberChannel, timeout: float, metadata: _Metadata) -> R:
    kv, quorum = channel.kv, (*_HAS_LEADER, *metadata)
    match op:
        case Range():
            with translated():
                request = _range_request(op)
                sent = metadata if op.serializable else quorum
                reply = await answer(kv.Range(request, timeout=timeout, metadata=sent))
            return cast("R", _range_result(reply, header_of(reply)))
        case ReadBatch(keys):
            with translated():
                request = _batch_request(keys)
                reply = await answer(kv.Txn(request, timeout=timeout, metadata=quorum))
            found = {kv.key: entry_of(kv) for one in reply.responses for kv in one.response_range.kvs}
            return cast("R", ReadBatchResult(header_of(reply), found))
        case Status():
            with translated():
                request = rpc.StatusRequest()
                reply = await answer(channel.maintenance.Status(request, timeout=timeout, metadata=metadata))
            return cast("R", StatusResult(header_of(reply), reply.version))
        case Put(key, value):
            with translated():
                request = rpc.PutRequest(key=key, value=value)
                reply = await answer(kv.Put(request, timeout=timeout, metadata=quorum))
            return cast("R", WriteResult(header_of(reply)))
        case Delete(key, end):
            with translated():
                request = rpc.DeleteRangeRequest(key=key, range_end=end or b"")
                reply = await answer(kv.DeleteRange(request, timeout=timeout, metadata=quorum))
            return cast("R", WriteResult(header_of(reply), reply.deleted))
        case _:
            raise TypeError(f"EtcdStore does not know the operation {op!r}")


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


def _batch_request(keys: Sequence[bytes]) -> Any:
    request = rpc.TxnRequest()
    # Filled in place: a quarter of what it takes to make each part by itself.
    add = request.success.add
    for key in keys:
        add().request_range.key = key
    return request


def _range_result(reply: Any, header: Header) -> RangeResult:
    entries = {kv.key: entry_of(kv) for kv in reply.kvs}
    return RangeResult(header, entries, reply.more, reply.count)
