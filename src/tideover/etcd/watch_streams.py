"""All watches at one member, on one stream as long as nothing forces a second one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import anyio

from tideover import telemetry
from tideover.etcd.channel import MemberChannel
from tideover.etcd.connection import Connection
from tideover.etcd.watch_group import StreamGroup
from tideover.etcd.watch_stream import StreamWatch, WatchStream
from tideover.store.faults import UNANSWERED, StoreFault, is_learner, is_masked
from tideover.types import Header

# Refused, and later ended, when the member has no leader, instead of silent.
_HAS_LEADER = (("hasleader", "true"),)

# How often a member is asked while grpc masks the reason of its refusal.
_ASKS = 8

_Metadata = tuple[tuple[str, str], ...]


class Watches:
    """The watch streams of one member.

    There is one stream a connection, unless the connection or the token was replaced while watches were open, or a
    creation was unanswered too long: then a new stream takes new watches, and the old one ends with its last user.
    """

    def __init__(self, channel: MemberChannel) -> None:
        self._channel = channel
        self._streams: dict[WatchStream, tuple[object, _Metadata]] = {}
        self._proxied: tuple[object, bool] | None = None
        self._reported = False
        self._asking: tuple[object, anyio.Lock] = (channel.watch, anyio.Lock())

    @property
    def proxied(self) -> bool | None:
        """Whether the member is a grpc-proxy; None if this connection has not shown it yet."""
        if self._proxied is None or self._proxied[0] is not self._channel.watch:
            return None
        return self._proxied[1]

    @asynccontextmanager
    async def open(
        self,
        key: bytes,
        end: bytes | None,
        *,
        start_revision: int,
        timeout: float,
        metadata: _Metadata,
        urgent: bool = False,
    ) -> AsyncIterator[StreamWatch]:
        """Open a watch; see `Store.watch`. An urgent one waits behind no large answers."""
        connection = self._channel.urgent if urgent else self._channel.bulk
        async with self._stream(connection.watch, (*_HAS_LEADER, *metadata)) as stream:
            watch: StreamWatch | None = None
            with anyio.move_on_after(timeout):
                watch = await stream.create(key, end, start_revision)
            if watch is None:
                stream.retired = True
                raise StoreFault(UNANSWERED)
            try:
                yield watch
            finally:
                stream.leave(watch)

    @asynccontextmanager
    async def group(self, *, metadata: _Metadata, urgent: bool = False) -> AsyncIterator[StreamGroup]:
        """Begin a group of watches; see `Store.watch_group`."""
        connection = self._channel.urgent if urgent else self._channel.bulk
        async with self._stream(connection.watch, (*_HAS_LEADER, *metadata)) as stream:
            group = StreamGroup(stream)
            try:
                yield group
            finally:
                group.close()

    async def ask_whether_proxied(self, *, timeout: float) -> bool:
        """Return whether the member is a grpc-proxy, asking only if unknown.

        Needs no permission, because a refusal shows it too, and no leader. A learner opens no watches.
        """
        if self.proxied is None:
            stub = self._channel.watch
            try:
                await self.look(timeout=timeout)
            except StoreFault as exc:
                if is_learner(exc.fault):
                    self._record_proxied(stub, proxied=False)
                elif self.proxied is None:
                    raise
        if self.proxied is None:
            raise StoreFault(UNANSWERED)
        return self.proxied

    async def look(self, *, timeout: float, over: Connection | None = None) -> Header:
        """Return the header of the member at the other end, by a watch without a token: a refusal has one too.

        A learner opens no watches, and is refused with `StoreFault`.
        """
        stub = (over or self._channel.urgent).watch
        with anyio.move_on_after(timeout):
            for left in reversed(range(_ASKS)):
                # Without `hasleader`: a member without a leader would refuse before it says who it is.
                async with self._stream(stub, ()) as stream:
                    try:
                        stream.leave(await stream.create(b"\0", None, 0))
                    except StoreFault as exc:
                        if stream.answered is None and not (left and is_masked(exc.fault)):
                            raise
                    if stream.answered is not None:
                        return stream.answered
        raise StoreFault(UNANSWERED)

    async def ask_together(self, *, timeout: float) -> bool:
        """Return whether the member is a proxy, with one question for all concurrent callers.

        After an outage a thousand sessions ask. Not for probes: a late one must not wait for another.
        """
        if self.proxied is None:
            with anyio.move_on_after(timeout):
                # A question over the old connection, which may be dead, does not delay one over the new.
                if self._asking[0] is not self._channel.watch:
                    self._asking = self._channel.watch, anyio.Lock()
                async with self._asking[1]:
                    return await self.ask_whether_proxied(timeout=timeout)
            raise StoreFault(UNANSWERED)
        return self.proxied

    async def aclose(self) -> None:
        """End all watches."""
        for stream in list(self._streams):
            await stream.aclose()

    @asynccontextmanager
    async def _stream(self, stub: object, metadata: _Metadata) -> AsyncIterator[WatchStream]:
        """Yield a usable stream, opened if need be; its last user closes it."""
        here, connected = (stub, metadata), self._channel.watch
        usable = (stream for stream, where in self._streams.items() if where == here and not stream.retired)
        stream = next(usable, None) or WatchStream(
            stub, metadata, on_answer=partial(self._record_proxied, connected)
        )
        self._streams[stream] = here
        stream.users += 1
        try:
            yield stream
        finally:
            stream.users -= 1
            if not stream.users:
                self._streams.pop(stream, None)
                with anyio.CancelScope(shield=True):
                    await stream.aclose()

    def _record_proxied(self, stub: object, proxied: bool) -> None:
        self._proxied = stub, proxied
        if proxied and not self._reported:
            self._reported = True
            telemetry.member_proxied(self._channel.endpoint)
