"""All watches at one member, on one stream as long as nothing forces a second one."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import anyio

from tideover.etcd.channel import MemberChannel
from tideover.etcd.faults import StoreFault, classify
from tideover.etcd.watch import StreamWatch, WatchStream

_log = logging.getLogger("tideover")

_Metadata = tuple[tuple[str, str], ...]


class Watches:
    """The watch streams of one member.

    There is one, unless the connection was renewed or the token has changed while watches were open, or an answer
    is due that nobody waits for: then a new one takes new watches, and the old one ends with its last watch.

    Args:
        channel: The connection to the member.
    """

    def __init__(self, channel: MemberChannel) -> None:
        self._channel = channel
        self._streams: dict[WatchStream, tuple[object, _Metadata]] = {}
        self._proxied: tuple[object, bool] | None = None
        self._said = False

    def __repr__(self) -> str:
        """Show the member and its streams."""
        return f"<Watches {self._channel.endpoint} {list(self._streams)}>"

    @property
    def proxied(self) -> bool | None:
        """Whether the member is really a grpc-proxy; None if this connection has not shown it yet."""
        if self._proxied is None or self._proxied[0] is not self._channel.watch:
            return None
        return self._proxied[1]

    @asynccontextmanager
    async def open(
        self, key: bytes, end: bytes | None, *, start_revision: int, timeout: float, metadata: _Metadata
    ) -> AsyncIterator[StreamWatch]:
        """Open a watch; see `Store.watch`.

        Args:
            key: The first key.
            end: The end of the range, exclusive; None for the one key.
            start_revision: The first revision of interest; 0 begins now.
            timeout: Seconds within which it must be open.
            metadata: What to send along: the token.
        """
        stream = self._join(metadata)
        try:
            watch: StreamWatch | None = None
            with anyio.move_on_after(timeout):
                watch = await stream.create(key, end, start_revision)
            if watch is None:
                raise StoreFault(classify("DEADLINE_EXCEEDED", "Deadline Exceeded"))
            try:
                yield watch
            finally:
                stream.leave(watch)
        finally:
            stream.users -= 1
            if not stream.users:
                self._streams.pop(stream, None)
                with anyio.CancelScope(shield=True):
                    await stream.aclose()

    async def ask_whether_proxied(self, *, timeout: float) -> bool:
        """Find out whether the member is really a grpc-proxy, unless it is known.

        Needs no rights: a refusal tells as well.

        Args:
            timeout: Seconds until giving up.

        Raises:
            StoreFault: There was no answer.
        """
        if self.proxied is None:
            try:
                async with self.open(b"\0", None, start_revision=0, timeout=timeout, metadata=()):
                    pass
            except StoreFault:
                if self.proxied is None:
                    raise
        return bool(self.proxied)

    async def aclose(self) -> None:
        """End all watches."""
        for stream in list(self._streams):
            await stream.aclose()

    def _join(self, metadata: _Metadata) -> WatchStream:
        """Return the stream for a new watch, made if need be, and count this user of it."""
        stub = self._channel.watch
        here = stub, metadata
        for stream, where in self._streams.items():
            if where == here and not stream.retired:
                break
        else:
            stream = WatchStream(stub, metadata, on_answer=partial(self._learn, stub))
            self._streams[stream] = here
        stream.users += 1
        return stream

    def _learn(self, stub: object, proxied: bool) -> None:
        self._proxied = stub, proxied
        if proxied and not self._said:
            self._said = True
            _log.warning(
                "tideover: %s is an etcd grpc-proxy, not a member: configuration works through it, leases are "
                "refused; give the endpoints of the members themselves",
                self._channel.endpoint,
            )
