"""Lock cohorting (Dice, Marathe, Shavit: PPoPP 2012): the tasks of this process that want one name with one ttl.

They share a session, and so one key in etcd's queue (`queue_key`). The task that has the *turn* brings the key to
the front and holds the lock on it. The turn goes round in order, and the key with it, without a word to etcd, as
far as `rules.handover` allows; else the key is given back in the background, and the next task makes another.

*Guarantee.* Of all tasks of a cohort one at a time holds the lock, and tokens grow from grant to grant. A waiter
elsewhere is passed over for 64 handovers or 50 ms at the most once it was seen. A task that is cancelled at any
await keeps neither the turn nor the key.

*Not guaranteed.* Order among processes: that is etcd's queue, and a key given back starts at its end again. In a
declared outage no key is at the front. A task that asked for LOCAL holds the host lock alone then, turn or not;
after the outage such a hold is promoted, or is in conflict (`recovery`).
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from functools import cached_property, partial

import anyio
import anyio.lowlevel

from tideover import telemetry
from tideover.broadcast import Broadcast
from tideover.errors import (
    AuthenticationFailed,
    CircuitOpen,
    Closed,
    LockTimeout,
    LockUnavailable,
    OutcomeUnknown,
    SessionLost,
    Unavailable,
)
from tideover.locks.context import LockContext
from tideover.locks.grant import Grant
from tideover.locks.options import LockOptions
from tideover.locks.queue_key import Contender, QueueKey
from tideover.locks.rules.handover import Handover, HandoverRules, may_hand_over, may_keep_warm
from tideover.locks.warm_places import WARM_FOR
from tideover.status import LockWaitStatus

# Seconds before the next try when the session is in doubt; up to how many before the first one after an outage.
AFTER_DOUBT = 0.1
_AFTER_OUTAGE = 0.5

_RULES = HandoverRules()


class _Waiter:
    # Its event is set when the task has the turn, or when there is news about etcd.

    __slots__ = ("event", "has_turn", "options")

    def __init__(self, options: LockOptions) -> None:
        self.options = options
        self.event = anyio.Event()
        self.has_turn = False


class Cohort:
    """The tasks that want one name with one ttl; `forget` is called when no task and no key is left.

    `front` is our key in etcd's queue, and its way to the front.
    """

    def __init__(self, name: str, ttl: int, context: LockContext, *, forget: Callable[[], object]) -> None:
        self.name = name
        self.ttl = ttl
        self.front = Contender(name, ttl, context, on_idle=self._settle)
        self._context = context
        self._client = context.client
        self._forget = forget
        self._turn_taken = False
        self._line: deque[_Waiter] = deque()
        self._driving: LockOptions | None = None
        # When the lock was let go last, in boot-time seconds; whether it was wanted again soon after. A task that
        # waited for another one here says nothing about that.
        self._let_go_at = -math.inf
        self._again = False
        self._queued = False
        # Waiting, or in the body: a cohort in use must not be replaced by another one, with the same key in etcd.
        self._users = 0
        # Since when each waits, in monotonic seconds, the first one first.
        self._began: dict[object, float] = {}

    @cached_property
    def _moved(self) -> Broadcast:
        return Broadcast()

    @property
    def waiting(self) -> int:
        """How many tasks wait."""
        return len(self._line) + (self._driving is not None)

    @property
    def waits(self) -> LockWaitStatus | None:
        """Which tasks wait, as the status shows it; None if none does."""
        if not self._began:
            return None
        waited = self._client.clock.monotonic() - next(iter(self._began.values()))
        return LockWaitStatus(self.name, len(self._began), max(0.0, waited), self.front.holder)

    def use(self, change: int) -> None:
        """Count users: 1 for one more, -1 for one less."""
        self._users += change
        if change < 0:
            self._settle()

    def _settle(self) -> None:
        if not (self._users or self._turn_taken or self._line) and self.front.idle:
            self._forget()

    async def acquire(self, options: LockOptions) -> Grant:
        """Wait for the lock.

        Raises:
            LockUnavailable: An outage is declared, and that is what was asked for.
            Closed: The coordinator is closed.
            LockTimeout: It is not free, and the timeout is 0.
            TideoverError: A definite no, such as `PermissionDenied`.
        """
        self._users += 1
        self._began[waiter := object()] = self._client.clock.monotonic()
        try:
            while True:
                refusal = self._refusal()
                if refusal is not None and options.on_outage != "wait":
                    grant = await self._in_outage(options, refusal)
                elif not self._turn_taken:
                    self._turn_taken = True
                    self._queued = False
                    grant = await self._on_turn(options)
                elif options.timeout == 0:
                    raise LockTimeout(f"lock {self.name!r} is in use in this process")
                elif await self._wait_for_turn(options):
                    self._queued = True
                    grant = await self._on_turn(options)
                else:
                    grant = None
                if grant is not None:
                    return grant
        except BaseException:
            self.use(-1)
            raise
        finally:
            del self._began[waiter]

    def _refusal(self) -> CircuitOpen | None:
        context = self._context
        # Asked for each lock, and the usual answer takes no more than this.
        if context.lifecycle.refusal is None and context.client.state.health.quorum.closed:
            return None
        return context.refusal()

    async def _wait_for_turn(self, options: LockOptions) -> bool:
        """Wait in line; return False if there is news about etcd."""
        waiter = _Waiter(options)
        self._line.append(waiter)
        try:
            await waiter.event.wait()
        except BaseException:
            if waiter.has_turn:
                # The turn came in the tick in which the waiter was cancelled.
                self._pass_on(options)
            elif waiter in self._line:
                self._line.remove(waiter)
            raise
        return waiter.has_turn

    async def _on_turn(self, options: LockOptions) -> Grant | None:
        """Bring our key to the front, and hold the lock; return None if an outage was declared meanwhile."""
        front, context = self.front, self._context
        place = front.place
        if place is not None and place.issued and place.holder is None and not place.hosted:
            await self._warmed(place, options)
        front.ask_again(options)
        place = front.place
        if place is not None and front.take_again(place):
            return self._hold(place, options)
        self._driving = options
        try:
            with telemetry.acquiring(self._client.namespace, self.name if context.record_names else None):
                while True:
                    refusal = self._refusal()
                    if refusal is not None:
                        await self._sit_out(options, refusal)
                        continue
                    try:
                        place = await front.make()
                        if not place.first:
                            await front.come_first(place, options)
                        if not place.hosted and place.holder is None:
                            await front.take_host(place, options)
                    except (SessionLost, OutcomeUnknown, Unavailable) as exc:
                        if options.timeout == 0:
                            raise LockTimeout(f"lock {self.name!r}: {exc}") from exc
                        await self._start_over()
                        continue
                    if front.is_free(place):
                        return self._hold(place, options)
                    await self._until_free(place)
        except CircuitOpen:
            self._pass_on(options)
            return None
        except BaseException:
            self._pass_on(options)
            raise
        finally:
            self._driving = None

    async def _warmed(self, place: QueueKey, options: LockOptions) -> None:
        """Let the event loop learn of a rival before a warm place is taken again; give it back if there is one."""
        try:
            await anyio.lowlevel.checkpoint()
        except BaseException:
            self._pass_on(options)
            raise
        # Its revision fences no other grant without handovers.
        if self.front.place is place and (place.rival_after is not None or not options.handover):
            self.front.drop(place)

    async def _sit_out(self, options: LockOptions, refusal: CircuitOpen) -> None:
        """Wait for the end of the outage, if that was asked for.

        Raises `CircuitOpen` if it was not, `LockTimeout` if it was, but not to wait.
        """
        place = self.front.place
        if place is not None and place.holder is None:
            # Or else no task on this machine could have the lock LOCAL.
            self.front.free_host(place)
        if options.on_outage != "wait":
            raise refusal
        if options.timeout == 0:
            raise LockTimeout(f"lock {self.name!r}: {refusal}") from refusal
        await self._context.recovery()
        if self._refusal() is None:
            # All that have waited come now.
            await anyio.sleep(_AFTER_OUTAGE * self._client.random())

    async def _until_free(self, place: QueueKey) -> None:
        if place.holder is None:
            await self._start_over()
            return
        # A hold of this process that was LOCAL has been promoted on our key.
        moved = self._moved.next()
        if self._refusal() is None:
            await moved.wait()

    async def _start_over(self) -> None:
        """Give up a key that is of no more use, and pause."""
        place = self.front.place
        if place is not None and place.holder is None:
            loss = place.loss()
            if loss is not None and loss.definite:
                self.front.drop(place)
        await anyio.sleep(AFTER_DOUBT * (0.5 + 0.5 * self._client.random()))

    def _hold(self, place: QueueKey, options: LockOptions) -> Grant:
        grant = Grant(self.name, options, self._context, place)
        grant.has_turn = True
        self._again = not self._queued and grant.since - self._let_go_at <= WARM_FOR
        if not place.is_watched:
            # After the body was entered: it may be over by then.
            self._client.home.loop.later(partial(self.front.watch, place))
        return grant

    def outage(self) -> None:
        """Wake the tasks in line that must not wait out a declared outage; the others stay in line."""
        self._wake([waiter for waiter in self._line if waiter.options.on_outage != "wait"])

    def close(self) -> None:
        """Wake all tasks, and keep no key: the coordinator is closed."""
        self._wake(list(self._line))
        self.clear_away()

    def _wake(self, waiters: list[_Waiter]) -> None:
        for waiter in waiters:
            self._line.remove(waiter)
            waiter.event.set()
        self._moved.fire()

    async def _in_outage(self, options: LockOptions, refusal: CircuitOpen) -> Grant | None:
        """Do what was asked for; return None if the outage has ended meanwhile."""
        if options.on_outage != "local":
            raise LockUnavailable(f"lock {self.name!r} is refused: {refusal}") from refusal
        context, hosts = self._context, self._context.hosts
        try:
            if options.timeout == 0:
                taken = await hosts.take_soon(self.name)
            else:
                taken = hosts.take_now(self.name) or await self.front.host_unless(context.recovery)
        except OSError as exc:
            context.journal.host_failed(exc)
            text = f"lock {self.name!r}: {refusal}; and this machine has no place for local locks: {exc}"
            raise LockUnavailable(text) from exc
        if not taken and options.timeout == 0:
            # Not within the `try`: it is an `OSError` too.
            raise LockTimeout(f"lock {self.name!r} is held on this machine")
        if not taken:
            return None
        try:
            over = self._refusal() is None
        except (AuthenticationFailed, Closed):
            hosts.give(self.name)
            raise
        if over:
            hosts.give(self.name)
            return None
        return Grant(self.name, options, context, None)

    def release(self, grant: Grant) -> None:
        """Take the lock back from a body that was left; never waits."""
        place = grant.place
        if place is None or place.holder is not grant:
            # LOCAL, with no key in the queue.
            self._context.hosts.give(self.name)
            if grant.has_turn:
                self._pass_on(grant.options)
        else:
            place.holder = None
            # What said so may know more of the key than `place.loss` does: a guarded write that was refused.
            place.was_lost |= grant.was_lost
            self._let_go_at = -math.inf if self._queued else self._client.clock.boot()
            if grant.has_turn:
                self._pass_on(grant.options, keep=self._again)
            else:
                self._leave_to_driver(place, grant.options)
        self.use(-1)

    def _leave_to_driver(self, place: QueueKey, last: LockOptions) -> None:
        """Take back a key that was promoted while another task has the turn, which goes on now."""
        if self._driving is None or not self._may_hand_over(place, last, self._driving):
            self.front.drop(place)
        else:
            place.handovers += 1
            self.front.free_host(place)
        self._moved.fire()

    def _pass_on(self, last: LockOptions, *, keep: bool = False) -> None:
        """Give the turn to the next in line, and the key with it if that may be; `keep` it for a task to come."""
        place = self.front.place
        following = self._line[0].options if self._line else None
        if place is not None and place.holder is None:
            if following is None and keep and self._may_keep_warm(place, last):
                self._count_handover(place)
                self.front.free_host(place)
                self._context.warm.keep(partial(self._cool, place, place.handovers))
            elif following is None or not self._may_hand_over(place, last, following):
                self.front.drop(place)
            elif place.issued:
                self._count_handover(place)
        self._turn_taken = bool(self._line)
        if self._line:
            waiter = self._line.popleft()
            waiter.has_turn = True
            waiter.event.set()

    def _count_handover(self, place: QueueKey) -> None:
        place.handovers += 1
        if place.handovers == 1 and not self._context.is_closed:
            self._client.home.start("lock: scout", place.scout, self.front.queue, self.clear_away)

    def _cool(self, place: QueueKey, handovers: int) -> None:
        if place is self.front.place and place.handovers == handovers:
            self.clear_away()

    def _may_keep_warm(self, place: QueueKey, last: LockOptions) -> bool:
        return (
            not place.met
            and self._context.lifecycle.is_open
            and may_keep_warm(self._handover(place, wanted=last.handover))
        )

    def _may_hand_over(self, place: QueueKey, last: LockOptions, following: LockOptions) -> bool:
        if not place.issued:
            # No task has had it yet: the next one takes over the place in the queue as it is.
            return not place.own.gone
        return may_hand_over(self._handover(place, wanted=last.handover and following.handover), _RULES)

    def _handover(self, place: QueueKey, *, wanted: bool) -> Handover:
        return Handover(
            wanted=wanted,
            trusted=not place.was_lost and place.loss() is None,
            left=place.session.deadline - self._client.clock.boot(),
            renew_interval=place.session.renew_interval,
            unresolved=place.pending.unresolved,
            count=place.handovers,
            seen_after=place.rival_after,
            seen_for=place.rival_for,
        )

    def promote(self, grant: Grant, place: QueueKey) -> None:
        """Turn a LOCAL hold DISTRIBUTED, on a key that is first."""
        place.first = place.hosted = True
        if grant.place is not place and not self._turn_taken:
            self._turn_taken = grant.has_turn = True
        grant.promote(place)
        self.front.watch(place)

    def clear_away(self) -> None:
        """Give back a key that no task holds, and no task is on the way to."""
        place = self.front.place
        if place is not None and place.holder is None and not self._turn_taken:
            self.front.drop(place)
            # A key that is gone already takes no giving back, whose end would do this.
            self._settle()
