"""`EtcdStore`: the port over etcd's stubs."""

from __future__ import annotations

import asyncio
import copy
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import TypeVar, cast

import anyio

from tideover.errors import Closed
from tideover.etcd import forks
from tideover.etcd.auth_token import Login, asks_for_token, metadata_of
from tideover.etcd.channel import MemberChannel, Pause
from tideover.etcd.connection import Connection
from tideover.etcd.keep_alives import KeepAlives
from tideover.etcd.password import PasswordSource
from tideover.etcd.proxy_detection import refusal
from tideover.etcd.requests import send
from tideover.etcd.tls import TlsFiles
from tideover.etcd.transports import chosen
from tideover.etcd.watch_streams import Watches
from tideover.policies import Password, Tls, Transport
from tideover.store.endpoints import Address, parse_endpoint, tls_for
from tideover.store.faults import Fault, FaultKind, StoreFault, classify, unless_expected
from tideover.store.leases import LeaseGrant
from tideover.store.operations import Op, Range, Result, Status, StatusResult
from tideover.store.protocol import KeepAlive, Watch, WatchGroup
from tideover.types import Header

R = TypeVar("R", bound=Result)

# Seconds between two checks for changed TLS files.
_LOOK_EVERY = 60.0
# The share of an attempt's time that logging in may take: the login's time-out must end here, where the call is
# known not to have been sent, and not in the caller's.
_LOGIN_SHARE = 0.9
# The share for a new token after an unanswered call; a call counts as unanswered that ends without an answer
# within `_CLOSE_SHARE` of its end, or after `_UNANSWERED` seconds.
_RELOGIN_SHARE = 0.5
_CLOSE_SHARE = 0.05
_UNANSWERED = 0.7
# The least seconds for repeating a call, however late its token was renewed.
_LEAST = 0.001
# Seconds for each step before a stream of keep-alives is open.
_STREAM_TIMEOUT = 1.0


class EtcdStore:
    """A real etcd cluster, over one channel per member.

    Belongs to the asyncio event loop in which it was made, as its connections do.

    Args:
        password: The password, its file, or a function that returns the password; read at each login.
        look_every: Seconds between two checks for changed TLS files.
        pause: Waits between two looks at connections: the ticker's, where there is one.
        transport: What calls go over; see `transports.chosen`.

    Raises:
        ValueError: No endpoint, an unknown transport, a malformed endpoint, or unusable TLS files.
        RuntimeError: No asyncio event loop runs here.
        Closed: This process was forked from one that was connected over gRPC, and gRPC is chosen.
    """

    def __init__(
        self,
        endpoints: Sequence[str | Address],
        *,
        tls: Tls | None = None,
        username: str | None = None,
        password: Password | None = None,
        look_every: float = _LOOK_EVERY,
        pause: Pause = asyncio.sleep,
        transport: Transport | None = None,
    ) -> None:
        try:
            asyncio.get_running_loop()
        except RuntimeError as exc:
            raise RuntimeError("tideover talks to etcd on asyncio only, not on trio") from exc
        self._transport = transport
        tls = tls_for([e for e in endpoints if isinstance(e, str)], tls)
        self._files = None if tls is None else TlsFiles(tls)
        self._look_every = look_every
        self._pause = pause
        self._looked_at = time.monotonic()
        self._urgent = False
        # By member: a silent one proves nothing about a token that others answer.
        self._unanswered: dict[str, str] = {}
        self._login = None if username is None else Login(username, PasswordSource(password or ""))
        self._spent: str | None = None
        self._channels: dict[str, MemberChannel] = {}
        # For learned members, the ids of their cluster and their own.
        self._expected: dict[str, tuple[int, int]] = {}
        self._watches: dict[str, Watches] = {}
        self._keep_alives: dict[str, KeepAlives] = {}
        self._retired: list[tuple[MemberChannel, Watches]] = []
        for given in endpoints:
            address = given if isinstance(given, Address) else Address(parse_endpoint(given))
            if address.endpoint not in self._channels:
                self._keep(address.endpoint, self._reach(address))
        if not self._channels:
            raise ValueError("give at least one endpoint")

    def __repr__(self) -> str:
        """Show the members and the states of their connections."""
        return f"<EtcdStore {list(self._channels.values())}>"

    def urgent(self) -> EtcdStore:
        """Return the same store for small calls that must not wait behind large ones: probes, renewals, proofs.

        Its reads, writes and watches use the connection without large answers.
        """
        other = copy.copy(self)
        other._urgent = True
        return other

    def transport(self, member: str) -> Transport:
        """Return what calls to a member go over."""
        return self._channel(member).transport

    @property
    def members(self) -> Sequence[str]:
        """The members' endpoints, in the order given and then added."""
        return tuple(self._channels)

    async def add(self, address: Address, *, expected: tuple[int, int] | None = None, timeout: float) -> Header:
        """Connect to one more member, if it answers; see `Store.add`."""
        endpoint = address.endpoint
        known = self._channels.get(endpoint)
        try:
            channel = known or self._reach(address)
        except Closed as exc:
            raise StoreFault(classify("UNAVAILABLE", f"failed to connect to all addresses: {exc}")) from None
        watches = self._watches[endpoint] if known else Watches(channel)
        try:
            header = await self._who(channel, watches, timeout)
            unless_expected(endpoint, header, expected)
        except BaseException:
            if known is None:
                self._retire(channel, watches)
            raise
        present = self._channels.get(endpoint)
        if present is None:
            self._keep(endpoint, channel)
        elif present is not channel:
            self._retire(channel, watches)
        if expected is not None:
            self._expected[endpoint] = expected
        return header

    def _reach(self, address: Address) -> MemberChannel:
        if chosen(self._transport, address.endpoint) == "grpc":
            forks.opened(self)
        return MemberChannel(address, self._files, self._transport)

    async def _who(self, channel: MemberChannel, watches: Watches, timeout: float) -> Header:
        """Ask a member for its ids, without a token: an unknown server must not see one."""
        deadline = time.monotonic() + timeout
        try:
            return (await send(Status(), channel, timeout, ())).header
        except StoreFault as exc:
            if exc.fault.outage:
                raise
        # Newer versions refuse even this without a token, but the refusal has their ids.
        return await watches.look(timeout=_left(deadline))

    async def _prove(self, member: str, connections: Iterable[Connection], timeout: float) -> None:
        """Check a learned member's ids before it sees a token or a password.

        Once for each connection: the address may meanwhile belong to another server.
        """
        expected = self._expected.get(member)
        if expected is None:
            return
        deadline = time.monotonic() + timeout
        for connection in connections:
            while not connection.proven:
                number = connection.number
                try:
                    header = await self._watches_of(member).look(timeout=_left(deadline), over=connection)
                except StoreFault as exc:
                    raise StoreFault(replace(exc.fault, applied=False)) from exc
                unless_expected(member, header, expected)
                if connection.number == number:
                    connection.prove(number)

    def remove(self, member: str) -> None:
        """Close a member's connections; see `Store.remove`."""
        channel = self._channels.pop(member, None)
        self._unanswered.pop(member, None)
        self._expected.pop(member, None)
        if channel is not None:
            del self._keep_alives[member]
            self._retire(channel, self._watches.pop(member))

    def _keep(self, member: str, channel: MemberChannel) -> None:
        self._channels[member] = channel
        self._watches[member] = Watches(channel)
        self._keep_alives[member] = KeepAlives(channel, partial(self._may_renew, member))

    def _retire(self, channel: MemberChannel, watches: Watches) -> None:
        channel.retire()
        # In place: `urgent` shares it.
        self._retired[:] = [(c, w) for c, w in self._retired if not c.retired] + [(channel, watches)]

    def _channel(self, member: str) -> MemberChannel:
        try:
            return self._channels[member]
        except KeyError:
            # Removed while a call was about to use it: nothing was sent.
            raise StoreFault(
                classify("UNAVAILABLE", f"failed to connect to all addresses: {member} was removed")
            ) from None

    def _watches_of(self, member: str) -> Watches:
        self._channel(member)
        return self._watches[member]

    async def call(self, op: Op[R], *, member: str, timeout: float) -> R:
        """Make one attempt at one member; see `Store.call`."""
        deadline = time.monotonic() + timeout
        # Before a connection is chosen: new files replace all connections.
        self._look_at_files()
        channel, expected = self._channel(member), self._expected.get(member)
        room = channel.room(op, urgent=self._urgent)
        connection = room.take(writes=op.writes)
        if connection is None:
            connection = await room.turn(writes=op.writes, timeout=timeout)
        with channel.named():
            try:
                result = await self._call(op, member, _left(deadline), over=connection)
                connection.heard()
            except StoreFault as exc:
                if not isinstance(op, Status) or not self._is_denied(exc.fault):
                    raise
                header = await self._watches_of(member).look(timeout=_left(deadline))
                result = cast("R", StatusResult(header, None, None))
            finally:
                room.leave(connection)
        try:
            unless_expected(member, result.header, expected)
        except StoreFault as exc:
            # gRPC connects again by itself for a call that found its connection just broken.
            connection.doubt()
            raise StoreFault(replace(exc.fault, applied=op.writes)) from None
        return result

    def _is_denied(self, fault: Fault) -> bool:
        """Whether etcd refuses this user's request, rather than that no member could be asked."""
        kinds = {FaultKind.PERMISSION, FaultKind.INVALID}
        # With a user, a refused login says nothing about the request.
        return fault.kind in (kinds if self._login else kinds | {FaultKind.AUTH_TOKEN})

    async def _call(self, op: Op[R], member: str, timeout: float, *, over: Connection) -> R:
        channel, watches = self._channel(member), self._watches_of(member)
        began = time.monotonic()
        deadline = began + timeout
        if isinstance(op, LeaseGrant):
            await self.require_member(member, timeout=timeout)
        if isinstance(op, Range) and op.serializable and await watches.ask_whether_proxied(timeout=timeout):
            # A proxy would answer from its cache, however old.
            op = cast("Op[R]", replace(op, serializable=False))
        if self._login is None:
            return await send(op, channel, _left(deadline), (), over=over)
        await self._prove(member, {channel.urgent, over}, _left(deadline) * _LOGIN_SHARE)
        token = await self._login.token(channel, timeout=_left(deadline) * _LOGIN_SHARE)
        if token and token == self._unanswered.get(member):
            # A restored etcd does not refuse a token of a later revision: it waits until that revision comes.
            with suppress(StoreFault):
                token = await self._login.token(channel, timeout=timeout * _RELOGIN_SHARE, refused=token)
        try:
            return await send(op, channel, _left(deadline), metadata_of(token), over=over)
        except (StoreFault, asyncio.CancelledError) as exc:
            gave_up = time.monotonic() >= min(began + _UNANSWERED, deadline - timeout * _CLOSE_SHARE)
            if gave_up and member in self._channels:
                self._unanswered[member] = token
            if not (isinstance(exc, StoreFault) and asks_for_token(exc.fault)):
                raise
        # A call refused for its token was not applied, and may be repeated: once.
        token = await self._login.token(channel, timeout=_left(deadline) * _LOGIN_SHARE, refused=token)
        return await send(op, channel, _left(deadline), metadata_of(token), over=over)

    @asynccontextmanager
    async def watch(
        self, key: bytes, end: bytes | None, *, start_revision: int, member: str, timeout: float
    ) -> AsyncIterator[Watch]:
        """Open a watch; see `Store.watch`."""
        channel = self._channel(member)
        deadline = time.monotonic() + timeout

        def opening(token: str) -> AbstractAsyncContextManager[Watch]:
            return self._watches[member].open(
                key,
                end,
                start_revision=start_revision,
                timeout=_left(deadline),
                metadata=metadata_of(token),
                urgent=self._urgent,
            )

        async with AsyncExitStack() as stack:
            with channel.named():
                over = channel.urgent if self._urgent else channel.bulk
                token = await self._token(member, over, _left(deadline))
                try:
                    watch = await stack.enter_async_context(opening(token))
                except StoreFault as exc:
                    if self._login is None or not asks_for_token(exc.fault, watch=True):
                        raise
                    token = await self._login.token(channel, timeout=_left(deadline), refused=token)
                    watch = await stack.enter_async_context(opening(token))
            yield watch

    @asynccontextmanager
    async def watch_group(self, *, member: str, timeout: float) -> AsyncIterator[WatchGroup]:
        """Begin a group of watches; see `Store.watch_group`."""
        channel = self._channel(member)
        with channel.named():
            over = channel.urgent if self._urgent else channel.bulk
            token = await self._token(member, over, timeout, refused=self._spent)
        try:
            group = self._watches[member].group(metadata=metadata_of(token), urgent=self._urgent)
            async with group as watches:
                yield watches
        except StoreFault as exc:
            if self._login is not None and asks_for_token(exc.fault, watch=True):
                # The next group begins with another one.
                self._spent = token
            raise

    @asynccontextmanager
    async def keep_alive(self, *, member: str) -> AsyncIterator[KeepAlive]:
        """Renew leases at a member; see `Store.keep_alive`."""
        self._channel(member)
        # Fails here rather than at the first renewal.
        await self._may_renew(member, None)
        async with self._keep_alives[member].open() as renewing:
            yield renewing

    async def _may_renew(self, member: str, refused: str | None) -> str:
        """Refuse a proxy, and return the token for a stream of renewals."""
        channel = self._channel(member)
        with channel.named():
            await self.require_member(member, timeout=_STREAM_TIMEOUT)
            return await self._token(member, channel.urgent, _STREAM_TIMEOUT, refused=refused)

    async def _token(self, member: str, over: Connection, timeout: float, *, refused: str | None = None) -> str:
        """Return the token for a stream, other than a refused one; empty without a user."""
        if self._login is None:
            return ""
        deadline = time.monotonic() + timeout
        channel = self._channel(member)
        await self._prove(member, {channel.urgent, over}, timeout)
        return await self._login.token(channel, timeout=_left(deadline), refused=refused)

    def is_proxy(self, member: str) -> bool | None:
        """Whether a member is really an etcd grpc-proxy; see `Store.is_proxy`."""
        watches = self._watches.get(member)
        return None if watches is None else watches.proxied

    def way(self, member: str) -> str:
        """Name the proxy that a member is reached through; see `Store.way`."""
        channel = self._channels.get(member)
        return "" if channel is None else channel.way

    async def require_member(self, member: str, *, timeout: float) -> None:
        """Refuse an etcd grpc-proxy; see `Store.require_member`.

        Costs one round trip per connection, and none where a watch is open.
        """
        if await self._watches_of(member).ask_together(timeout=timeout):
            raise refusal(member)

    async def wait_disconnected(self, member: str) -> None:
        """Return when an established connection to the member breaks."""
        channel = self._channels.get(member)
        if channel is not None:
            await channel.wait_disconnected(self._pause)

    def renew(self, member: str) -> None:
        """Replace the connection to a member; see `Store.renew`."""
        if not self._take_new_files() and member in self._channels:
            self._channels[member].renew()

    def _look_at_files(self) -> None:
        """Check the TLS files for changes every `look_every` seconds."""
        if self._files is not None and time.monotonic() - self._looked_at >= self._look_every:
            self._take_new_files()

    def _take_new_files(self) -> bool:
        """Replace all connections if the TLS files have changed; return whether they have."""
        self._looked_at = time.monotonic()
        if self._files is None or not self._files.refresh():
            return False
        for channel in self._channels.values():
            channel.renew()
        return True

    async def aclose(self) -> None:
        """Close all connections."""
        if self._login is not None:
            await self._login.aclose()
        retired = self._retired
        try:
            for renewing in self._keep_alives.values():
                await renewing.aclose()
            for watches in (*self._watches.values(), *(watches for _, watches in retired)):
                await watches.aclose()
            channels = (*self._channels.values(), *(channel for channel, _ in retired))
            async with anyio.create_task_group() as closing:
                for channel in channels:
                    closing.start_soon(channel.aclose)
        finally:
            # In place: `urgent` shares it.
            self._retired.clear()
            forks.closed(self)


def _left(deadline: float) -> float:
    return max(_LEAST, deadline - time.monotonic())
