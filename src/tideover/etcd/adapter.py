"""`EtcdStore`: the port over aetcd's generated stubs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from typing import TypeVar

from tideover.etcd.channel import MemberChannel
from tideover.etcd.endpoints import parse_endpoints, tls_for
from tideover.etcd.faults import StoreFault
from tideover.etcd.keepalive import open_keep_alive
from tideover.etcd.requests import send
from tideover.etcd.store import KeepAlive, Op, Result, Watch
from tideover.etcd.tls import TlsFiles
from tideover.etcd.token import Login, asks_for_token, metadata_of
from tideover.etcd.watch import open_watch
from tideover.policies import Tls

R = TypeVar("R", bound=Result)

# Seconds between two looks at whether the files of TLS have changed.
_LOOK_EVERY = 60.0
# How much of an attempt's time logging in may take: the end of it must be seen here, where it is known that the
# call itself was never sent, and not by whoever gives the attempt up.
_LOGIN_SHARE = 0.9
# How much of it may be spent on a new token after a call was not answered, and within which share of its end a
# call counts as not answered.
_RELOGIN_SHARE = 0.5
_CLOSE_SHARE = 0.05
# Seconds that repeating a call is given at the least, however late its token was renewed.
_LEAST = 0.001
# Seconds that a token for a stream of keep-alives may take.
_STREAM_LOGIN = 1.0


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
        self._unanswered = ""
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
            return await send(op, channel, timeout, ())
        deadline = time.monotonic() + timeout
        token = await self._login.token(channel, timeout=timeout * _LOGIN_SHARE)
        if token and token == self._unanswered:
            # An etcd that was restored does not refuse a token from its future: it waits for that to come.
            with suppress(StoreFault):
                token = await self._login.token(channel, timeout=timeout * _RELOGIN_SHARE, refused=token)
        try:
            return await send(op, channel, _left(deadline), metadata_of(token))
        except StoreFault as exc:
            if not asks_for_token(exc.fault):
                raise
        finally:
            if time.monotonic() >= deadline - timeout * _CLOSE_SHARE:
                self._unanswered = token
        # Whatever was refused for its token was not applied, so that it may be repeated: once.
        token = await self._login.token(channel, timeout=_left(deadline) * _LOGIN_SHARE, refused=token)
        return await send(op, channel, _left(deadline), metadata_of(token))

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

    @asynccontextmanager
    async def keep_alive(self, *, member: str) -> AsyncIterator[KeepAlive]:
        """Open a stream for renewing leases; see `Store.keep_alive`."""
        channel = self._channels[member]
        token = "" if self._login is None else await self._login.token(channel, timeout=_STREAM_LOGIN)
        try:
            async with open_keep_alive(channel.lease, metadata=metadata_of(token)) as stream:
                yield stream
        except StoreFault as exc:
            if self._login is not None and asks_for_token(exc.fault):
                # The next stream begins with a new one.
                self._login.forget(token)
            raise

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
