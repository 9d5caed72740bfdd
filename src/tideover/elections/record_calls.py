"""The calls that a record takes: straight to the members, past the breaker, a second each on a short link.

A breaker around renewals would cause the very loss it is meant to make cheap, and behind other calls they might
wait for too long.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import TypeVar

import anyio

from tideover.clock import Clock
from tideover.cluster.state import ClusterState
from tideover.elections.record_document import decode
from tideover.errors import RecordCorrupt
from tideover.store.attempts import attempt
from tideover.store.faults import UNANSWERED, Fault, FaultKind, StoreFault
from tideover.store.operations import Lane, Op, ReadBatch, ReadBatchResult, Result
from tideover.store.protocol import Compacted, Store
from tideover.store.transactions import Txn, TxnResult

R = TypeVar("R", bound=Result)

# Seconds before a watch that broke is opened again.
_REOPEN = 0.5
# A watch is opened anew this often, at the member then in use: it might hang on one that went silent.
_WATCH_FOR = 10.0
# How often history is asked for in vain before it counts as unknown, and how many revisions etcd may be made to
# search for it: it reads them all.
_LOOKS_BACK = 3
_HISTORY_LIMIT = 20_000


class Past(StrEnum):
    """What history says of a record that is not there any more.

    Attributes:
        NONE: There was none.
        OVER: The last one was given up, or its holder cannot have led for longer than its ttl without etcd.
        OPEN: Its holder may have been confirmed by others since; or nobody could be asked.
        UNKNOWABLE: There is no history any more that could tell.
    """

    NONE = "none"
    OVER = "over"
    OPEN = "open"
    UNKNOWABLE = "unknowable"


def _past_of(raw: bytes, key: bytes) -> Past:
    try:
        found = decode(raw, key)
    except RecordCorrupt:
        return Past.OPEN
    return Past.OPEN if found.limit and found.holder and not found.vacant else Past.OVER


class RecordCalls:
    """Asks etcd about one record and its token.

    Args:
        key: The record's key.
        token_key: Its token's.
        store: The cluster.
        cluster: Whom to ask.
        clock: The clocks.
        timeout: Seconds for one attempt, and what the link takes.
        longest: Seconds for one attempt on any link.
        chance: Draws a number uniformly from [0, 1).

    Attributes:
        error: What went wrong last; None if the last call was answered.
    """

    def __init__(
        self,
        key: bytes,
        token_key: bytes,
        *,
        store: Store,
        cluster: ClusterState,
        clock: Clock,
        timeout: float,
        longest: float,
        chance: Callable[[], float],
    ) -> None:
        self.error: Fault | None = None
        self._key = key
        self._token_key = token_key
        self._store = store
        self._cluster = cluster
        self._clock = clock
        self._timeout = timeout
        self._longest = longest
        self._chance = chance
        self._tried: set[str] = set()

    def __repr__(self) -> str:
        """Show the key and the last error."""
        return f"<RecordCalls {self._key!r} {self.error or 'well'}>"

    @property
    def refused(self) -> Fault | None:
        """The definite no that the last call was answered with; None if it was not. That is no outage."""
        error = self.error
        if error is None:
            return None
        refused = error.kind is FaultKind.AUTHENTICATION and self._cluster.unauthorized
        return error if refused or error.kind in (FaultKind.PERMISSION, FaultKind.INVALID) else None

    async def read(self) -> ReadBatchResult | Fault:
        """Look at record and token, through the quorum."""
        sent_at = self._clock.monotonic()
        op = ReadBatch((self._key, self._token_key))
        answer = await self._attempt(op)
        if not isinstance(answer, Fault):
            self._cluster.succeeded(op, sent_at, answer.header)
        return answer

    async def swap(self, op: Txn) -> TxnResult | Fault:
        """Try to write; guarded by the record's revision, so that it may be tried again whatever became of it."""
        return await self._attempt(op)

    async def rest(self) -> None:
        """Go on at once while there are members left, else later with all of them; see `ClusterState.rest`."""
        await self._cluster.rest(self._tried, chance=self._chance())

    async def look_back(self, revision: int) -> Past:
        """Return what etcd's history says of a record before a revision.

        The history's last event is that of its founding or a later one: nothing needs to be waited for.

        Args:
            revision: Where it was founded.
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
                await self.rest()
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
        """Tell when the record may have changed: a watch brings news at once, but what it brings proves nothing.

        Args:
            since: Returns the revision up to which all is known.
            tell: Called with the revision of a change.
        """
        while True:
            # In an outage nobody can change the record.
            await self._cluster.outage_over()
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
        return min(self._cluster.limit(member, self._timeout), self._longest)

    def _note(self, member: str, fault: Fault) -> Fault:
        self.error = fault
        self._tried.add(member)
        self._cluster.failed(fault)
        return fault
