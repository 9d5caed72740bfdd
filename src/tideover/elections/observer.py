"""Who leads, as anybody can see it."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass

import anyio

from tideover.client.gateway import Gateway
from tideover.cluster.state import ClusterState
from tideover.elections.record_document import RecordDocument, decode
from tideover.errors import Closed, Unavailable
from tideover.store.faults import StoreFault
from tideover.store.operations import Lane, Range
from tideover.store.protocol import Store
from tideover.types import Leader

# Seconds before the next try after trouble; and after which all is looked at again, whatever a watch did not say.
_AFTER_TROUBLE = 0.5
_LOOK_EVERY = 10.0
_OPEN_TIMEOUT = 1.0


@dataclass(frozen=True, slots=True)
class Sighting:
    """A record, as a linearizable answer shows it.

    Attributes:
        document: What it says; None if there is none.
        written_at: The revision that last changed it; 0 if there is none.
        revision: The answer's revision.
    """

    document: RecordDocument | None
    written_at: int
    revision: int

    @property
    def leader(self) -> Leader | None:
        """Who leads, as it says; None if nobody does."""
        document = self.document
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


class Observer:
    """Reads the record of one election.

    Args:
        key: Its key.
        store: The cluster, for watches.
        gateway: The way to etcd, for reads.
        cluster: The member in use.
        closed: Returns why nothing can be asked any more; empty as long as it can.
    """

    def __init__(
        self, key: bytes, *, store: Store, gateway: Gateway, cluster: ClusterState, closed: Callable[[], str]
    ) -> None:
        self._key = key
        self._store = store
        self._gateway = gateway
        self._cluster = cluster
        self._closed = closed

    def __repr__(self) -> str:
        """Show the key."""
        return f"<Observer {self._key!r}>"

    async def current(self) -> Leader | None:
        """Read who leads, through the quorum."""
        return (await self.look()).leader

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
                seen = await self.look()
            except Unavailable:
                await anyio.sleep(_AFTER_TROUBLE)
                continue
            yield seen.leader
            await self.changed_after(seen.revision)

    async def look(self) -> Sighting:
        """Read the record, through the quorum."""
        if why := self._closed():
            raise Closed(why)
        answer = (await self._gateway.call(Range(self._key))).result
        entry = answer.entries.get(self._key)
        if entry is None:
            return Sighting(None, 0, answer.header.revision)
        return Sighting(decode(entry.value, self._key), entry.mod_revision, answer.header.revision)

    async def changed_after(self, revision: int, *, within: float = math.inf) -> None:
        """Wait until the record is written again, or it is time to look all the same; in trouble for a moment."""
        with anyio.move_on_after(min(within, _LOOK_EVERY)):
            try:
                member = self._cluster.pick(Lane.QUORUM)
                async with self._store.watch(
                    self._key, None, start_revision=revision + 1, member=member, timeout=_OPEN_TIMEOUT
                ) as watch:
                    while not (await watch.receive()).events:
                        pass
            except StoreFault:
                await anyio.sleep(_AFTER_TROUBLE)
