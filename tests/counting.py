"""A store that counts what is asked of the store behind it, and refuses what it is told to."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

import anyio
import anyio.lowlevel

from tideover.store.endpoints import Address
from tideover.store.faults import StoreFault, classify
from tideover.store.forwarding import ForwardingStore
from tideover.store.operations import Op, Result
from tideover.store.protocol import KeepAlive, Store, TakeRenewal, Watch, WatchGroup
from tideover.types import Header

R = TypeVar("R", bound=Result)

# Of the key that a request is about, and the member: a gRPC status and its words, or None to let it pass.
Refuse = Callable[[bytes | None, str], tuple[str, str] | None]


class CountingStore(ForwardingStore):
    """Counts requests: calls, streams that are opened, and renewals in them but for the first, which opens it.

    Args:
        store: The store behind it.

    Attributes:
        store: The store behind it.
        requests: When each was made, by anyio's clock.
        refuse: What is refused.
    """

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.store = store
        self.requests: list[float] = []
        self.refuse: Refuse = lambda key, member: None

    def __repr__(self) -> str:
        """Show the count."""
        return f"<CountingStore {len(self.requests)} requests of {self.store!r}>"

    def most(self, since: float, until: float, seconds: float) -> float:
        """Return the most requests a second in any stretch of so many seconds between two times."""
        made = [at for at in self.requests if since <= at < until]
        first = most = 0
        for last, at in enumerate(made):
            while made[first] <= at - seconds:
                first += 1
            most = max(most, last - first + 1)
        return most / seconds

    async def _count(self, key: bytes | None, member: str, *, opens: bool = False) -> None:
        if not opens:
            self.requests.append(anyio.current_time())
        await anyio.lowlevel.checkpoint()
        refusal = self.refuse(key, member)
        if refusal is not None:
            raise StoreFault(classify(*refusal))

    async def call(self, op: Op[R], *, member: str, timeout: float) -> R:
        """Make one attempt at one member."""
        await self._count(getattr(op, "key", None), member)
        return await self.store.call(op, member=member, timeout=timeout)

    async def add(self, address: Address, *, expected: tuple[int, int] | None = None, timeout: float) -> Header:
        """Connect to one more member."""
        await self._count(None, address.endpoint)
        return await self.store.add(address, expected=expected, timeout=timeout)

    @asynccontextmanager
    async def watch(
        self, key: bytes, end: bytes | None, *, start_revision: int, member: str, timeout: float
    ) -> AsyncIterator[Watch]:
        """Open a watch."""
        await self._count(key, member)
        opening = self.store.watch(key, end, start_revision=start_revision, member=member, timeout=timeout)
        async with opening as watch:
            yield watch

    @asynccontextmanager
    async def watch_group(self, *, member: str, timeout: float) -> AsyncIterator[WatchGroup]:
        """Begin a group of watches."""
        await self._count(None, member)
        async with self.store.watch_group(member=member, timeout=timeout) as group:
            yield group

    @asynccontextmanager
    async def keep_alive(self, *, member: str) -> AsyncIterator[KeepAlive]:
        """Open a stream for renewing leases."""
        await self._count(None, member)
        async with self.store.keep_alive(member=member) as stream:
            yield _CountingKeepAlive(self, stream, member)


class _CountingKeepAlive(KeepAlive):
    def __init__(self, store: CountingStore, stream: KeepAlive, member: str) -> None:
        self._store = store
        self._stream = stream
        self._member = member
        self._opens = True

    async def renew_all(self, leases: Sequence[int], take: TakeRenewal) -> None:
        """Renew leases."""
        opens, self._opens = self._opens, False
        await self._store._count(None, self._member, opens=opens)
        await self._stream.renew_all(leases, take)
