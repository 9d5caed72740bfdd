"""Our key in etcd's queue for one lock, and its way to the front: made, first, with the host lock, given back.

*Guarantee.* A key counts as first only after one linearizable answer has shown that no older one is there. The
host lock is waited for last, so that a process that waits for etcd keeps no LOCAL holder of its machine waiting;
while the key is being made it is only tried, and given back unless the reply shows our key first. It is given back
before the key is.

*Not guaranteed* is anything about what comes next: the session may be in doubt as soon as this is known. The
cohort asks `Contender.is_free` before a body is entered.

Prior art: `Mutex.myKey` of etcd's Go package `concurrency`, and the contenders of ZooKeeper's lock recipe.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import cached_property

import anyio

from tideover.broadcast import first_of
from tideover.errors import CircuitOpen, LockTimeout, SessionLost, TideoverError
from tideover.fencing.guard import Pending
from tideover.locks.context import LockContext
from tideover.locks.journal import Holding
from tideover.locks.options import LockOptions
from tideover.locks.queue.etcd_queue import EtcdQueue
from tideover.locks.queue.keys import Ahead, key_of, queue_head, value_of
from tideover.locks.queue.line import MOST_FOLLOWED
from tideover.sessions.key import LeasedKey
from tideover.sessions.session import Session
from tideover.status import RejectedValue

# Seconds within which there has been a sign of life of what watches the session's keys.
_SIGN_OF_LIFE = 2.0


class QueueKey:
    """A key in etcd's queue, from the moment it is made until it is given back.

    Attributes:
        own: The key, under a session that all locks of a ttl share.
        first: Whether it is known to have come first: then the lock is this process's.
        hosted: Whether the host lock is held along with it.
        handovers: How often it was handed on inside this process.
        issued: How many tokens were made of it.
        holder: The grant whose body runs on it; None between two.
        was_lost: Whether a grant of it was lost: then no body is entered on it any more.
        is_watched: Whether the holder looks when it is in doubt.
        is_dropped: Whether it is given back.
        ahead: Which keys were seen before it in the queue.
        pending: Guarded writes that may still be applied.
        rival_after: `handovers` when a waiter elsewhere was first seen; None if none was.
        met: Whether it was made behind another key: others want the lock.
    """

    def __init__(self, own: LeasedKey, session: Session, *, now: Callable[[], float]) -> None:
        self.own = own
        self.session = session
        self.first = False
        self.hosted = False
        self.handovers = 0
        self.issued = 0
        self.holder: Holding | None = None
        self.was_lost = False
        self.is_watched = False
        self.ahead = Ahead()
        self.pending = Pending()
        self.rival_after: int | None = None
        self.met = False
        self._rival_at = 0.0
        self._now = now
        self._scouting: anyio.CancelScope | None = None
        self.is_dropped = False

    def loss(self) -> SessionLost | None:
        """Return why the key may not be relied upon right now; None if it may."""
        if self.own.gone:
            return SessionLost(f"its key {self.own.key!r} is gone: {self.own.gone.reason}", definite=True)
        return self.session.loss()

    def is_certain(self) -> bool:
        """Whether the key may be relied upon, and its end would be known already."""
        return self.loss() is None and self.session.silence <= _SIGN_OF_LIFE

    @property
    def rival_for(self) -> float:
        """Seconds since a waiter elsewhere was first seen."""
        return 0.0 if self.rival_after is None else self._now() - self._rival_at

    def assess(self) -> None:
        """Have the holder look whether it still has the lock."""
        if self.holder is not None:
            self.holder.assess()

    async def scout(self, queue: EtcdQueue, seen: Callable[[], object]) -> None:
        """Look out for waiters elsewhere, from the first handover on; call `seen` when there is one."""
        if self._scouting is not None or self.is_dropped:
            return
        with anyio.CancelScope() as scope:
            self._scouting = scope
            await queue.rival(self.own)
            if not self.is_dropped:
                self.rival_after, self._rival_at = self.handovers, self._now()
                seen()

    def drop(self) -> None:
        """End what watches over the key: it is given back."""
        self.is_dropped = True
        if self._scouting is not None:
            self._scouting.cancel()


class Contender:
    """The key of one cohort. One task at a time brings it to the front; another may go on from any await of it.

    `place` is our key in etcd's queue, None if there is none. `ttl` is the session's, in seconds; `on_idle` is
    called when a key has been given back.
    """

    def __init__(self, name: str, ttl: int, context: LockContext, *, on_idle: Callable[[], object]) -> None:
        self.name = name
        self.place: QueueKey | None = None
        self._ttl = ttl
        self._context = context
        self._client = context.client
        self._on_idle = on_idle
        # Of the newest key: a waiter that gives up has given it back by the time it says why.
        self._ahead: Ahead | None = None
        self._making = anyio.Lock(fast_acquire=True)
        self._releasing: anyio.Event | None = None

    @cached_property
    def queue(self) -> EtcdQueue:
        """etcd's queue."""
        return EtcdQueue(self._client, self.name)

    @property
    def idle(self) -> bool:
        """Whether there is no key, and none is being given back."""
        return self.place is None and self._releasing is None

    @property
    def others(self) -> str:
        """Who elsewhere has the lock, for people, as far as that is known."""
        holder = self.holder
        return "others have it" if holder is None else f"others have it: {holder}"

    @property
    def holder(self) -> str | None:
        """Who elsewhere has the lock, and since when, as last seen; None if no other key was seen."""
        seen = None if self._ahead is None else self._ahead.holder or self._ahead.last
        return None if seen is None else self.queue.keys.describe(seen)

    @property
    def foreign(self) -> list[RejectedValue]:
        """Keys before ours that no client has made; empty unless we wait."""
        waits = self.place is not None and not self.place.first and self._ahead is not None
        return self.queue.keys.foreign(self._ahead) if waits and self._ahead is not None else []

    def forget_others(self) -> None:
        """Name nobody until etcd has answered: who was seen before an earlier key may be long gone."""
        self._ahead = None

    async def make(self) -> QueueKey:
        """Return our key in etcd's queue; make it if there is none. Raises as `Session.put`."""
        if self.place is None:
            self.forget_others()
        if self._releasing is not None:
            await self.released()
        async with self._making:
            place = self.place
            if place is not None and (place.holder is not None or not place.own.gone):
                return place
            if place is not None:
                self.drop(place)
            clock, pool = self._client.clock, self._context.pool
            session = pool.of_locks.get(self._ttl)
            if session is None or session.loss() is not None:
                session = await pool.shared(self._ttl)
                # Here, because `watch` may be called where no task runs, and no other can be started.
                self._context.watchdog.begin(session)
            head = queue_head(self._client.namespace, self.name)
            key = key_of(self.name, session.lease_id)
            value = value_of(self._context.process_name(), int(clock.wall()))
            trial = self._context.hosts.trial(self.name, self._client.home.loop)
            try:
                # The head of the queue is read in the same transaction: if it is our key, nothing more is asked.
                own = await session.claim(key, value, reads=[head])
                place = self.place = QueueKey(own, session, now=clock.monotonic)
                self._ahead = place.ahead
                place.first = next(iter(own.reads[0].entries), None) == own.full
                if place.first:
                    place.hosted = trial.keep()
                else:
                    place.met = True
                    place.ahead.holder = self.queue.keys.first_in(own.reads[0])
                    place.ahead.is_long = own.reads[0].count > MOST_FOLLOWED
            finally:
                trial.give()
            return place

    async def come_first(self, place: QueueKey, options: LockOptions) -> None:
        """Wait until our key is the first in etcd's queue; raise `LockTimeout` if it is not, and the timeout is 0.

        Else raises as `EtcdQueue.wait`.
        """
        if options.timeout == 0:
            before = await self.queue.before(place.own)
            if before is not None:
                holder = place.ahead.holder or before
                raise LockTimeout(f"lock {self.name!r} is held by {self.queue.keys.describe(holder)}")
        elif await self.queue.wait(
            place.own, ahead=place.ahead, why=options.lock_delay > 0, certain=place.is_certain
        ):
            await anyio.sleep(options.lock_delay)
            await self.queue.before(place.own)
        place.first = True

    def ask_again(self, options: LockOptions) -> None:
        """Have a key come first again for a task with a `lock_delay`, if it did so for one that gave up.

        That one may not have asked how the holder before has left; and no task has had the lock since.
        """
        place = self.place
        if place is None or place.issued or place.ahead.last is None:
            return
        if place.first and options.lock_delay > 0:
            place.first = False
            self.free_host(place)

    def is_free(self, place: QueueKey) -> bool:
        """Whether the lock can be granted on a key now: unheld, and with more than one renewal interval left."""
        return (
            self.place is place
            and place.holder is None
            and place.loss() is None
            and place.session.deadline - self._client.clock.boot() > place.session.renew_interval
        )

    def take_again(self, place: QueueKey) -> bool:
        """Take a key again that has come first, and the host lock with it, if neither has to be waited for."""
        if not (place.first and self.is_free(place)):
            return False
        if not place.hosted:
            try:
                place.hosted = self._context.hosts.take_now(self.name)
            except OSError:
                return False  # the long way tells of that
        return place.hosted

    async def take_host(self, place: QueueKey, options: LockOptions) -> None:
        """Take the host lock along with a key that has come first.

        Raises:
            LockTimeout: Another process has it for longer than a trial lasts, and the timeout is 0.
            SessionLost: The key is gone.
            CircuitOpen: An outage is declared.
        """
        hosts = self._context.hosts
        try:
            if options.timeout == 0:
                taken = await hosts.take_soon(self.name)
            else:
                taken = hosts.take_now(self.name) or await self.host_unless(lambda: self._overtaken(place))
        except OSError as exc:
            # The lock itself does not need it; only a LOCAL one would.
            self._context.journal.host_failed(exc)
            return
        if not taken and options.timeout == 0:
            # Not within the `try`: it is an `OSError` too.
            raise LockTimeout(f"lock {self.name!r} is held LOCAL on this machine")
        if taken and place.holder is None and self.place is place:
            place.hosted = True
        elif taken:
            hosts.give(self.name)

    async def _overtaken(self, place: QueueKey) -> None:
        """Raise as soon as waiting for the host lock makes no sense: the key is gone, or an outage is declared."""
        gone = anyio.Event()
        refusal: CircuitOpen | None = None

        async def until_gone() -> None:
            await place.own.gone.wait()
            gone.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(until_gone)
            while refusal is None and not gone.is_set():
                changed = self._client.state.changed.next()
                refusal = self._context.refusal()
                if refusal is None:
                    await first_of([gone, changed])
            tasks.cancel_scope.cancel()
        raise refusal or SessionLost(f"{place.own.key!r} is gone: {place.own.gone.reason}", definite=True)

    async def host_unless(self, over: Callable[[], Awaitable[None]]) -> bool:
        """Wait for the host lock until something else happens; return whether it was taken.

        Raises `OSError` if this machine has no place for host locks, and what `over` raises.
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
                    await self._context.hosts.take(self.name)
                    taken = True
                except OSError as exc:
                    failed = exc
                tasks.cancel_scope.cancel()
        except BaseException:
            if taken:
                self._context.hosts.give(self.name)
            raise
        if failed is not None and not taken:
            raise failed
        return taken

    def free_host(self, place: QueueKey) -> None:
        """Give back the host lock that is held along with a key."""
        if place.hosted:
            place.hosted = False
            self._context.hosts.give(self.name)

    def drop(self, place: QueueKey) -> None:
        """Give a key back, in the background."""
        if self.place is place:
            self.place = None
        self.free_host(place)
        if not place.own.gone and not self._context.is_closed:
            # Set before the next task here is told: it waits for this.
            done = anyio.Event()
            if self._client.home.start("lock: give back", self._give_back, place, done):
                self._releasing = done
        self._unwatch(place)

    def watch(self, place: QueueKey) -> None:
        """Have holders look whenever the key they hold the lock on may not be relied upon."""
        if not (place.is_watched or place.is_dropped or self._context.is_closed):
            place.is_watched = True
            place.own.gone.then(place.assess)
            self._context.watchdog.watch(place.session, place.assess)

    def _unwatch(self, place: QueueKey) -> None:
        if place.is_watched:
            self._context.watchdog.forget(place.session, place.assess)
        place.drop()

    def forget(self, place: QueueKey) -> None:
        """Record that the key of a hold is gone; the hold goes on, LOCAL, and keeps the host lock."""
        place.holder = None
        if self.place is place:
            self.place = None
        self._unwatch(place)

    async def _give_back(self, place: QueueKey, done: anyio.Event) -> None:
        try:
            await place.session.delete(place.own)
        finally:
            if self._releasing is done:
                self._releasing = None
            done.set()
            self._on_idle()

    async def released(self) -> None:
        """Wait until no key is being given back."""
        while self._releasing is not None:
            await self._releasing.wait()
