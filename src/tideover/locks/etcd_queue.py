"""Waiters in a line: keys under one prefix, served in the order in which they were made.

The layout is that of etcd's Go package `concurrency`, so that `etcdctl lock` and services in Go stand in the
same line: `{prefix}{lease in hexadecimal}`, ordered by create revision, the first one has it. A waiter watches
only the key right before its own; when that goes, one waiter wakes, not all. (Hunt et al., "ZooKeeper:
Wait-free coordination for Internet-scale systems", ATC 2010, call the opposite the herd effect.)

*Guarantee.* `wait` returns only if one linearizable read has shown our own key and no older one. It is woken by
a watch and does not rely on it: it looks again whenever the watch ends, the member is in doubt, or some seconds
have passed.

Unlike in Go, only keys directly under the prefix count: "orders/42" does not stand in the line of "orders".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import anyio

from tideover import telemetry
from tideover.client.direct import DirectCalls
from tideover.client.gateway import Gateway
from tideover.cluster.state import ClusterState
from tideover.errors import AuthenticationFailed, InvalidRequest, SessionLost
from tideover.foreign_bytes import INT64, hexadecimal
from tideover.holders import Holder
from tideover.sessions.key import LeasedKey
from tideover.shown import shown
from tideover.status import RejectedValue
from tideover.store.faults import FaultKind, StoreFault, public_error
from tideover.store.leases import LeaseTimeToLive
from tideover.store.operations import Range, RangeResult, Sort, prefix_end
from tideover.store.protocol import Compacted, Watch
from tideover.types import Entry

# Seconds after which a waiter looks for itself, however quiet the watch is; plus up to as much again.
_LOOK_EVERY = 5.0
# Seconds before the end of the caller's time at which it looks once more who has the lock, to be able to say so.
_LAST_LOOK = 0.25
# Seconds to open a watch, and up to how many to let pass before the next try.
_OPEN_WITHIN = 1.0
_AFTER_TROUBLE = 0.2
# What is said of a key in the line that is no place in it.
NO_PLACE = "named after no lease: until it is deleted nobody behind it has the lock"


def is_place(name: bytes) -> bool:
    """Whether the end of a key is that of a place in a line: a lease, as tideover, Go and etcdctl write it."""
    try:
        lease = hexadecimal(name.decode(), "a lease", most=INT64)
        return lease > 0 and name == b"%x" % lease
    except ValueError:
        return False


@dataclass(frozen=True, slots=True)
class Before:
    """The key right before ours.

    Attributes:
        key: The key.
        entry: Its entry.
        seen_at: The revision at which it was seen there.
    """

    key: bytes
    entry: Entry
    seen_at: int


@dataclass(slots=True)
class Ahead:
    """Who stood before a key, as far as that was seen: whoever goes on waiting with it knows it, too.

    Attributes:
        last: The key last seen right before ours; None if none was.
        holder: The first key of the line when it was last seen, which has the lock; None if none was.
        gone_at: The revision at which it went; None if that was not seen.
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
    """One line of waiters.

    Args:
        head: Reads the first key; see `queue_head`.
        anchors: The prefix of the sessions' own keys, which tell an owner that let go from one that vanished.
        gateway: The way for reads, which an outage may refuse.
        direct: The way to the members, for watches.
        chance: Draws a number uniformly from [0, 1).
    """

    def __init__(
        self,
        head: Range,
        *,
        anchors: bytes,
        gateway: Gateway,
        direct: DirectCalls,
        cluster: ClusterState,
        chance: Callable[[], float],
    ) -> None:
        self._head = head
        self._prefix = head.key
        self._end = head.end
        self._anchors = anchors
        self._gateway = gateway
        self._reach = direct
        self._cluster = cluster
        self._chance = chance

    def __repr__(self) -> str:
        """Show the prefix."""
        return f"<EtcdQueue {self._prefix!r}>"

    async def wait(self, own: LeasedKey, *, ahead: Ahead | None = None, why: bool = False) -> bool:
        """Wait until our key is the first.

        Args:
            own: Our key.
            ahead: Who was seen before it by an earlier wait; kept up to date. None if this is the first one.
            why: Whether to find out how the one before us left.

        Returns:
            Whether the last one before us vanished with its lease, instead of letting go; False if that was not
            asked for, or nobody was before us.

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
                self._reach.report(exc.fault)
                if not (exc.fault.outage or exc.fault.retry_read or exc.fault.kind is FaultKind.COMPACTED):
                    raise public_error(exc.fault, doing=f"watch {shown(ahead.last.key)}", writes=False) from exc
                await anyio.sleep(_AFTER_TROUBLE * self._chance())
                before = await self.before(own)

    async def before(self, own: LeasedKey) -> Before | None:
        """Return the key right before ours; None if ours is the first.

        Raises:
            SessionLost: Our key is gone.
            TideoverError: As of `wait`.
        """
        if own.gone:
            raise SessionLost(f"{own.key!r} is gone: {own.gone.reason}", definite=True)
        # Our key and the one before it in one read: that ours is there counts as much as that none is before it.
        # Not in a transaction: see docs/decisions/0023.
        nearest = self._until(own, limit=2)
        answered = await self._gateway.call(nearest)
        found = answered.result
        entry = found.entries.get(own.full)
        if entry is None or entry.create_revision != own.create_revision:
            at = found.header.revision
            raise SessionLost(f"{own.key!r} was not there any more at revision {at}", definite=True)
        if found.more and not self._others(own, found.entries):
            # The nearest one stands in the line of a longer name.
            found = (await self._gateway.call(self._until(own))).result
        key = next((key for key in self._direct(found.entries) if key != own.full), None)
        return None if key is None else Before(key, found.entries[key], answered.result.header.revision)

    def first_in(self, found: RangeResult) -> Before | None:
        """Return the first key in the answer to `queue_head`; None if that stands in the line of a longer name."""
        key = next(iter(self._direct(found.entries)), None)
        return None if key is None else Before(key, found.entries[key], found.header.revision)

    def describe(self, key: Before) -> str:
        """Return whose a key of this line is, for people, as far as it is known."""
        where = f"key {shown(key.key)}, since revision {key.entry.create_revision}"
        name = key.key[len(self._prefix) :]
        if not is_place(name):
            return f"nobody: foreign {where}, {NO_PLACE}"
        holder = Holder.read(key.entry.value)
        return str(holder) if holder.since else f"{holder.name or 'another client'} (lease {shown(name)}, {where})"

    def foreign(self, ahead: Ahead) -> list[RejectedValue]:
        """Return what of the keys last seen before one of ours is nobody's place, and so never goes by itself."""
        seen = {each.key: each for each in (ahead.holder, ahead.last) if each is not None}
        return [
            RejectedValue(key.decode(errors="backslashreplace"), each.entry.mod_revision, f"it is {NO_PLACE}")
            for key, each in seen.items()
            if not is_place(key[len(self._prefix) :])
        ]

    async def holder(self) -> Before | None:
        """Return the first key of the line, which has the lock; None if there is none, or it cannot be told.

        Raises:
            TideoverError: As of `wait`.
        """
        found = (await self._gateway.call(self._head)).result
        return self.first_in(found)

    def _until(self, own: LeasedKey, limit: int = 0) -> Range:
        return Range(
            self._prefix,
            self._end,
            limit=limit,
            sort=Sort.NEWEST,
            created_until=own.create_revision,
        )

    async def rival(self, own: LeasedKey) -> None:
        """Return when somebody else is seen to wait, or when that cannot be known."""
        newest = Range(self._prefix, self._end, keys_only=True, sort=Sort.NEWEST)
        try:
            found = await self._reach.ask(newest, timeout=_OPEN_WITHIN)
            if self._others(own, found.entries):
                return
            member = self._cluster.active
            opening = self._reach.store.watch(
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
        """Return the keys that stand in this line."""
        start = len(self._prefix)
        return [key for key in found if b"/" not in key[start:]]

    # Watching the one before us --------------------------------------------------------------------------------

    async def _departure(self, ahead: Ahead, before: Before, own: LeasedKey, *, why: bool) -> Before | None:
        """Wait until it goes, or there is reason to look again; return who is before us then.

        etcd serves a watch of what is past every 100 ms, and one of what is to come at once
        (`syncWatchersLoop` in its `mvcc/watchable_store.go`). So the watch begins now, and what has happened
        between the look before it and its opening is read again; unless it is of interest when exactly that was.

        Raises:
            StoreFault: The watch has ended.
            TideoverError: As of `before`.
        """
        member = self._cluster.active
        begin = before.seen_at + 1 if why else 0
        opening = self._reach.store.watch(
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
        """Return at which revision the key watched is deleted; None if there is reason to look again."""
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
        """End the wait for the watch when there is reason to look again."""
        cluster = self._cluster
        patience = _LOOK_EVERY * (1 + self._chance())
        left = _time_left()
        with anyio.move_on_after(left if 0 < left < patience else patience), own.gone.ending(scope):
            while cluster.health.quorum.closed and (cluster.active == member or member in cluster.well):
                await cluster.changed.wait()
        scope.cancel()

    # Why it has gone -------------------------------------------------------------------------------------------

    async def _has_vanished(self, before: Before, gone_at: int | None) -> bool:
        """Whether a key went with its lease. If that cannot be known, it counts as if it had."""
        lease = before.key[len(self._prefix) :]
        try:
            number = hexadecimal(lease.decode(), "a lease", most=INT64)
        except ValueError:
            return False
        try:
            if gone_at is not None and (there := await self._anchor_was_there(lease, gone_at)) is not None:
                return not there
            return (await self._gateway.call(LeaseTimeToLive(number))).result.ttl <= 0
        except AuthenticationFailed:
            raise
        except Exception:  # noqa: BLE001  # whatever prevents the answer: to wait longer is safe
            return True

    async def _anchor_was_there(self, lease: bytes, gone_at: int) -> bool | None:
        """Whether the session still was there when its key went; None if it is no session of ours."""
        anchor = self._anchors + lease
        try:
            found = (await self._gateway.call(Range(anchor, revision=gone_at, keys_only=True))).result
            if found.entries:
                return True
            found = (await self._gateway.call(Range(anchor, revision=gone_at - 1, keys_only=True))).result
        except InvalidRequest:  # compacted
            return None
        return False if found.entries else None


def _time_left() -> float:
    """Return the seconds until the last look before the end of the caller's time."""
    return anyio.current_effective_deadline() - anyio.current_time() - _LAST_LOOK
