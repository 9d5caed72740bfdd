"""etcd's queue for one lock: keys under one prefix, served in the order in which they were made.

*Guarantee.* `wait` returns only if our own key was there and no older one: as a linearizable read has shown it, or
as such a read and every event since have that the watch of the line has told (`line`). The events are believed
only while the session may be relied upon and what watches its keys is heard of; otherwise, whenever the watch
ends, when the member is in doubt, and after some seconds, the queue is read again.

*Not guaranteed.* That the first key stays: a user who may write the namespace can delete it. The watch on a held
key tells that; see `sessions.key_watch`.

Prior art: the recipe of etcd's Go package `concurrency` (`Mutex.Lock`, `waitDeletes`), with the same keys. In a
long line a waiter watches only the key right before its own: when that goes, one waiter wakes, not all. (Hunt et
al., "ZooKeeper: Wait-free coordination for Internet-scale systems", ATC 2010, call the opposite the herd effect.)
"""

from __future__ import annotations

from collections.abc import Callable

import anyio

from tideover import telemetry
from tideover.client.client import Client
from tideover.errors import SessionLost
from tideover.locks.queue.departure import has_vanished
from tideover.locks.queue.keys import Ahead, Before, QueueKeys
from tideover.locks.queue.line import MOST_FOLLOWED, Line
from tideover.sessions.key import LeasedKey
from tideover.shown import shown
from tideover.store.faults import FaultKind, StoreFault, public_error
from tideover.store.operations import Range, Sort
from tideover.store.protocol import Compacted, Watch, WatchBatch

# Seconds after which a waiter reads the queue, however quiet the watch is; plus up to as much again.
_LOOK_EVERY = 5.0
# Seconds before the end of its time at which a waiter reads once more who has the lock, to be able to say so.
_LAST_LOOK = 0.25
# Seconds to open a watch, and up to how many to let pass before the next try.
_OPEN_WITHIN = 1.0
_AFTER_TROUBLE = 0.2


class EtcdQueue:
    """The queue of one lock."""

    def __init__(self, client: Client, name: str) -> None:
        self._client = client
        self._cluster = client.state
        self.keys = QueueKeys(client.namespace, name)

    async def wait(
        self,
        own: LeasedKey,
        *,
        ahead: Ahead | None = None,
        why: bool = False,
        certain: Callable[[], bool] = lambda: False,
    ) -> bool:
        """Wait until our key is the first.

        Args:
            ahead: What an earlier wait has seen before our key; kept up to date. None if this is the first wait.
            why: Whether to find out how the last holder left.
            certain: Says whether the end of our key would be known already.

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
        # In a long line the holder that was seen is not the one right before us, which is watched there.
        before = (None if why or ahead.is_long else ahead.holder) or await self.before(own)
        while before is not None:
            watched = before.key
            try:
                if why or ahead.is_long:
                    await self._note(ahead, before)
                    before = await self._departure(ahead, before, own, why=why)
                else:
                    before = await self._follow(ahead, own, certain)
            except StoreFault as exc:
                self._client.direct.report(exc.fault)
                if not (exc.fault.outage or exc.fault.retry_read or exc.fault.kind is FaultKind.COMPACTED):
                    raise public_error(exc.fault, doing=f"watch {shown(watched)}", writes=False) from exc
                await anyio.sleep(_AFTER_TROUBLE * self._client.random())
                before = await self.before(own)
        ahead.holder = None
        left = ahead.last
        return why and left is not None and await has_vanished(self._client, self.keys.lease(left), ahead.gone_at)

    async def _note(self, ahead: Ahead, before: Before) -> None:
        """Record which key is before ours now."""
        if _time_left() <= 0:
            ahead.holder = await self.holder()
        ahead.last, ahead.gone_at = before, None
        for each in self.keys.foreign(ahead):
            telemetry.place_rejected(each.key, each.revision, each.reason)

    async def before(self, own: LeasedKey) -> Before | None:
        """Return the key right before ours; None if ours is the first. Raises as `wait` does."""
        if own.gone:
            raise SessionLost(f"{own.key!r} is gone: {own.gone.reason}", definite=True)
        # Our key and the one before it in one read: that ours is there counts as much as that none is before it.
        # Not in a transaction, in which a read that runs out of time ends the member: see docs/decisions/0023.
        nearest = self.keys.until(own.create_revision, limit=2)
        answered = await self._client.calls.call(nearest)
        found = answered.result
        entry = found.entries.get(own.full)
        if entry is None or entry.create_revision != own.create_revision:
            at = found.header.revision
            raise SessionLost(f"{own.key!r} was not there any more at revision {at}", definite=True)
        if found.more and not self.keys.others(own.full, found.entries):
            # The nearest one stands in the queue of a longer name.
            found = (await self._client.calls.call(self.keys.until(own.create_revision))).result
        key = next((key for key in self.keys.direct(found.entries) if key != own.full), None)
        return None if key is None else Before(key, found.entries[key], answered.result.header.revision)

    async def holder(self) -> Before | None:
        """Return the first key of the queue, which has the lock; None if there is none. Raises as `wait` does."""
        return self.keys.first_in((await self._client.calls.call(self.keys.head)).result)

    async def rival(self, own: LeasedKey) -> None:
        """Return when a waiter elsewhere is seen, when that cannot be known, or when our key is gone.

        The watch is believed no longer than that of `wait`.
        """
        newest = Range(self.keys.prefix, self.keys.end, keys_only=True, sort=Sort.NEWEST)

        def take(batch: WatchBatch) -> bool:
            made = {event.key: event.entry for event in batch.events if event.entry is not None}
            return bool(self.keys.others(own.full, made))

        try:
            seen = False
            while not (seen or own.gone):
                member = self._cluster.active
                found = await self._client.direct.ask(newest, timeout=_OPEN_WITHIN)
                if self.keys.others(own.full, found.entries):
                    return
                opening = self._client.direct.store.watch(
                    self.keys.prefix,
                    self.keys.end,
                    start_revision=found.header.revision + 1,
                    member=member,
                    timeout=_OPEN_WITHIN,
                )
                async with opening as watch:
                    seen = await self._until(take, watch, member, own)
                if not seen:
                    await anyio.sleep(_AFTER_TROUBLE * self._client.random())
        except StoreFault:
            return

    async def _follow(self, ahead: Ahead, own: LeasedKey, certain: Callable[[], bool]) -> Before | None:
        """Follow the whole line until no key is before ours, or there is reason to look again.

        Returns the key before ours then; raises `StoreFault` if the watch has ended, and as `before`.
        """
        member = self._cluster.active
        # It tells of what comes next, and the line is read after that: see `_departure`.
        opening = self._client.direct.store.watch(
            self.keys.prefix, self.keys.end, start_revision=0, member=member, timeout=_OPEN_WITHIN
        )
        async with opening as watch:
            read = Range(self.keys.prefix, self.keys.end, limit=MOST_FOLLOWED + 1)
            line = Line(self.keys, own, (await self._client.calls.call(read)).result)
            ahead.is_long = line.is_long
            nearest = line.nearest
            if line.is_over or nearest is None or watch.opened_at > line.seen_at:
                return await self.before(own)
            await self._note(ahead, nearest)

            def take(batch: WatchBatch) -> bool:
                line.take(batch)
                ahead.last = line.nearest or ahead.last
                return line.is_over

            passed = await self._until(take, watch, member, own)
        ahead.is_long = line.is_long
        return None if passed and line.is_first and not own.gone and certain() else await self.before(own)

    async def _departure(self, ahead: Ahead, before: Before, own: LeasedKey, *, why: bool) -> Before | None:
        """Wait until a key goes, or there is reason to look again; return which key is before ours then.

        Raises `StoreFault` if the watch has ended, and as `before`.
        """
        # etcd serves a watch of what is past every 100 ms, and one of what comes next at once (`syncWatchersLoop`
        # in its `mvcc/watchable_store.go`). So the watch begins now, and what has happened since the last read is
        # read again; unless the exact revision matters.
        member = self._cluster.active
        begin = before.seen_at + 1 if why else 0
        opening = self._client.direct.store.watch(
            before.key, None, start_revision=begin, member=member, timeout=_OPEN_WITHIN
        )

        def take(batch: WatchBatch) -> bool:
            ahead.gone_at = next((event.revision for event in batch.events if event.entry is None), None)
            return ahead.gone_at is not None

        async with opening as watch:
            if not why and watch.opened_at > before.seen_at:
                now = await self.before(own)
                if now is None or now.key != before.key:
                    return now
            await self._until(take, watch, member, own)
            return await self.before(own)

    async def _until(self, take: Callable[[WatchBatch], bool], watch: Watch, member: str, own: LeasedKey) -> bool:
        """Give a watch's batches to `take` until that is enough; return False if there is reason to look again."""
        enough = False
        ended: StoreFault | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._doubt, member, own, tasks.cancel_scope)
            try:
                while not enough:
                    enough = take(await watch.receive())
            except Compacted:
                pass
            except StoreFault as exc:
                ended = exc
            tasks.cancel_scope.cancel()
        if ended is not None:
            raise ended
        return enough

    async def _doubt(self, member: str, own: LeasedKey, scope: anyio.CancelScope) -> None:
        """End the wait for the watch when the member is in doubt, our key is gone, or time has passed."""
        cluster = self._cluster
        patience = _LOOK_EVERY * (1 + self._client.random())
        left = _time_left()
        with anyio.move_on_after(left if 0 < left < patience else patience), own.gone.ending(scope):
            while cluster.health.quorum.closed and (cluster.active == member or member in cluster.well):
                await cluster.changed.wait()
        scope.cancel()


def _time_left() -> float:
    """Return the seconds until the last look before the end of the caller's time."""
    return anyio.current_effective_deadline() - anyio.current_time() - _LAST_LOOK
