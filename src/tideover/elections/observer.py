"""Who leads, as anybody can see it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

import anyio

from tideover.client.gateway import Gateway
from tideover.cluster.state import Lanes
from tideover.elections.record_document import Document, decode
from tideover.errors import Closed, Unavailable
from tideover.store.faults import StoreFault
from tideover.store.operations import Lane, Range
from tideover.store.protocol import Store
from tideover.types import Entry, Leader

# Seconds before the next try after trouble; and after which all is looked at again, whatever a watch did not say.
_AFTER_TROUBLE = 0.5
_LOOK_EVERY = 10.0
_OPEN_TIMEOUT = 1.0


class Observer:
    """Reads the record of one election.

    Args:
        key: Its key.
        store: The cluster, for watches.
        gateway: The way to etcd, for reads.
        lanes: The member in use.
        closed: Returns why nothing can be asked any more; empty as long as it can.
    """

    def __init__(
        self, key: bytes, *, store: Store, gateway: Gateway, lanes: Lanes, closed: Callable[[], str]
    ) -> None:
        self._key = key
        self._store = store
        self._gateway = gateway
        self._lanes = lanes
        self._closed = closed

    def __repr__(self) -> str:
        """Show the key."""
        return f"<Observer {self._key!r}>"

    async def current(self) -> Leader | None:
        """Read who leads, through the quorum."""
        found, _ = await self._look()
        return found

    async def observe(self) -> AsyncGenerator[Leader | None, None]:
        """Yield who leads now, then whoever leads next; renewals are not told."""
        first, told = True, None
        async with aclosing(self._looks()) as looks:
            async for found in looks:
                if first or found != told:
                    first, told = False, found
                    yield found

    async def _looks(self) -> AsyncGenerator[Leader | None, None]:
        while True:
            try:
                found, revision = await self._look()
            except Unavailable:
                await anyio.sleep(_AFTER_TROUBLE)
                continue
            yield found
            await self._changed_after(revision)

    async def _look(self) -> tuple[Leader | None, int]:
        if why := self._closed():
            raise Closed(why)
        answer = (await self._gateway.call(Range(self._key))).result
        return _leader(answer.entries.get(self._key), self._key), answer.header.revision

    async def _changed_after(self, revision: int) -> None:
        """Wait for another change than a renewal; in trouble for a moment."""
        with anyio.move_on_after(_LOOK_EVERY):
            try:
                member = self._lanes.pick(Lane.QUORUM)
                async with self._store.watch(
                    self._key, None, start_revision=revision + 1, member=member, timeout=_OPEN_TIMEOUT
                ) as watch:
                    while not (await watch.receive()).events:
                        pass
            except StoreFault:
                await anyio.sleep(_AFTER_TROUBLE)


def _leader(entry: Entry | None, key: bytes) -> Leader | None:
    document: Document | None = None if entry is None else decode(entry.value, key)
    if document is None or document.vacant or not document.holder:
        return None
    return Leader(
        document.holder,
        document.term,
        document.address,
        document.value,
        document.policy,
        document.entered,
        name=document.held_by.name,
        since=document.held_by.since,
    )
