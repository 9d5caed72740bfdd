"""The store behind the identity: nothing of a foreign cluster, or of another history unannounced, gets past.

Everybody above uses this instead of the store, the monitor's probes included: there is one place to be right.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, TypeVar

import anyio

from tideover.clock import Clock
from tideover.epoch.tracker import EpochTracker
from tideover.store.faults import UNANSWERED, Fault, StoreFault, classify
from tideover.store.forwarding import ForwardingStore
from tideover.store.operations import LeaseResult, Op, Result
from tideover.store.protocol import KeepAlive, Store, TakeRenewal, Watch, WatchBatch, WatchGroup
from tideover.types import Header

R = TypeVar("R", bound=Result)


class EpochCheckedStore(ForwardingStore):
    """A store whose answers are all of one history, until a reset was announced."""

    def __init__(self, store: Store, identity: EpochTracker, *, clock: Clock) -> None:
        super().__init__(store)
        self._identity = identity
        self._clock = clock

    async def call(self, op: Op[R], *, member: str, timeout: float) -> R:
        """Make one attempt at one member; see `Store.call`. A foreign member's answer is a fault."""
        if op.writes:
            self._refuse_foreign(member)
        sent_at = self._clock.monotonic()
        result = await self._store.call(op, member=member, timeout=timeout)
        if self._identity.passes(member, sent_at, result.header, linearizable=op.linearizable):
            return result
        # What is held back for longer than the caller has is as good as no answer.
        with anyio.move_on_after(max(0.0, sent_at + timeout - self._clock.monotonic())):
            await self._identity.admit(member, sent_at, result.header, linearizable=op.linearizable)
            return result
        raise StoreFault(UNANSWERED)

    @asynccontextmanager
    async def watch(
        self, key: bytes, end: bytes | None, *, start_revision: int, member: str, timeout: float
    ) -> AsyncIterator[Watch]:
        """Open a watch; see `Store.watch`. It ends with its history."""
        self._refuse_foreign(member)
        history = self._identity.history
        opening = self._store.watch(key, end, start_revision=start_revision, member=member, timeout=timeout)
        async with opening as watch:
            yield EpochCheckedWatch(watch, lambda header: self._check(member, header, history))

    @asynccontextmanager
    async def watch_group(self, *, member: str, timeout: float) -> AsyncIterator[WatchGroup]:
        """Begin a group of watches; see `Store.watch_group`. It ends with its history."""
        self._refuse_foreign(member)
        history = self._identity.history
        async with self._store.watch_group(member=member, timeout=timeout) as group:
            yield EpochCheckedGroup(group, lambda header: self._check(member, header, history))

    @asynccontextmanager
    async def keep_alive(self, *, member: str) -> AsyncIterator[KeepAlive]:
        """Renew leases at a member; see `Store.keep_alive`. It ends with the member's history."""
        self._refuse_foreign(member)
        history = self._identity.history
        async with self._store.keep_alive(member=member) as stream:
            yield EpochCheckedKeepAlive(stream, lambda header: self._check(member, header, history))

    def _refuse_foreign(self, member: str) -> None:
        """Send nothing to a member that is known to belong to another cluster."""
        cluster_id = self._identity.foreign.get(member)
        if cluster_id is not None:
            raise StoreFault(self._identity.refusal(member, cluster_id, applied=False))

    def _check(self, member: str, header: Header, history: object) -> None:
        """End a stream that tells of another cluster, or was opened in another history."""
        identity = self._identity
        if history is not identity.history:
            raise StoreFault(classify("UNAVAILABLE", "stream removed (it was of another history of etcd's)"))
        if identity.known.cluster_id not in (0, header.cluster_id):
            raise StoreFault(identity.refusal(member, header.cluster_id))
        identity.record(header)


class EpochCheckedWatch:
    """A watch whose frames are looked at; see `Watch`."""

    def __init__(self, watch: Watch, check: Callable[[Header], None]) -> None:
        self._watch = watch
        self._check = check

    @property
    def opened_at(self) -> int:
        """The member's revision when it was opened."""
        return self._watch.opened_at

    async def receive(self) -> WatchBatch:
        """Return the next frame."""
        batch = await self._watch.receive()
        self._check(batch.header)
        return batch

    async def request_progress(self) -> None:
        """Ask for a frame that says up to which revision the watch has come."""
        await self._watch.request_progress()


class EpochCheckedGroup:
    """A group of watches whose frames are looked at; see `WatchGroup`."""

    def __init__(self, group: WatchGroup, check: Callable[[Header], None]) -> None:
        self._group = group
        self._check = check
        self.add = group.add
        self.drop = group.drop
        self.request_progress = group.request_progress

    async def receive(self) -> Sequence[tuple[Any, WatchBatch | StoreFault]]:
        """Return what has come."""
        frames = await self._group.receive()
        for _, frame in frames:
            if isinstance(frame, WatchBatch):
                self._check(frame.header)
        return frames


class EpochCheckedKeepAlive(KeepAlive):
    """Renews leases and looks at the answers; see `KeepAlive`."""

    def __init__(self, stream: KeepAlive, check: Callable[[Header], None]) -> None:
        self._stream = stream
        self._check = check

    async def renew_all(self, leases: Sequence[int], take: TakeRenewal) -> None:
        """Renew leases."""
        refusal: StoreFault | None = None

        def look(lease: int, answer: LeaseResult | Fault) -> None:
            nonlocal refusal
            if refusal is None:
                try:
                    if isinstance(answer, LeaseResult):
                        self._check(answer.header)
                except StoreFault as exc:
                    # Not raised here, where it would end what others renew.
                    refusal = exc
                    scope.cancel()
                else:
                    take(lease, answer)

        with anyio.CancelScope() as scope:
            await self._stream.renew_all(leases, look)
        if refusal is not None:
            raise refusal
