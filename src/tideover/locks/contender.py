"""The way to the front: a place in etcd's line is made, comes first, takes the host lock along, and is given back.

One at a time, for all who want one name with one ttl in this process. Who is on the way may be relieved at any
await by another one, who goes on from the place as it is.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio

from tideover.broadcast import first_of
from tideover.errors import CircuitOpen, LockTimeout, SessionLost, TideoverError
from tideover.holders import Holder
from tideover.locks.context import LockContext
from tideover.locks.etcd_queue import Ahead, EtcdQueue
from tideover.locks.options import LockOptions
from tideover.locks.queue_key import QueueKey
from tideover.status import RejectedValue


class Contender:
    """The place of one cohort.

    Args:
        name: The lock.
        ttl: Of the session, in seconds.
        parts: What all locks of a coordinator share.
        settled: Called when a place has been given back.

    Attributes:
        place: Our key in etcd's line; None if there is none.
        queue: etcd's line.
    """

    def __init__(self, name: str, ttl: int, parts: LockContext, *, settled: Callable[[], object]) -> None:
        self.name = name
        self.place: QueueKey | None = None
        self.queue: EtcdQueue = parts.queue(name)
        self._ttl = ttl
        self._parts = parts
        self._settled = settled
        # Of the place that was made last: who waits no more has given it back by the time it says why.
        self._ahead = Ahead()
        self._making = anyio.Lock(fast_acquire=True)
        self._releasing: anyio.Event | None = None

    def __repr__(self) -> str:
        """Show the place."""
        return f"<Contender of {self.name!r}: {self.place}>"

    @property
    def idle(self) -> bool:
        """Whether there is no place, and none being given back."""
        return self.place is None and self._releasing is None

    @property
    def others(self) -> str:
        """Who elsewhere has the lock, for people, as far as that is known."""
        holder = self.holder
        return "others have it" if holder is None else f"others have it: {holder}"

    @property
    def holder(self) -> str | None:
        """Who elsewhere has the lock, and since when, as last seen; None if nobody was seen to."""
        seen = self._ahead.holder or self._ahead.last
        return None if seen is None else self.queue.describe(seen)

    @property
    def foreign(self) -> list[RejectedValue]:
        """What was seen before our place and is nobody's; nothing while we wait for nobody."""
        waits = self.place is not None and not self.place.first
        return self.queue.foreign(self._ahead) if waits else []

    # Coming first ----------------------------------------------------------------------------------------------

    async def direct(self, wish: LockOptions) -> QueueKey:
        """Return our place once it is the first in etcd's line and has the host lock.

        It may be held by somebody all the same by then, or not to be trusted any more: see `is_free`.

        Raises:
            LockTimeout: Others have the lock, and the timeout is 0.
            TideoverError: As of `Session.put` and `EtcdQueue.wait`.
        """
        place = await self.make()
        await self._come_first(place, wish)
        await self._take_host(place, wish)
        return place

    def is_free(self, place: QueueKey) -> bool:
        """Whether a body may begin on it: one that would be lost in a moment had better not begin."""
        return (
            self.place is place
            and place.holder is None
            and place.loss() is None
            and place.session.deadline - self._parts.boot() > place.session.renew_interval
        )

    async def make(self) -> QueueKey:
        """Return our place in the line; make one if there is none.

        Raises:
            TideoverError: As of `Session.put`.
        """
        await self.released()
        async with self._making:
            place = self.place
            if place is None or (place.own.gone and place.holder is None):
                if place is not None:
                    self.drop(place)
                session = await self._parts.session(self._ttl)
                key = f"locks/{self.name}/{session.lease_id:x}"
                held_by = Holder.now(self._parts.name(), self._parts.clock.wall())
                own = await session.claim(key, held_by.encode(), reads=[self.queue.first])
                place = self.place = QueueKey(own, session, now=self._parts.clock.monotonic)
                place.first = self.queue.is_first(own, own.reads[0])
                self._ahead = place.ahead
                self._ahead.holder = None if place.first else self.queue.first_in(own.reads[0])
            return place

    async def _come_first(self, place: QueueKey, wish: LockOptions) -> None:
        """Wait until the place is the first in etcd's line."""
        if place.first:
            return
        if wish.timeout == 0:
            before = await self.queue.before(place.own)
            if before is not None:
                holder = place.ahead.holder or before
                raise LockTimeout(f"lock {self.name!r} is held by {self.queue.describe(holder)}")
        elif await self.queue.wait(place.own, ahead=place.ahead, why=wish.lock_delay > 0):
            await anyio.sleep(wish.lock_delay)
            await self.queue.before(place.own)
        place.first = True

    async def _take_host(self, place: QueueKey, wish: LockOptions) -> None:
        """Take the host lock, after the place has come first."""
        if place.hosted or place.holder is not None:
            return
        hosts = self._parts.hosts
        try:
            taken = hosts.take_now(self.name)
            if not taken:
                if wish.timeout == 0:
                    raise LockTimeout(f"lock {self.name!r} is held LOCAL on this machine")
                taken = await self.host_unless(lambda: self._overtaken(place))
        except OSError as exc:
            # The lock itself does not need it; only a LOCAL one would.
            self._parts.host_failed(exc)
            return
        if taken and place.holder is None and self.place is place:
            place.hosted = True
        elif taken:
            hosts.give(self.name)

    async def _overtaken(self, place: QueueKey) -> None:
        """Raise as soon as it makes no sense any more to wait for the host lock: the key is gone, or etcd away."""
        gone = anyio.Event()
        refusal: CircuitOpen | None = None

        async def until_gone() -> None:
            await place.own.gone.wait()
            gone.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(until_gone)
            while refusal is None and not gone.is_set():
                changed = self._parts.changed.next()
                refusal = self._parts.refusal()
                if refusal is None:
                    await first_of([gone, changed])
            tasks.cancel_scope.cancel()
        raise refusal or SessionLost(f"{place.own.key!r} is gone: {place.own.gone.reason}", definite=True)

    async def host_unless(self, over: Callable[[], Awaitable[None]]) -> bool:
        """Wait for the host lock until something else happens; return whether it was taken.

        Raises:
            OSError: This machine has no place for host locks.
            TideoverError: What `over` raises.
        """
        taken = False
        failed: Exception | None = None
        try:
            async with anyio.create_task_group() as tasks:

                async def give_up() -> None:
                    nonlocal failed
                    try:
                        await over()
                    except TideoverError as exc:
                        failed = exc
                    tasks.cancel_scope.cancel()

                tasks.start_soon(give_up)
                try:
                    await self._parts.hosts.take(self.name)
                    taken = True
                except OSError as exc:
                    failed = exc
                tasks.cancel_scope.cancel()
        except BaseException:
            if taken:
                self._parts.hosts.give(self.name)
            raise
        if failed is not None and not taken:
            raise failed
        return taken

    # Giving back -----------------------------------------------------------------------------------------------

    def free_host(self, place: QueueKey) -> None:
        """Give the host lock back that is held along with a place."""
        if place.hosted:
            place.hosted = False
            self._parts.hosts.give(self.name)

    def drop(self, place: QueueKey) -> None:
        """Give the place back, in the background."""
        if self.place is place:
            self.place = None
        self.free_host(place)
        if not place.own.gone:
            # Before anybody here is told: others wait for it.
            done = anyio.Event()
            if self._parts.start(self._give_back, place, done):
                self._releasing = done
        place.drop()

    def forget(self, place: QueueKey) -> None:
        """Take in that the place of a hold is gone; the hold goes on, LOCAL, and keeps the host lock."""
        place.holder = None
        if self.place is place:
            self.place = None
        place.drop()

    async def _give_back(self, place: QueueKey, done: anyio.Event) -> None:
        try:
            await place.session.delete(place.own)
        finally:
            if self._releasing is done:
                self._releasing = None
            done.set()
            self._settled()

    async def released(self) -> None:
        """Wait until nothing is being given back."""
        while self._releasing is not None:
            await self._releasing.wait()
