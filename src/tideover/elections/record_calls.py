"""The calls for one record: straight to the members, past the breaker, with a second each on a short link.

A breaker around renewals would cause the very loss that it should make cheap, and behind other calls renewals
might wait for too long.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

import anyio

from tideover.client.client import Client
from tideover.elections.record_document import RecordDocument, decode
from tideover.elections.rules.candidate import Seen, Timing
from tideover.errors import RecordCorrupt
from tideover.store.attempts import attempt
from tideover.store.faults import UNANSWERED, Fault, FaultKind, StoreFault
from tideover.store.operations import Lane, Op, Put, Range, ReadBatch, Result
from tideover.store.protocol import Compacted
from tideover.store.transactions import Compare, Txn
from tideover.types import Entry, Header

R = TypeVar("R", bound=Result)

# Seconds before a watch that broke is opened again.
_REOPEN = 0.5
# Seconds after which a watch moves to the member then in use: its own member may have gone silent.
_WATCH_FOR = 10.0
# The failed tries before history counts as unknown, and the revisions of history that etcd may have to read.
_LOOKS_BACK = 3
_HISTORY_LIMIT = 20_000


class Past(StrEnum):
    """What etcd's history says of earlier records under a key."""

    NONE = "none"
    OVER = "over"  # the last holder vacated its record, or cannot have led for longer than its ttl without etcd
    OPEN = "open"  # peers may have confirmed the last holder since; or no member answered
    UNKNOWABLE = "unknowable"  # etcd has compacted the history


def _past_of(raw: bytes, key: bytes) -> Past:
    try:
        found = decode(raw, key)
    except RecordCorrupt:
        return Past.OPEN
    return Past.OPEN if found.limit and found.holder and not found.vacant else Past.OVER


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of etcd: a write that was applied, or the record and its token as they are."""

    header: Header
    record: Entry | None = None
    token: Entry | None = None
    written: bool = False


class RecordCalls:
    """Reads, swaps and watches one record and its token."""

    def __init__(self, key: bytes, token_key: bytes, client: Client, timing: Timing) -> None:
        self.error: Fault | None = None
        self._key = key
        self._token_key = token_key
        self._store = client.direct.store
        self._cluster = client.state
        self._clock = client.clock
        self._timing = timing
        self._chance = client.random
        self._tried: set[str] = set()

    @property
    def refused(self) -> Fault | None:
        """The last answer, if it was a definite no, which is no outage."""
        error = self.error
        if error is None:
            return None
        refused = error.kind is FaultKind.AUTHENTICATION and self._cluster.health.unauthorized
        return error if refused or error.kind in (FaultKind.PERMISSION, FaultKind.INVALID) else None

    async def read(self) -> Answer | Fault:
        """Read record and token, through the quorum."""
        sent_at = self._clock.monotonic()
        op = ReadBatch((self._key, self._token_key))
        answer = await self._attempt(op)
        if isinstance(answer, Fault):
            return answer
        self._cluster.succeeded(op, sent_at, answer.header)
        return self._answer(answer.header, answer.entries)

    async def swap(
        self, seen: Seen, document: RecordDocument, *, taking: bool = False, renewing: bool = False
    ) -> Answer | Fault:
        """Write a document over the record as it was seen; taking writes the token too, renewing compares it.

        The compare makes another try safe, whatever became of this one.
        """
        put = Put(self._key, document.encode())
        token = (Put(self._token_key, document.holder.encode()),) if taking else ()
        fence = (Compare(self._token_key, mod_revision=seen.token),) if renewing else ()
        answer = await self._attempt(
            Txn(
                (Compare(self._key, mod_revision=seen.mod_revision), *fence),
                then=(put, *token),
                otherwise=(Range(self._key), Range(self._token_key)),
            )
        )
        if isinstance(answer, Fault):
            return answer
        if answer.succeeded:
            return Answer(answer.header, written=True)
        return self._answer(answer.header, answer.entries(0).entries | answer.entries(1).entries)

    def _answer(self, header: Header, entries: Mapping[bytes, Entry]) -> Answer:
        return Answer(header, entries.get(self._key), entries.get(self._token_key))

    async def back_off(self) -> None:
        """Return at once while there are members left to try, else after a pause; see `Breakers.back_off`."""
        await self._cluster.breakers.back_off(self._tried)

    async def look_back(self, revision: int) -> Past:
        """Return what etcd's history says of records before a revision, at which the present one was founded.

        The founding is an event of that history, so the watch always ends.
        """
        if revision > _HISTORY_LIMIT:
            return Past.UNKNOWABLE
        for _ in range(_LOOKS_BACK):
            member = self._cluster.pick(Lane.QUORUM, self._tried)
            try:
                with anyio.fail_after(self._limit(member)):
                    return await self._past(revision, member)
            except Compacted:
                return Past.UNKNOWABLE
            except (TimeoutError, StoreFault) as exc:
                self._note(member, exc.fault if isinstance(exc, StoreFault) else UNANSWERED)
                await self.back_off()
        return Past.OPEN

    async def _past(self, revision: int, member: str) -> Past:
        past = Past.NONE
        async with self._store.watch(
            self._key, None, start_revision=1, member=member, timeout=self._limit(member)
        ) as history:
            while True:
                for event in (await history.receive()).events:
                    if event.revision >= revision:
                        return past
                    if event.entry is not None:
                        past = _past_of(event.entry.value, self._key)

    async def listen(self, since: Callable[[], int], tell: Callable[[int], None]) -> None:
        """Call `tell` when the record may have changed. A watch brings news at once, but news prove nothing."""
        while True:
            # In an outage nobody can change the record.
            await self._cluster.breakers.outage_over()
            known, member = since(), self._cluster.pick(Lane.QUORUM)
            try:
                with anyio.move_on_after(_WATCH_FOR):
                    async with self._store.watch(
                        self._key,
                        None,
                        start_revision=known + 1 if known else 0,
                        member=member,
                        timeout=self._limit(member),
                    ) as watch:
                        while True:
                            events = (await watch.receive()).events
                            if events:
                                tell(events[-1].revision)
            except StoreFault:
                await anyio.sleep(_REOPEN)

    async def _attempt(self, op: Op[R]) -> R | Fault:
        member = self._cluster.pick(Lane.QUORUM, self._tried)
        answer = await attempt(self._store, op, member=member, timeout=self._limit(member))
        if isinstance(answer, Fault):
            return self._note(member, answer)
        self.error = None
        return answer

    def _limit(self, member: str) -> float:
        return min(self._cluster.limit(member, self._timing.rpc_timeout), self._timing.longest_rpc)

    def _note(self, member: str, fault: Fault) -> Fault:
        self.error = fault
        self._tried.add(member)
        self._cluster.failed(fault)
        return fault
