"""Reads and watches an election's record, without being a candidate."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

import anyio

from tideover.client.client import Client
from tideover.elections.record_document import RecordDocument, decode
from tideover.errors import Unavailable
from tideover.store.faults import StoreFault
from tideover.store.operations import Lane, Range
from tideover.types import Leader

# Seconds before the next try after trouble, and before the record is read again without news from the watch.
_AFTER_TROUBLE = 0.5
_LOOK_EVERY = 10.0
_OPEN_TIMEOUT = 1.0


@dataclass(frozen=True, slots=True)
class Observation:
    """A record, as a linearizable answer shows it."""

    document: RecordDocument | None
    written_at: int
    revision: int

    @property
    def leader(self) -> Leader | None:
        """The leader that the record names; None if there is none."""
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
    """Reads the record of one election."""

    def __init__(self, key: bytes, client: Client) -> None:
        self._key = key
        self._client = client

    async def current(self) -> Leader | None:
        """Read the leader, through the quorum."""
        return (await self.look()).leader

    async def observe(self) -> AsyncGenerator[Leader | None, None]:
        """Yield the leader now, and each time it or its value changes; renewals yield nothing."""
        first, last = True, None
        async with aclosing(self._looks()) as looks:
            async for found in looks:
                if first or found != last:
                    first, last = False, found
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

    async def look(self) -> Observation:
        """Read the record, through the quorum."""
        self._client.lifecycle.check()
        answer = (await self._client.calls.call(Range(self._key))).result
        entry = answer.entries.get(self._key)
        if entry is None:
            return Observation(None, 0, answer.header.revision)
        return Observation(decode(entry.value, self._key), entry.mod_revision, answer.header.revision)

    async def changed_after(self, revision: int, *, within: float = math.inf) -> None:
        """Wait for the next write of the record, at most 10 s or `within`; after a fault of etcd for a moment."""
        with anyio.move_on_after(min(within, _LOOK_EVERY)):
            try:
                member = self._client.state.pick(Lane.QUORUM)
                async with self._client.direct.store.watch(
                    self._key, None, start_revision=revision + 1, member=member, timeout=_OPEN_TIMEOUT
                ) as watch:
                    while not (await watch.receive()).events:
                        pass
            except StoreFault:
                await anyio.sleep(_AFTER_TROUBLE)
