"""Watching the keys of all sessions of a coordinator: what is deleted is a definite no, and known at once.

All of them are watched at one member, over one stream and with one reader, each from the revision after which it
came to be: the anchors, which end with their leases, by one watch of what they begin with, every other key by a
watch of its own.

A quiet stream is not believed: it is asked for a sign of life every two seconds, every half second while a lease
cannot be proven, and all is watched elsewhere if none comes. Where to watch is where leases are renewed, because
their proofs show that the member keeps up with the others; once a lease has left it, the member has to show it to
this one.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import anyio
from anyio.abc import TaskGroup

from tideover.broadcast import Broadcast
from tideover.client.direct import DirectCalls
from tideover.clock import Clock
from tideover.sessions.key import LeasedKey, Unwatched
from tideover.sessions.lease import LeaseState
from tideover.store.faults import Fault, FaultKind, StoreFault
from tideover.store.operations import Range, RangeResult, prefix_end
from tideover.store.protocol import Compacted, WatchBatch, WatchGroup
from tideover.ticker import Ticker

# Seconds between two questions for a sign of life, and within which one must come.
_ASK_EVERY = 2.0
_ASK_EVERY_IN_DOUBT = 0.5
_SIGN_WITHIN = 1.0
# Seconds before a new key is watched: most locks are held for less, and then it takes no watch at all.
_SHORT_HOLD = 0.02
# Seconds before a watch that was refused alone is tried again.
_AGAIN = 4.0
# Seconds for which a login is not suspected of being the reason of a refusal.
_LOGIN_GOOD_FOR = 60.0
_OF_THE_LOGIN = frozenset({FaultKind.AUTH_TOKEN, FaultKind.PERMISSION})
# How many keys are read at once whose history is gone.
_READING_AT_ONCE = 16


class _LoginSpentError(StoreFault):
    """Raised when a watch was refused, and a new login may help: all begin again with one."""


class LeaseWatch:
    """The watching of one lease's keys; made by `KeyWatches.begin`, and over with the lease."""

    __slots__ = ("forget", "silence", "tenure", "unwatched")

    def __init__(
        self,
        unwatched: Unwatched,
        tenure: LeaseState,
        forget: Callable[[LeasedKey, str], object],
        silence: Callable[[], float],
    ) -> None:
        self.unwatched = unwatched  # takes each new key of the lease
        self.silence = silence  # seconds since the last sign of life of what watches; infinity if nothing does
        self.tenure = tenure
        self.forget = forget  # called with a key that is gone, and what has become of it

    def lose(self, own: LeasedKey, why: str) -> None:
        """Record that a key is gone."""
        if not own.gone:
            self.forget(own, why)
            self.tenure.hasten()


@dataclass(slots=True, eq=False)
class _KeyWatch:
    """The watch of one key, on behalf of a lease."""

    own: LeasedKey
    lease: LeaseWatch
    start: int  # the first revision that has not been seen

    @property
    def range(self) -> tuple[bytes, bytes | None]:
        """What is watched."""
        return self.own.full, None

    @property
    def over(self) -> bool:
        """Whether the watch has nothing left to tell."""
        return bool(self.own.gone) or bool(self.lease.tenure.lost)

    def take(self, batch: WatchBatch) -> None:
        """Learn what has happened."""
        for event in batch.events:
            self.start = event.revision + 1
            if event.entry is None or event.entry.create_revision != self.own.create_revision:
                self.lease.lose(self.own, f"it was deleted, as seen at revision {event.revision}")
                return

    def take_found(self, found: RangeResult) -> None:
        """Learn what is there."""
        entry = found.entries.get(self.own.full)
        if entry is None or entry.create_revision != self.own.create_revision:
            self.lease.lose(self.own, f"it was not there any more at revision {found.header.revision}")
        self.start = found.header.revision + 1

    def hurry(self) -> None:
        """Let the lease be proven now: something is the matter."""
        self.lease.tenure.hasten()


@dataclass(slots=True, eq=False)
class _AnchorsWatch:
    """The watch of all anchors."""

    prefix: bytes  # what the anchors begin with
    leases: dict[bytes, LeaseWatch]  # by their anchors
    start: int  # the first revision that has not been seen

    @property
    def range(self) -> tuple[bytes, bytes | None]:
        """What is watched."""
        return self.prefix, prefix_end(self.prefix)

    @property
    def over(self) -> bool:
        """Whether the watch has nothing left to tell."""
        return not self.leases

    def take(self, batch: WatchBatch) -> None:
        """Learn what has happened."""
        for event in batch.events:
            self.start = event.revision + 1
            lease = self.leases.get(event.key)
            created = event.revision if event.entry is None else event.entry.create_revision
            if lease is not None and created > lease.tenure.anchor.create_revision:
                self._end(lease, f"was deleted, as seen at revision {event.revision}")

    def take_found(self, found: RangeResult) -> None:
        """Learn what is there."""
        for key, lease in list(self.leases.items()):
            entry, created = found.entries.get(key), lease.tenure.anchor.create_revision
            if created <= found.header.revision and (entry is None or entry.create_revision != created):
                self._end(lease, f"was not there any more at revision {found.header.revision}")
        self.start = found.header.revision + 1

    def _end(self, lease: LeaseWatch, why: str) -> None:
        lease.tenure.end(f"etcd has ended the lease: its key {why}")

    def hurry(self) -> None:
        """Let all leases be proven now: something is the matter."""
        for lease in self.leases.values():
            lease.tenure.hasten()


class KeyWatches:
    """Watches the keys of all sessions of a coordinator; their anchors, and no others, begin with `prefix`."""

    def __init__(self, prefix: bytes, *, direct: DirectCalls, clock: Clock, ticker: Ticker) -> None:
        self._direct = direct
        self._clock = clock
        self._leases: dict[bytes, LeaseWatch] = {}
        self._anchors = _AnchorsWatch(prefix, self._leases, 0)
        self._keys: dict[_KeyWatch, None] = {}
        # From where to watch the anchors again, because one was not known yet when that was over.
        self._missed: list[int] = []
        self._unwatched = Unwatched()
        self._came = Broadcast()
        self._tick = ticker.every(math.inf, self._look)
        self._tasks: TaskGroup | None = None
        self._reading = anyio.CapacityLimiter(_READING_AT_ONCE)
        # The stream that is open, and what ends it.
        self._group: WatchGroup | None = None
        self._member = ""
        self._scope = anyio.CancelScope()
        self._silent = False
        self._heard_at = 0.0  # in boot-time seconds: what was heard before a suspend is old
        self._asked_at: float | None = None
        self._within = _SIGN_WITHIN
        self._put_off: dict[_KeyWatch | _AnchorsWatch, float] = {}
        # Where leases are renewed that are proven, and whether others are in doubt; of thousands not counted again
        # before one has changed.
        self._sound: frozenset[str] = frozenset()
        self._in_doubt = False
        self._counted = False
        self._left = False
        self._login_at = -math.inf
        self._tried: set[str] = set()
        self._rounds = 0

    # What is watched -------------------------------------------------------------------------------------------

    def begin(self, tenure: LeaseState, forget: Callable[[LeasedKey, str], object]) -> LeaseWatch:
        """Watch the anchor of a lease until the lease is lost; what is returned watches its other keys.

        `forget` is called with a key that is gone, and why.
        """
        first = tenure.anchor.create_revision + 1
        if not self._leases and self._group is None:
            self._anchors.start = first
        elif first < self._anchors.start:
            self._missed.append(first)
        lease = self._leases[tenure.anchor.full] = LeaseWatch(self._unwatched, tenure, forget, self._silence)
        tenure.turned = self._take_turn
        self._counted = False
        self._came.fire()
        self._unwatched.came.set()
        return lease

    def _silence(self) -> float:
        return math.inf if self._group is None else self._clock.boot() - self._heard_at

    async def run(self) -> None:
        """Watch until cancelled."""
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            tasks.start_soon(self._admit)
            await self._watch_on()

    async def _admit(self) -> None:
        """Begin to watch what has lived for a moment."""
        while True:
            came = self._unwatched.came = anyio.Event()
            if not (self._unwatched.keys or self._missed):
                await came.wait()
                continue
            # The anchors' watch tells of a lease's end meanwhile, and each begins where its key did.
            await anyio.sleep(_SHORT_HOLD)
            self._watch_missed()
            keys, self._unwatched.keys = self._unwatched.keys, []
            for own, lease in keys:
                watch = _KeyWatch(own, lease, own.create_revision + 1)
                if not watch.over:
                    self._keys[watch] = None
                    self._open(watch)

    def _watch_missed(self) -> None:
        """Watch the anchors again from where one came to be that was not known yet."""
        missed, self._missed = self._missed, []
        first = min(missed, default=self._anchors.start)
        if first < self._anchors.start:
            if self._group is not None:
                self._group.drop(self._anchors)
            self._anchors = _AnchorsWatch(self._anchors.prefix, self._leases, first)
            self._open(self._anchors)

    def _prune(self) -> None:
        """Forget leases that have ended, and watches that have nothing left to tell."""
        if not self._counted:
            self._count()
        for watch in [watch for watch in self._keys if watch.over]:
            self._drop(watch)

    def _count(self) -> None:
        self._counted = True
        for key in [key for key, lease in self._leases.items() if lease.tenure.lost]:
            del self._leases[key]
        places = {(lease.tenure.member, lease.tenure.failing) for lease in self._leases.values()}
        self._sound = frozenset(member for member, failing in places if not failing)
        self._in_doubt = any(failing for _, failing in places)

    def _drop(self, watch: _KeyWatch) -> None:
        self._keys.pop(watch, None)
        self._put_off.pop(watch, None)
        if self._group is not None:
            self._group.drop(watch)

    # Where -----------------------------------------------------------------------------------------------------

    async def _watch_on(self) -> None:
        """Watch at one member after the other."""
        while True:
            self._prune()
            came = self._came.next()
            if not self._leases:
                await came.wait()
                continue
            # While no quorum answers no key can be deleted; with thousands of keys, trying keeps a processor busy.
            await self._direct.settled()
            await self._direct.outage_over()
            member = self._home() or self._direct.pick(self._tried)
            try:
                if await self._follow(member):
                    continue
            except _LoginSpentError:
                continue
            except StoreFault as exc:
                self._direct.report(exc.fault)
            # What makes a watch end may have ended leases as well.
            self._anchors.hurry()
            self._tried.add(member)
            await self._direct.back_off(self._tried, rounds=self._rounds)
            self._rounds += not self._tried

    def _home(self) -> str | None:
        """Return the member at which most leases are renewed, of those that have not just been tried."""
        homes = Counter(lease.tenure.member for lease in self._leases.values() if not lease.tenure.failing)
        return next((member for member, _ in homes.most_common() if member not in self._tried), None)

    async def _follow(self, member: str) -> bool:
        """Watch at a member; return False if it fell silent, True if there is reason to go on elsewhere."""
        limit = self._direct.limit(member, _SIGN_WITHIN)
        async with self._direct.store.watch_group(member=member, timeout=limit) as group:
            self._group, self._member, self._silent, self._left = group, member, False, False
            self._put_off.clear()
            # The first answer is due in time, as every later one.
            self._asked_at, self._within = self._clock.monotonic(), limit
            self._tick.period = limit
            try:
                self._open(self._anchors)
                for watch in self._keys:
                    self._open(watch)
                with anyio.CancelScope() as self._scope:
                    while True:
                        for tag, frame in await group.receive():
                            self._take(tag, frame)
            finally:
                self._group, self._tick.period = None, math.inf
        return not self._silent

    def _go(self, *, silent: bool) -> None:
        """Watch elsewhere from now on."""
        self._silent = silent
        self._scope.cancel()

    def _open(self, watch: _KeyWatch | _AnchorsWatch) -> None:
        if self._group is None or watch.over:
            return
        try:
            self._group.add(watch, *watch.range, start_revision=watch.start)
        except StoreFault:
            return  # they have all ended, and the reader is told

    # What it says ----------------------------------------------------------------------------------------------

    def _take(self, watch: _KeyWatch | _AnchorsWatch | None, frame: WatchBatch | StoreFault) -> None:
        self._heard_at, self._asked_at = self._clock.boot(), None
        if watch is None:
            self._tried.clear()
            self._rounds = 0
        elif watch is not self._anchors and watch not in self._keys:
            return
        elif isinstance(frame, StoreFault):
            self._take_end(watch, frame)
        else:
            watch.take(frame)
            if isinstance(watch, _KeyWatch) and watch.over:
                self._drop(watch)

    def _take_end(self, watch: _KeyWatch | _AnchorsWatch, fault: StoreFault) -> None:
        """Record that a watch has ended alone: it is tried again, or all are, where a new login may help."""
        now, kind = self._clock.monotonic(), fault.fault.kind
        if isinstance(fault, Compacted) and self._tasks is not None:
            self._tasks.start_soon(self._read, watch, self._group)
            return
        # etcd 3.5.1 calls a watch without a valid token a denied one.
        if kind in _OF_THE_LOGIN and now > self._login_at + _LOGIN_GOOD_FOR:
            self._login_at = now
            raise _LoginSpentError(fault.fault)
        if kind is FaultKind.AUTH_TOKEN:
            raise fault
        self._direct.report(fault.fault)
        self._put_off_with(watch)

    def _put_off_with(self, watch: _KeyWatch | _AnchorsWatch) -> None:
        watch.hurry()
        self._put_off[watch] = self._clock.monotonic() + _AGAIN

    async def _read(self, watch: _KeyWatch | _AnchorsWatch, group: WatchGroup | None) -> None:
        """Look at what is there, because its history is gone, and watch from there."""
        async with self._reading:
            try:
                found = await self._direct.ask(Range(*watch.range, keys_only=True), timeout=_SIGN_WITHIN)
            except StoreFault:
                if self._group is group:
                    self._put_off_with(watch)
                return
        watch.take_found(found)
        if self._group is not group:
            return
        if isinstance(watch, _KeyWatch) and watch.over:
            self._drop(watch)
        else:
            self._open(watch)

    # Whether to believe it -------------------------------------------------------------------------------------

    def _take_turn(self, tenure: LeaseState, left: str | None) -> None:
        """Look now: a lease has come into doubt or out of it, or is renewed at some member no more."""
        self._counted = False
        # Thousands may be closed one by one: a lease that has ended waits for the next look.
        if self._group is not None and not tenure.lost:
            self._left = self._left or left == self._member
            self._tick.soon()

    def _look(self) -> None:
        """Ask for a sign of life if it is time; go elsewhere if none came, or if all leases have."""
        group, now = self._group, self._clock.monotonic()
        if group is None or self._scope.cancel_called:
            return
        self._prune()
        elsewhere = bool(self._sound) and self._member not in self._sound
        if not self._leases or (elsewhere and not self._tried):
            self._go(silent=False)
            return
        for watch in [watch for watch, due in self._put_off.items() if due <= now]:
            del self._put_off[watch]
            self._open(watch)
        if self._left and self._tasks is not None:
            self._left = False
            self._tasks.start_soon(self._examine, self._member, group)
        every = _ASK_EVERY_IN_DOUBT if self._in_doubt else _ASK_EVERY
        left = every - self._silence()
        if self._asked_at is None and left <= 0:
            self._ask(group, now)
        due = now + left if self._asked_at is None else self._asked_at + self._within
        if due <= now:
            self._go(silent=True)
        self._tick.period = due - now

    def _ask(self, group: WatchGroup, now: float) -> None:
        self._asked_at, self._within = now, _SIGN_WITHIN
        try:
            group.request_progress()
        except StoreFault:
            return  # they have all ended, and the reader is told

    async def _examine(self, member: str, group: WatchGroup) -> None:
        """Let a member that a lease has left show that it keeps up with the others, as a proof would."""
        read = Range(*self._anchors.range, limit=1, keys_only=True)
        answer = await self._direct.attempt(read, member, self._direct.limit(member, _SIGN_WITHIN))
        refused = isinstance(answer, Fault) and answer.kind is not FaultKind.PERMISSION
        if refused and self._group is group:
            self._go(silent=True)
