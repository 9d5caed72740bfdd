"""Those of this process who want one name with one ttl.

They share a session, and so one key in etcd's line, their place. Whoever has the *turn* (`turns`) brings the
place to the front (`contender`), and holds the lock on it; the turn goes round in order. While others wait here,
the place is handed on with the turn, as far as `rules.handover` allows; else it is given back in the background,
and made anew at the end of etcd's line.

In a declared outage nobody is at the front. Whoever asked for LOCAL gets by on the host lock alone, turn or
not; after the outage such a hold is brought to the front, or is in conflict (`recovery`).
"""

from __future__ import annotations

import anyio

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
from tideover.locks.contender import Contender
from tideover.locks.context import LockContext
from tideover.locks.grant import Grant
from tideover.locks.options import LockOptions
from tideover.locks.queue_key import QueueKey
from tideover.locks.rules.handover import Handover, HandoverRules, may_hand_over
from tideover.locks.turns import TurnQueue
from tideover.status import LockWaitStatus

# Seconds before the next try when the session is in doubt; up to how many before the first one after an outage.
AFTER_DOUBT = 0.1
_AFTER_OUTAGE = 0.5

_RULES = HandoverRules()


class Cohort:
    """Those who want one name with one ttl.

    Args:
        name: The lock.
        ttl: Of the session, in seconds.
        parts: What all locks of a coordinator share.

    Attributes:
        front: Our place in etcd's line, and the way to its front.
        line: Whose turn it is.
    """

    def __init__(self, name: str, ttl: int, parts: LockContext) -> None:
        self.name = name
        self.ttl = ttl
        self.front = Contender(name, ttl, parts, settled=lambda: parts.settled(self))
        self.line = TurnQueue()
        self._parts = parts
        self._driving: LockOptions | None = None
        self._moved = Broadcast()
        # Waiting, or in the body: a cohort in use must not be replaced by another one, with the same key in etcd.
        self._users = 0
        # Since when each waits, in monotonic seconds, the first one first.
        self._began: dict[object, float] = {}

    def __repr__(self) -> str:
        """Show the name and how many wait."""
        return f"<Cohort {self.name!r} ttl {self.ttl}, {self.waiting} waiting>"

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self.line) + (self._driving is not None)

    @property
    def waits(self) -> LockWaitStatus | None:
        """Who waits, as the status shows it; None if nobody does."""
        if not self._began:
            return None
        waited = self._parts.clock.monotonic() - next(iter(self._began.values()))
        return LockWaitStatus(self.name, len(self._began), max(0.0, waited), self.front.holder)

    @property
    def idle(self) -> bool:
        """Whether nobody would miss it."""
        return not (self.line.turn or self.line or self._users) and self.front.idle

    def use(self, change: int) -> None:
        """Count users: 1 for one more, -1 for one less."""
        self._users += change
        if change < 0:
            self._parts.settled(self)

    # Getting it ------------------------------------------------------------------------------------------------

    async def acquire(self, wish: LockOptions) -> Grant:
        """Wait for the lock.

        Raises:
            LockUnavailable: An outage is declared, and that is what was asked for.
            Closed: The coordinator is closed.
            LockTimeout: It is not free, and the timeout is 0.
            TideoverError: A definite no, such as `PermissionDenied`.
        """
        self._users += 1
        self._began[waiter := object()] = self._parts.clock.monotonic()
        try:
            while True:
                refusal = self._parts.refusal()
                if refusal is not None and wish.on_outage != "wait":
                    grant = await self._in_outage(wish, refusal)
                elif await self._wait_for_turn(wish):
                    grant = await self._on_turn(wish)
                else:
                    grant = None
                if grant is not None:
                    return grant
        except BaseException:
            self.use(-1)
            raise
        finally:
            del self._began[waiter]

    async def _wait_for_turn(self, wish: LockOptions) -> bool:
        """Wait in line; return False if there is news about etcd to be looked at."""
        if not self.line.turn:
            self.line.turn = True
            return True
        if wish.timeout == 0:
            raise LockTimeout(f"lock {self.name!r} is in use in this process")
        return await self.line.wait(wish, given_up=lambda: self._pass_on(wish))

    async def _on_turn(self, wish: LockOptions) -> Grant | None:
        """Bring the place to the front, and hold the lock; return None if it was in vain."""
        place = self.front.place
        if place is not None and place.first and place.hosted and self.front.is_free(place):
            return self._hold(place, wish)
        self._driving = wish
        try:
            with self._parts.acquiring(self.name):
                return await self._drive(wish)
        except CircuitOpen:
            self._pass_on(wish)
            return None
        except BaseException:
            self._pass_on(wish)
            raise
        finally:
            self._driving = None

    async def _drive(self, wish: LockOptions) -> Grant:
        waited_out = False
        while True:
            refusal = self._parts.refusal()
            if refusal is not None:
                await self._sit_out(wish, refusal)
                waited_out = True
                continue
            if waited_out:
                # All who have waited come now.
                await anyio.sleep(_AFTER_OUTAGE * self._parts.chance())
                waited_out = False
            try:
                place = await self.front.direct(wish)
            except (SessionLost, OutcomeUnknown, Unavailable) as exc:
                if wish.timeout == 0:
                    raise LockTimeout(f"lock {self.name!r}: {exc}") from exc
                await self._start_over()
                continue
            if place.holder is not None:
                # A hold of this process that was LOCAL has been brought to the front on it.
                moved = self._moved.next()
                if self._parts.refusal() is None:
                    await moved.wait()
            elif self.front.is_free(place):
                return self._hold(place, wish)
            else:
                await self._start_over()

    async def _sit_out(self, wish: LockOptions, refusal: CircuitOpen) -> None:
        """Wait for the end of the outage, if that was asked for.

        Raises:
            CircuitOpen: It was not.
            LockTimeout: It was, but not to wait.
        """
        place = self.front.place
        if place is not None and place.holder is None:
            # Or else nobody on this machine could have the lock LOCAL.
            self.front.free_host(place)
        if wish.on_outage != "wait":
            raise refusal
        if wish.timeout == 0:
            raise LockTimeout(f"lock {self.name!r}: {refusal}") from refusal
        await self._parts.recovery()

    async def _start_over(self) -> None:
        """Give up a place that is of no more use, and pause."""
        place = self.front.place
        if place is not None and place.holder is None:
            loss = place.loss()
            if loss is not None and loss.definite:
                self.front.drop(place)
        await anyio.sleep(AFTER_DOUBT * (0.5 + 0.5 * self._parts.chance()))

    def _hold(self, place: QueueKey, wish: LockOptions) -> Grant:
        grant = Grant(self.name, wish, self._parts, place)
        grant.has_turn = True
        place.keep(self._parts.start)
        return grant

    # In an outage ----------------------------------------------------------------------------------------------

    def outage(self) -> None:
        """Tell those in the line that an outage is declared; who waits it out stays in line."""
        self.line.wake(lambda wish: wish.on_outage != "wait")
        self._moved.fire()

    def close(self) -> None:
        """Let all in the line look again: the coordinator is closed."""
        self.line.wake(lambda wish: True)
        self._moved.fire()

    async def _in_outage(self, wish: LockOptions, refusal: CircuitOpen) -> Grant | None:
        """Do what was asked for; return None if the outage has ended meanwhile."""
        if wish.on_outage == "fail":
            raise LockUnavailable(f"lock {self.name!r} is refused: {refusal}") from refusal
        hosts = self._parts.hosts
        try:
            taken = hosts.take_now(self.name)
            if not taken:
                if wish.timeout == 0:
                    raise LockTimeout(f"lock {self.name!r} is held on this machine")
                taken = await self.front.host_unless(self._parts.recovery)
        except OSError as exc:
            self._parts.host_failed(exc)
            text = f"lock {self.name!r}: {refusal}; and this machine has no place for local locks: {exc}"
            raise LockUnavailable(text) from exc
        if not taken:
            return None
        try:
            over = self._parts.refusal() is None
        except (AuthenticationFailed, Closed):
            hosts.give(self.name)
            raise
        if over:
            hosts.give(self.name)
            return None
        return Grant(self.name, wish, self._parts, None)

    # Letting go ------------------------------------------------------------------------------------------------

    def release(self, grant: Grant) -> None:
        """Take in that a body has been left; never waits."""
        place = grant.place
        if place is None or place.holder is not grant:
            # LOCAL, with no key in the line.
            self._parts.hosts.give(self.name)
            if grant.has_turn:
                self._pass_on(grant.wish)
        else:
            place.holder = None
            if grant.has_turn:
                self._pass_on(grant.wish)
            else:
                self._leave_to_driver(place, grant.wish)
        self.use(-1)

    def _leave_to_driver(self, place: QueueKey, last: LockOptions) -> None:
        """Take back a place that was brought to the front under somebody who has the turn and goes on now."""
        if self._driving is None or not self._may_hand_over(place, last, self._driving):
            self.front.drop(place)
        else:
            place.handovers += 1
            self.front.free_host(place)
        self._moved.fire()

    def _pass_on(self, last: LockOptions) -> None:
        """Give the turn to the next in line, and the place with it if that may be."""
        place, following = self.front.place, self.line.next_wish
        if place is not None and place.holder is None:
            if following is None or not self._may_hand_over(place, last, following):
                self.front.drop(place)
            elif place.issued:
                place.handovers += 1
                if place.handovers == 1:
                    self._parts.start(place.scout, self.front.queue)
        self.line.pass_on()

    def _may_hand_over(self, place: QueueKey, last: LockOptions, following: LockOptions) -> bool:
        if not place.issued:
            # Nobody has had it yet: the next one takes over the place in the line as it is.
            return not place.own.gone
        return may_hand_over(
            Handover(
                wanted=last.handover and following.handover,
                trusted=place.loss() is None,
                left=place.session.deadline - self._parts.boot(),
                renew_interval=place.session.renew_interval,
                unresolved=place.pending.unresolved,
                count=place.handovers,
                seen_after=place.rival_after,
                seen_for=place.rival_for,
            ),
            _RULES,
        )

    # What reconciling needs ------------------------------------------------------------------------------------

    def bring_to_front(self, grant: Grant, place: QueueKey) -> None:
        """Let a LOCAL hold stand on a place that is first."""
        place.first = place.hosted = True
        if grant.place is not place and not self.line.turn:
            self.line.turn = grant.has_turn = True
        grant.promote(place)
        place.keep(self._parts.start)

    def clear_away(self) -> None:
        """Give back a place that nobody is on, and nobody on the way to."""
        place = self.front.place
        if place is not None and place.holder is None and not self.line.turn:
            self.front.drop(place)
