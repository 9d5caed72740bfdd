"""The line for one lock in this process: those who want one name with one ttl.

They share a session, and so one key in etcd's line, their place. Whoever has the *turn* brings the place to the
front, and holds the lock on it; the turn goes round in order. While others wait here, the place is handed on
with the turn, as far as `resilience.handover` allows; else it is given back in the background, and made anew at
the end of the line.

In a declared outage nobody is at the front. Whoever asked for LOCAL gets by on the host lock alone, turn or
not; after the outage such a hold is brought to the front, or is in conflict (`reconcile`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable

import anyio

from tideover.core.queue import Queue
from tideover.core.signal import Signal
from tideover.errors import (
    CircuitOpen,
    LockConflict,
    LockLost,
    LockTimeout,
    LockUnavailable,
    OutcomeUnknown,
    SessionLost,
    TideoverError,
    Unavailable,
)
from tideover.locks.grant import Grant
from tideover.locks.parts import Parts
from tideover.locks.place import Place
from tideover.locks.wish import Wish
from tideover.resilience.handover import Handover, HandoverRules, may_hand_over
from tideover.resilience.reconcile import Verdict, verdict

# Seconds before the next try when the session is in doubt; up to how many before the first one after an outage.
_AFTER_DOUBT = 0.1
_AFTER_OUTAGE = 0.5

_RULES = HandoverRules()


class _Waiter:
    """One in the line.

    Attributes:
        event: Set when there is news.
        has_turn: Whether it is its turn; else an outage is declared.
    """

    __slots__ = ("event", "has_turn", "wish")

    def __init__(self, wish: Wish) -> None:
        self.wish = wish
        self.event = anyio.Event()
        self.has_turn = False


class Cohort:
    """The line for one name and ttl.

    Args:
        name: The lock.
        ttl: Of the session, in seconds.
        parts: What all locks of a coordinator share.

    Attributes:
        place: Our key in etcd's line; None if there is none.
    """

    def __init__(self, name: str, ttl: int, parts: Parts) -> None:
        self.name = name
        self.ttl = ttl
        self.place: Place | None = None
        self._parts = parts
        self._queue: Queue = parts.queue(name)
        self._line: deque[_Waiter] = deque()
        self._turn = False
        self._driving: Wish | None = None
        self._making = anyio.Lock(fast_acquire=True)
        self._releasing: anyio.Event | None = None
        self._moved = Signal()
        # Waiting, or in the body: a cohort in use must not be replaced by another one, with the same key in etcd.
        self._users = 0

    def __repr__(self) -> str:
        """Show the name and how many wait."""
        return f"<Cohort {self.name!r} ttl {self.ttl}, {self.waiting} waiting>"

    @property
    def waiting(self) -> int:
        """How many wait."""
        return len(self._line) + (self._driving is not None)

    @property
    def idle(self) -> bool:
        """Whether nobody would miss it."""
        return not (self._turn or self._line or self._users or self.place or self._releasing)

    # Getting it ------------------------------------------------------------------------------------------------

    async def acquire(self, wish: Wish) -> Grant:
        """Wait for the lock.

        Raises:
            LockUnavailable: An outage is declared, and that is what was asked for.
            Closed: The coordinator is closed.
            LockTimeout: It is not free, and the timeout is 0.
            TideoverError: A definite no, such as `PermissionDenied`.
        """
        self._users += 1
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
            self._users -= 1
            raise

    async def _wait_for_turn(self, wish: Wish) -> bool:
        """Wait in line; return False if an outage is declared meanwhile that this one does not wait out."""
        if not self._turn:
            self._turn = True
            return True
        if wish.timeout == 0:
            raise LockTimeout(f"lock {self.name!r} is in use in this process")
        waiter = _Waiter(wish)
        self._line.append(waiter)
        try:
            await waiter.event.wait()
        except BaseException:
            if waiter.has_turn:
                self._pass_on(wish)
            elif waiter in self._line:
                self._line.remove(waiter)
            raise
        return waiter.has_turn

    async def _on_turn(self, wish: Wish) -> Grant | None:
        """Bring the place to the front, and hold the lock; return None if it was in vain."""
        place = self.place
        if place is not None and place.first and place.hosted and place.holder is None and place.loss() is None:
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

    async def _drive(self, wish: Wish) -> Grant:
        waited_out = False
        while True:
            refusal = self._parts.refusal()
            if refusal is not None:
                if wish.on_outage != "wait":
                    raise refusal
                if wish.timeout == 0:
                    raise LockTimeout(f"lock {self.name!r}: {refusal}") from refusal
                await self._parts.recovery()
                waited_out = True
                continue
            if waited_out:
                # All who have waited come now.
                await anyio.sleep(_AFTER_OUTAGE * self._parts.chance())
                waited_out = False
            try:
                place = await self._make_place()
                await self._come_first(place, wish)
                await self._take_host(place, wish)
            except (SessionLost, OutcomeUnknown, Unavailable) as exc:
                if wish.timeout == 0:
                    raise LockTimeout(f"lock {self.name!r}: {exc}") from exc
                await self._start_over()
                continue
            if place.holder is not None:
                # A hold of this process that was LOCAL has been brought to the front on it.
                moved = self._moved.next()
                if place.holder is not None:
                    await moved.wait()
                continue
            if self.place is place and self._is_trusted(place):
                return self._hold(place, wish)
            await self._start_over()

    async def _start_over(self) -> None:
        """Give up a place that is of no more use, and pause."""
        place = self.place
        if place is not None and place.holder is None:
            loss = place.loss()
            if loss is not None and loss.definite:
                self._drop(place)
        await anyio.sleep(_AFTER_DOUBT * (0.5 + 0.5 * self._parts.chance()))

    async def _make_place(self) -> Place:
        """Return our place in the line; make one if there is none.

        Raises:
            TideoverError: As of `Session.put`.
        """
        while self._releasing is not None:
            await self._releasing.wait()
        async with self._making:
            place = self.place
            if place is None or (place.own.gone and place.holder is None):
                if place is not None:
                    self._drop(place)
                session = await self._parts.session(self.ttl)
                key = f"locks/{self.name}/{session.lease_id:x}"
                own = await session.claim(key, self._parts.where, reads=[self._queue.first])
                place = self.place = Place(own, session, now=self._parts.clock.monotonic)
                place.first = self._queue.is_first(own, own.reads[0])
            return place

    async def _come_first(self, place: Place, wish: Wish) -> None:
        """Wait until the place is the first in etcd's line."""
        if place.first:
            return
        before = await self._queue.before(place.own)
        if before is not None:
            if wish.timeout == 0:
                raise LockTimeout(f"lock {self.name!r} is held by {before.key.decode(errors='replace')}")
            if await self._queue.wait(place.own, why=wish.lock_delay > 0):
                await anyio.sleep(wish.lock_delay)
                await self._queue.before(place.own)
        place.first = True

    async def _take_host(self, place: Place, wish: Wish) -> None:
        """Take the host lock, after the place has come first."""
        if place.hosted or place.holder is not None:
            return
        try:
            if not self._parts.hosts.take_now(self.name):
                if wish.timeout == 0:
                    raise LockTimeout(f"lock {self.name!r} is held LOCAL on this machine")
                await self._wait_for_host(place)
                if place.holder is not None:
                    self._parts.hosts.give(self.name)
                    return
            place.hosted = True
        except OSError as exc:
            # The lock itself does not need it; only a LOCAL one would.
            self._parts.host_failed(exc)

    async def _wait_for_host(self, place: Place) -> None:
        async def until_gone() -> None:
            await place.own.gone.wait()

        if not await self._host_unless(until_gone):
            raise SessionLost(f"{place.own.key!r} is gone: {place.own.gone.reason}", definite=True)

    async def _host_unless(self, over: Callable[[], Awaitable[None]]) -> bool:
        """Wait for the host lock until something else happens; return whether it was taken.

        Raises:
            OSError: This machine has no place for host locks.
        """
        taken = False
        failed: OSError | None = None
        try:
            async with anyio.create_task_group() as tasks:

                async def give_up() -> None:
                    await over()
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
        if failed is not None:
            raise failed
        return taken

    def _is_trusted(self, place: Place) -> bool:
        """Whether a body may begin on it: one that would be lost in a moment had better not begin."""
        return place.loss() is None and place.session.deadline - self._parts.boot() > place.session.renew_interval

    def _hold(self, place: Place, wish: Wish) -> Grant:
        fresh = not place.issued
        grant = Grant(self.name, wish, self._parts, place)
        grant.has_turn = True
        if fresh:
            self._parts.start(place.keep)
        return grant

    # In an outage ----------------------------------------------------------------------------------------------

    def outage(self) -> None:
        """Tell those in the line that an outage is declared; who waits it out stays in line."""
        for waiter in [waiter for waiter in self._line if waiter.wish.on_outage != "wait"]:
            self._line.remove(waiter)
            waiter.event.set()

    def wake(self) -> None:
        """Let all in the line look again: the coordinator is closed."""
        for waiter in list(self._line):
            self._line.remove(waiter)
            waiter.event.set()
        self._moved.fire()

    async def _in_outage(self, wish: Wish, refusal: CircuitOpen) -> Grant | None:
        """Do what was asked for; return None if the outage has ended meanwhile."""
        if wish.on_outage == "fail":
            raise LockUnavailable(f"lock {self.name!r} is refused: {refusal}") from refusal
        hosts = self._parts.hosts
        try:
            taken = hosts.take_now(self.name)
            if not taken:
                if wish.timeout == 0:
                    raise LockTimeout(f"lock {self.name!r} is held on this machine")
                taken = await self._host_unless(self._parts.recovery)
        except OSError as exc:
            self._parts.host_failed(exc)
            text = f"lock {self.name!r}: {refusal}; and this machine has no place for local locks: {exc}"
            raise LockUnavailable(text) from exc
        if not taken:
            return None
        if self._parts.refusal() is None:
            hosts.give(self.name)
            return None
        return Grant(self.name, wish, self._parts, None)

    # Letting go ------------------------------------------------------------------------------------------------

    def release(self, grant: Grant) -> None:
        """Take in that a body has been left; never waits."""
        self._users -= 1
        place = grant.place
        if place is None or place.holder is not grant:
            # LOCAL, with no key in the line.
            self._parts.hosts.give(self.name)
            if grant.has_turn:
                self._pass_on(grant.wish)
            return
        place.holder = None
        if grant.has_turn:
            self._pass_on(grant.wish)
            return
        # It was brought to the front under a waiter that has the turn and goes on now.
        if self._driving is None or not self._may_hand_over(place, grant.wish, self._driving):
            self._drop(place)
        else:
            place.handovers += 1
            self._free_host(place)
        self._moved.fire()

    def _pass_on(self, last: Wish) -> None:
        """Give the turn to the next in line, and the place with it if that may be."""
        place = self.place
        following = self._line.popleft() if self._line else None
        if place is not None and place.holder is None:
            if following is None or not self._may_hand_over(place, last, following.wish):
                self._drop(place)
            elif place.issued:
                place.handovers += 1
                if place.handovers == 1:
                    self._parts.start(self._scout, place)
        self._turn = following is not None
        if following is not None:
            following.has_turn = True
            following.event.set()

    async def _scout(self, place: Place) -> None:
        await place.scout(self._queue)

    def _may_hand_over(self, place: Place, last: Wish, following: Wish) -> bool:
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

    def _free_host(self, place: Place) -> None:
        if place.hosted:
            place.hosted = False
            self._parts.hosts.give(self.name)

    def _drop(self, place: Place) -> None:
        """Give the place back, in the background."""
        if self.place is place:
            self.place = None
        place.drop()
        self._free_host(place)
        if place.own.gone:
            return
        done = anyio.Event()
        if self._parts.start(self._give_back, place, done):
            self._releasing = done

    async def _give_back(self, place: Place, done: anyio.Event) -> None:
        try:
            await place.session.delete(place.own)
        finally:
            if self._releasing is done:
                self._releasing = None
            done.set()
            self._parts.settled(self)

    async def released(self) -> None:
        """Wait until nothing is being given back."""
        while self._releasing is not None:
            await self._releasing.wait()

    # After an outage -------------------------------------------------------------------------------------------

    async def reconcile(self, grant: Grant) -> None:
        """Bring a LOCAL hold to the front of the line, or end it; ends early if another outage is declared."""
        self._users += 1
        try:
            while grant.is_local and not self._parts.outage_declared():
                try:
                    if await self._reconcile(grant):
                        return
                except (SessionLost, OutcomeUnknown, Unavailable):
                    pass
                except TideoverError as exc:
                    grant.end(LockLost(f"lock {self.name!r} was held LOCAL, and cannot be had from etcd: {exc}"))
                    return
                await anyio.sleep(_AFTER_DOUBT * (0.5 + 0.5 * self._parts.chance()))
        finally:
            self._users -= 1

    async def _reconcile(self, grant: Grant) -> bool:
        """Try once; return whether it is decided."""
        before = grant.place
        if before is not None:
            loss = before.loss()
            if loss is not None and not loss.definite:
                return False  # the lease is neither proven yet nor lost
            if loss is not None:
                before.holder = None
                if self.place is before:
                    self.place = None
                before.drop()
                grant.place = before = None
        place = before or await self._make_place()
        older = await self._queue.before(place.own)
        if not grant.is_local or place.loss() is not None or place.holder not in (None, grant):
            return place.holder not in (None, grant) and self._conflict(grant, "another hold of this process")
        own = place.own.create_revision
        first = own if older is None else older.entry.create_revision
        found = verdict(own=own, first=first, before=None if before is None else own)
        if found is Verdict.CONFLICT:
            who = older.key.decode(errors="replace") if older is not None else ""
            return self._conflict(grant, who)
        self._bring_to_front(grant, place)
        return True

    def _bring_to_front(self, grant: Grant, place: Place) -> None:
        place.first = place.hosted = True
        fresh = grant.place is not place
        if fresh and not self._turn:
            self._turn = grant.has_turn = True
        grant.promote(place)
        self._parts.start(place.keep)

    def _conflict(self, grant: Grant, who: str) -> bool:
        text = f"lock {self.name!r} was held LOCAL while etcd was away, and is held by {who}"
        grant.end(LockConflict(text))
        place = self.place
        if place is not None and place.holder is None and not self._turn:
            self._drop(place)
        return True
