"""A store that passes every call on to another one: the base of stores that check, count or break calls."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import TypeVar

from tideover.store.endpoints import Address
from tideover.store.operations import Op, Result
from tideover.store.protocol import KeepAlive, Store, Watch, WatchGroup
from tideover.types import Header

R = TypeVar("R", bound=Result)


class ForwardingStore:
    """Passes every call of the port on; see `Store`. A subclass overrides the calls that it changes."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def __repr__(self) -> str:
        """Show the store behind it."""
        return f"<{type(self).__name__} {self._store!r}>"

    @property
    def members(self) -> Sequence[str]:
        """The members' names."""
        return self._store.members

    async def add(self, address: Address, *, expected: tuple[int, int] | None = None, timeout: float) -> Header:
        """Connect to one more member, if it answers."""
        return await self._store.add(address, expected=expected, timeout=timeout)

    def remove(self, member: str) -> None:
        """Close a member's connections."""
        self._store.remove(member)

    async def call(self, op: Op[R], *, member: str, timeout: float) -> R:
        """Make one attempt at one member."""
        return await self._store.call(op, member=member, timeout=timeout)

    def watch(
        self, key: bytes, end: bytes | None, *, start_revision: int, member: str, timeout: float
    ) -> AbstractAsyncContextManager[Watch]:
        """Open a watch."""
        return self._store.watch(key, end, start_revision=start_revision, member=member, timeout=timeout)

    def watch_group(self, *, member: str, timeout: float) -> AbstractAsyncContextManager[WatchGroup]:
        """Begin a group of watches."""
        return self._store.watch_group(member=member, timeout=timeout)

    def keep_alive(self, *, member: str) -> AbstractAsyncContextManager[KeepAlive]:
        """Renew leases at a member."""
        return self._store.keep_alive(member=member)

    def is_proxy(self, member: str) -> bool | None:
        """Whether a member is an `etcd grpc-proxy`; None until a watch has shown which."""
        return self._store.is_proxy(member)

    async def require_member(self, member: str, *, timeout: float) -> None:
        """Refuse an `etcd grpc-proxy`."""
        await self._store.require_member(member, timeout=timeout)

    def way(self, member: str) -> str:
        """Return what lies on the way to a member, in words."""
        return self._store.way(member)

    async def wait_disconnected(self, member: str) -> None:
        """Return when an established connection to the member breaks."""
        await self._store.wait_disconnected(member)

    def renew(self, member: str) -> None:
        """Replace the connection to a member."""
        self._store.renew(member)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._store.aclose()
