"""An election's record as an operator sees it: to be read, and to be deleted when no process leads by it.

A leader that is still alive finds the record gone with its next renewal, which is a definite no, and etcd refuses
its guarded writes at once. Candidates find traces of an earlier record, and wait: for ttl and margin; under
"peers" for `confirm_limit` and two margins of it, because peers may confirm a leader that is cut off from etcd for
so long. Tokens are revisions, so the next one is larger.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass

import anyio

from tideover.client.client import Client
from tideover.client.gateway import Gateway
from tideover.client.pages import pages
from tideover.elections.record_document import RecordDocument, decode
from tideover.errors import ElectionMismatch, RecordCorrupt, Unavailable
from tideover.shown import shown
from tideover.store.operations import Delete, Put, Range, ReadBatch
from tideover.store.transactions import Compare, Txn
from tideover.types import Entry, Source

# Seconds between two looks for a renewal.
_LOOK_EVERY = 0.25
# Records in a page of a list; their tokens are read in one call.
_PAGE = 64
_TOKEN = b"/token"


@dataclass(frozen=True, slots=True)
class RecordSnapshot:
    """A record and its token, at one moment.

    Attributes:
        revision: The revision that last changed the record; 0 if there is none.
        token: The fencing token: the revision that last changed the token key; 0 if there is none.
        document: What the record says; None if there is none, or it cannot be read.
        corrupt: Why the record cannot be read; None if it can.
        source: Whether a quorum answered, or a surviving member, which may be behind.
    """

    revision: int
    token: int
    document: RecordDocument | None
    corrupt: RecordCorrupt | None
    source: Source

    @property
    def state(self) -> str:
        """One word: `"none"`, `"corrupt"`, `"vacant"` or `"led"`, once a leader was elected."""
        if self.corrupt is not None:
            return "corrupt"
        if self.document is None:
            return "none"
        return "vacant" if self.document.vacant or not self.document.holder else "led"


class ElectionAdmin:
    """The record of one election."""

    def __init__(self, key: bytes, client: Client) -> None:
        self._key = key
        self._token_key = key + _TOKEN
        self._home = client.home
        self._gateway = client.calls

    async def look(self) -> RecordSnapshot:
        """Read record and token: through the quorum, else from a surviving member.

        Raises:
            Unavailable: No member answers either.
            PermissionDenied: This user may not read them.

        When degraded:
            Returns what a surviving member has, and says so (`RecordSnapshot.source`).
        """
        self._home.check(self)
        keys = (self._key, self._token_key)
        try:
            found = (await self._gateway.call(ReadBatch(keys))).result.entries
        except Unavailable as away:
            try:
                entries = await _read_from_member(keys, self._gateway)
            except Unavailable:
                raise away from None
            return _snapshot(self._key, entries, Source.MEMBER)
        return _snapshot(self._key, found, Source.QUORUM)

    async def renewed(self, seen: RecordSnapshot, within: float) -> RecordSnapshot | None:
        """Wait up to `within` seconds for a change of the record; return the new one, or None without a change.

        Raises:
            Unavailable: etcd is away.
        """
        self._home.check(self)
        until = anyio.current_time() + within
        while anyio.current_time() < until:
            await anyio.sleep(_LOOK_EVERY)
            now = await self.look()
            if now.revision != seen.revision:
                return now
        return None

    async def clear(self, seen: RecordSnapshot) -> int:
        """Delete the record, if it has not changed, and raise the token; return the revision.

        Raises:
            ElectionMismatch: The record has changed meanwhile: a process leads, or another operator was quicker.
            OutcomeUnknown: The record may or may not be deleted.
            Unavailable: etcd is away, and nothing was done.
            PermissionDenied: This user may not write them.

        When degraded:
            Raises; in a declared outage at once and without a packet.
        """
        self._home.check(self)
        op = Txn(
            (Compare(self._key, mod_revision=seen.revision),),
            then=(Delete(self._key), Put(self._token_key, b"reset")),
        )
        result = (await self._gateway.call(op)).result
        if not result.succeeded:
            raise ElectionMismatch(f"{shown(self._key)} has changed meanwhile: it was left alone")
        return result.header.revision


async def snapshots(prefix: bytes, gateway: Gateway) -> AsyncIterator[tuple[str, RecordSnapshot]]:
    """Yield the names and records of all elections, in the order of their keys; names with raw bytes escaped.

    Raises:
        TideoverError: As of `pages`.
    """
    async for page in pages(gateway, prefix, size=_PAGE):
        records = {key: entry for key, entry in page.entries.items() if not key.endswith(_TOKEN)}
        # A token's key follows its record's, but keys of other elections may come between them.
        tokens, source = await _tokens(tuple(key + _TOKEN for key in records), page.source, gateway)
        for key, entry in records.items():
            name = key.removeprefix(prefix).decode(errors="backslashreplace")
            yield name, _snapshot(key, {**tokens, key: entry}, source)


async def _tokens(
    keys: tuple[bytes, ...], source: Source, gateway: Gateway
) -> tuple[Mapping[bytes, Entry], Source]:
    if not keys:
        return {}, source
    if source is Source.QUORUM:
        with suppress(Unavailable):
            return (await gateway.call(ReadBatch(keys))).result.entries, source
    return await _read_from_member(keys, gateway), Source.MEMBER


async def _read_from_member(keys: tuple[bytes, ...], gateway: Gateway) -> Mapping[bytes, Entry]:
    answers = [(await gateway.call(Range(key, serializable=True))).result for key in keys]
    return {key: entry for answer in answers for key, entry in answer.entries.items()}


def _snapshot(key: bytes, entries: Mapping[bytes, Entry], source: Source) -> RecordSnapshot:
    record, token = entries.get(key), entries.get(key + _TOKEN)
    document: RecordDocument | None = None
    corrupt: RecordCorrupt | None = None
    try:
        document = None if record is None else decode(record.value, key)
    except RecordCorrupt as exc:
        corrupt = exc
    return RecordSnapshot(
        record.mod_revision if record else 0,
        token.mod_revision if token else 0,
        document,
        corrupt,
        source,
    )
