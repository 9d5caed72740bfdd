"""etcd's queue for one lock: keys under one prefix, served in the order in which they were made.

*Guarantee.* `wait` returns only if one linearizable read has shown our own key and no older one. A watch wakes the
waiter, and nothing else depends on the watch: the queue is read again whenever the watch ends, the member is in
doubt, or some seconds have passed.

*Not guaranteed.* That the first key stays: a user who may write the namespace can delete it. The watch on a held
key tells that; see `sessions.key_watch`.

Prior art: the recipe of etcd's Go package `concurrency` (`Mutex.Lock`, `waitDeletes`), with the same keys, so
that `etcdctl lock` and services in Go stand in the same queue: `{prefix}{lease in hexadecimal}`, ordered by create
revision; the first one has the lock. A waiter watches only the key right before its own: when that goes, one
waiter wakes, not all. (Hunt et al., "ZooKeeper: Wait-free coordination for Internet-scale systems", ATC 2010, call
the opposite the herd effect.) Unlike in Go, only keys directly under the prefix count: "orders/42" does not stand
in the queue of "orders".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import anyio

from tideover import telemetry
from tideover.client.client import Client
from tideover.errors import AuthenticationFailed, InvalidRequest, SessionLost
from tideover.foreign_bytes import INT64, hexadecimal
from tideover.holders import Holder
from tideover.sessions.key import LeasedKey, anchors
from tideover.shown import shown
from tideover.status import RejectedValue
from tideover.store.faults import FaultKind, StoreFault, public_error
from tideover.store.leases import LeaseTimeToLive
from tideover.store.operations import Range, RangeResult, Sort, prefix_end
from tideover.store.protocol import Compacted, Watch
from tideover.types import Entry

# Seconds after which a waiter reads the queue, however quiet the watch is; plus up to as much again.
_LOOK_EVERY = 5.0
# Seconds before the end of its time at which a waiter reads once more who has the lock, to be able to say so.
_LAST_LOOK = 0.25
# Seconds to open a watch, and up to how many to let pass before the next try.
_OPEN_WITHIN = 1.0
_AFTER_TROUBLE = 0.2
# What is said of a key in a queue that no client of a lock has made.
NO_PLACE = "named after no lease: until it is deleted nobody behind it has the lock"


def is_place(name: bytes) -> bool:
    """Whether the end of a key is that of a waiter or holder: a lease, as tideover, Go and etcdctl write it."""
    try:
        lease = hexadecimal(name.decode(), "a lease", most=INT64)
        return lease > 0 and name == b"%x" % lease
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class Before:
    """A key before ours, as it was at the revision `seen_at`."""

    key: bytes
    entry: Entry
    seen_at: int


@dataclass(slots=True)
class Ahead:
    """What was seen before our key; kept with the key, for a task that goes on waiting with it.

    Attributes:
        last: The key last seen right before ours; None if none was.
        gone_at: The revision at which that key went; None if that was not seen.
        holder: The first key of the queue when it was last read, which has the lock; None if none was.
    """

    last: Before | None = None
    gone_at: int | None = None
    holder: Before | None = None


@lru_cache(maxsize=4096)
def queue_head(namespace: str, name: str) -> Range:
    """Return what reads the first key of a lock's queue, with its value, which says who has the lock."""
    prefix = f"{namespace}/locks/{name}/".encode()
    return Range(prefix, prefix_end(prefix), limit=1, sort=Sort.OLDEST)


class EtcdQueue:
    """The queue of one lock."""

    def __init__(self, client: Client, name: str) -> None:
        self._client = client
        self._cluster = client.state
        self._head = queue_head(client.namespace, name)
        self._prefix = self._head.key
        self._end = self._head.end

    async def wait(self, own: LeasedKey, *, ahead: Ahead | None = None, why: bool = False) -> bool:
        """Wait until our key is the first.

        Args:
            ahead: What an earlier wait has seen before our key; kept up to date. None if this is the first wait.
            why: Whether to find out how the last holder left.

        Returns:
            Whether the last key before ours vanished with its lease, instead of being deleted by its holder; False
            if that was not asked for, or no key was before ours.

        Raises:
            SessionLost: Our key is gone.
            Unavailable: etcd is away.
            TideoverError: A definite no, such as `PermissionDenied`.

        When degraded:
            Raises `CircuitOpen` once an outage is declared; our key stays where it is.
        """
        ahead = ahead or Ahead()
        before = await self.before(own)
        while True:
            if before is None:
                ahead.holder = None
                left = ahead.last
                return why and left is not None and await self._has_vanished(left, ahead.gone_at)
            if _time_left() <= 0:
                ahead.holder = await self.holder()
            ahead.last, ahead.gone_at = before, None
            for each in self.foreign(ahead):
                telemetry.place_rejected(each.key, each.revision, each.reason)
            try:
                before = await self._departure(ahead, before, own, why=why)
            except StoreFault as exc:
                self._client.direct.report(exc.fault)
                if not (exc.fault.outage or exc.fault.retry_read or exc.fault.kind is FaultKind.COMPACTED):
                    raise public_error(exc.fault, doing=f"watch {shown(ahead.last.key)}", writes=False) from exc
                await anyio.sleep(_AFTER_TROUBLE * self._client.random())
                before = await self.before(own)

    async def before(self, own: LeasedKey) -> Before | None:
        """Return the key right before ours; None if ours is the first. Raises as `wait` does."""
        if own.gone:
            raise SessionLost(f"{own.key!r} is gone: {own.gone.reason}", definite=True)
        # Our key and the one before it in one read: that ours is there counts as much as that none is before it.
        # Not in a transaction, in which a read that runs out of time ends the member: see docs/decisions/0023.
        nearest = self._until(own, limit=2)
        answered = await self._client.calls.call(nearest)
        found = answered.result
        entry = found.entries.get(own.full)
        if entry is None or entry.create_revision != own.create_revision:
            at = found.header.revision
            raise SessionLost(f"{own.key!r} was not there any more at revision {at}", definite=True)
        if found.more and not self._others(own, found.entries):
            # The nearest one stands in the queue of a longer name.
            found = (await self._client.calls.call(self._until(own))).result
        key = next((key for key in self._direct(found.entries) if key != own.full), None)
        return None if key is None else Before(key, found.entries[key], answered.result.header.revision)

    def first_in(self, found: RangeResult) -> Before | None:
        """Return the first key in the answer to `queue_head`; None if that is of a longer name's queue."""
        key = next(iter(self._direct(found.entries)), None)
        return None if key is None else Before(key, found.entries[key], found.header.revision)

    def describe(self, key: Before) -> str:
        """Return whose key this is, for people, as far as that is known."""
        where = f"key {shown(key.key)}, since revision {key.entry.create_revision}"
        name = key.key[len(self._prefix) :]
        if not is_place(name):
            return f"nobody: foreign {where}, {NO_PLACE}"
        holder = Holder.read(key.entry.value)
        return str(holder) if holder.since else f"{holder.name or 'another client'} (lease {shown(name)}, {where})"

    def foreign(self, ahead: Ahead) -> list[RejectedValue]:
        """Return those of the keys seen before ours that no lease takes away, and so may stay for good."""
        seen = {each.key: each for each in (ahead.holder, ahead.last) if each is not None}
        return [
            RejectedValue(key.decode(errors="backslashreplace"), each.entry.mod_revision, f"it is {NO_PLACE}")
            for key, each in seen.items()
            if not is_place(key[len(self._prefix) :])
        ]

    async def holder(self) -> Before | None:
        """Return the first key of the queue, which has the lock; None if there is none. Raises as `wait` does."""
        return self.first_in((await self._client.calls.call(self._head)).result)

    def _until(self, own: LeasedKey, limit: int = 0) -> Range:
        return Range(
            self._prefix,
            self._end,
            limit=limit,
            sort=Sort.NEWEST,
            created_until=own.create_revision,
        )

    async def rival(self, own: LeasedKey) -> None:
        """Return when a waiter elsewhere is seen, or when that cannot be known."""
        newest = Range(self._prefix, self._end, keys_only=True, sort=Sort.NEWEST)
        try:
            found = await self._client.direct.ask(newest, timeout=_OPEN_WITHIN)
            if self._others(own, found.entries):
                return
            member = self._cluster.active
            opening = self._client.direct.store.watch(
                self._prefix,
                self._end,
                start_revision=found.header.revision + 1,
                member=member,
                timeout=_OPEN_WITHIN,
            )
            async with opening as watch:
                while True:
                    batch = await watch.receive()
                    made = {event.key: event.entry for event in batch.events if event.entry is not None}
                    if self._others(own, made):
                        return
        except StoreFault:
            return

    def _others(self, own: LeasedKey, found: Mapping[bytes, Entry]) -> bool:
        return any(key != own.full for key in self._direct(found))

    def _direct(self, found: Mapping[bytes, Entry]) -> list[bytes]:
        # Keys of longer names have a slash more.
        start = len(self._prefix)
        return [key for key in found if b"/" not in key[start:]]

    async def _departure(self, ahead: Ahead, before: Before, own: LeasedKey, *, why: bool) -> Before | None:
        """Wait until a key goes, or there is reason to look again; return which key is before ours then.

        Raises:
            StoreFault: The watch has ended.
            TideoverError: As of `before`.
        """
        # etcd serves a watch of what is past every 100 ms, and one of what comes next at once (`syncWatchersLoop`
        # in its `mvcc/watchable_store.go`). So the watch begins now, and what has happened since the last read is
        # read again; unless the exact revision matters.
        member = self._cluster.active
        begin = before.seen_at + 1 if why else 0
        opening = self._client.direct.store.watch(
            before.key, None, start_revision=begin, member=member, timeout=_OPEN_WITHIN
        )
        async with opening as watch:
            if not why and watch.opened_at > before.seen_at:
                now = await self.before(own)
                if now is None or now.key != before.key:
                    return now
            ahead.gone_at = await self._deletion(watch, member, own)
            return await self.before(own)

    async def _deletion(self, watch: Watch, member: str, own: LeasedKey) -> int | None:
        """Return the revision at which the watched key is deleted; None if there is reason to look again."""
        gone_at: int | None = None
        ended: StoreFault | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._doubt, member, own, tasks.cancel_scope)
            try:
                while gone_at is None:
                    batch = await watch.receive()
                    gone_at = next((event.revision for event in batch.events if event.entry is None), None)
            except Compacted:
                pass
            except StoreFault as exc:
                ended = exc
            tasks.cancel_scope.cancel()
        if ended is not None:
            raise ended
        return gone_at

    async def _doubt(self, member: str, own: LeasedKey, scope: anyio.CancelScope) -> None:
        """End the wait for the watch when the member is in doubt, our key is gone, or time has passed."""
        cluster = self._cluster
        patience = _LOOK_EVERY * (1 + self._client.random())
        left = _time_left()
        with anyio.move_on_after(left if 0 < left < patience else patience), own.gone.ending(scope):
            while cluster.health.quorum.closed and (cluster.active == member or member in cluster.well):
                await cluster.changed.wait()
        scope.cancel()

    async def _has_vanished(self, before: Before, gone_at: int | None) -> bool:
        """Whether a key went with its lease; True if that cannot be known."""
        lease = before.key[len(self._prefix) :]
        try:
            number = hexadecimal(lease.decode(), "a lease", most=INT64)
        except ValueError:
            return False
        try:
            if gone_at is not None and (there := await self._anchor_was_there(lease, gone_at)) is not None:
                return not there
            return (await self._client.calls.call(LeaseTimeToLive(number))).result.ttl <= 0
        except AuthenticationFailed:
            raise
        except Exception:  # noqa: BLE001  # whatever prevents the answer: to wait longer is safe
            return True

    async def _anchor_was_there(self, lease: bytes, gone_at: int) -> bool | None:
        """Whether a key's session still was there when the key went; None if the key is another client's."""
        anchor = anchors(self._client.base) + lease
        try:
            found = (await self._client.calls.call(Range(anchor, revision=gone_at, keys_only=True))).result
            if found.entries:
                return True
            found = (await self._client.calls.call(Range(anchor, revision=gone_at - 1, keys_only=True))).result
        except InvalidRequest:  # compacted
            return None
        return False if found.entries else None


def _time_left() -> float:
    """Return the seconds until the last look before the end of the caller's time."""
    return anyio.current_effective_deadline() - anyio.current_time() - _LAST_LOOK
