"""The keys under one lease: how they are written, given back, and cleared away if that could not be done.

A write whose reply is lost may be applied ten seconds later (docs/explanation/errors.md). Hence each write is
guarded by the revision of the session's own key, the anchor, and by the key's own last revision. Trying again is
then harmless; and once the anchor has been written again, a write still under way is refused when it arrives.

*Debris* is a key whose owner has left while etcd could not be asked. Under a lease that lives on the key would
stay, and the next process that wants the name would wait for no holder. It is deleted before a renewal counts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import anyio

from tideover.client.direct import DirectCalls
from tideover.client.gateway import Gateway
from tideover.clock import Clock
from tideover.errors import KeyTaken, OutcomeUnknown, SessionLost
from tideover.policies import RetryPolicy
from tideover.sessions.key import LeasedKey
from tideover.sessions.key_watch import KeyWatches
from tideover.sessions.lease import LeaseState
from tideover.store.faults import Fault, StoreFault, public_error
from tideover.store.operations import Delete, Put, Range, RangeResult
from tideover.store.transactions import Compare, Txn, TxnResult
from tideover.types import Entry

# Seconds between two tries of a write whose outcome is unknown.
_PAUSE = 0.1
# How many keys are made, given back, and cleared away at once: thousands at the same moment would leave etcd and
# this process no time for probes and renewals.
_WRITES_AT_ONCE = 64
_SWEEPS_AT_ONCE = 32


@dataclass(slots=True)
class OrphanedKeys:
    """A key to be deleted."""

    full: bytes
    create_revision: int | None  # None if it is not known: the write that makes the key may still be under way
    guard: int  # the anchor's revision that the write was guarded by
    fence: int = 0  # the anchor's revision from which on the write is refused; 0 as long as it is not


@dataclass(slots=True)
class _Attempt:
    """A write under way, of a key that is not held yet if its revisions are 0; `sent` once it may be applied."""

    own: LeasedKey
    value: bytes
    reads: tuple[Range, ...]
    sent: bool = False


class SessionKeys:
    """The keys under one lease."""

    def __init__(
        self,
        tenure: LeaseState,
        *,
        gateway: Gateway,
        direct: DirectCalls,
        clock: Clock,
        policy: RetryPolicy,
        watches: KeyWatches,
    ) -> None:
        self._watch = watches.begin(tenure, self.forget)
        self._tenure = tenure
        self._gateway = gateway  # for writes, which an outage may refuse
        self._direct = direct  # for deleting, which an outage may not refuse
        self._clock = clock
        self._policy = policy
        self._keys: dict[bytes, LeasedKey] = {}
        self._debris: dict[bytes, OrphanedKeys] = {}
        self._writing = 0
        self._drained: anyio.Event | None = None
        self._stuck_since: float | None = None

    # Most sessions of thousands write one key, or none.

    @cached_property
    def _claims(self) -> anyio.Semaphore:
        # One with room is entered without a turn of the event loop, unlike a `CapacityLimiter`.
        return anyio.Semaphore(_WRITES_AT_ONCE, fast_acquire=True)

    @cached_property
    def _returns(self) -> anyio.Semaphore:
        return anyio.Semaphore(_WRITES_AT_ONCE, fast_acquire=True)

    def __iter__(self) -> Iterator[LeasedKey]:
        """The keys held."""
        return iter(list(self._keys.values()))

    @property
    def silence(self) -> float:
        """Seconds since the last sign of life of what watches the keys; infinity if nothing does."""
        return self._watch.silence()

    @property
    def debris(self) -> int:
        """How many keys are still to be cleared away."""
        return len(self._debris)

    @property
    def stuck(self) -> bool:
        """Whether clearing away has failed for a whole TTL, although etcd could be asked."""
        since = self._stuck_since
        return since is not None and self._clock.boot() - since >= self._tenure.rules.ttl

    @property
    def patience(self) -> float:
        """Seconds until it is stuck; infinite if nothing has failed, or if it has been stuck before."""
        since = self._stuck_since
        left = -1.0 if since is None else since + self._tenure.rules.ttl - self._clock.boot()
        return left if left > 0 else math.inf

    async def drained(self) -> None:
        """Wait until no write is under way."""
        while self._writing:
            self._drained = anyio.Event()
            await self._drained.wait()

    # Writing ---------------------------------------------------------------------------------------------------

    async def write(self, key: str, full: bytes, value: bytes, reads: Sequence[Range] = ()) -> LeasedKey:
        """Make a key, or write one of our own again; see `Session.put`."""
        async with self._claims:
            known = self._keys.get(full)
            attempt = _Attempt(known or LeasedKey(key, full, Entry(b"", 0, 0)), value, tuple(reads))
            self._writing += 1
            try:
                await self._clear_name(full)
                own = await self._settle(attempt)
                loss = self._tenure.loss()
                if loss is not None:
                    raise loss
            except BaseException as exc:
                if known is None and (attempt.sent or not isinstance(exc, Exception)):
                    self._abandon((full,))
                raise
            finally:
                self._written()
            return own

    def _written(self) -> None:
        self._writing -= 1
        if self._drained is not None and not self._writing:
            self._drained.set()

    async def make(self, values: Mapping[tuple[str, bytes], bytes]) -> list[LeasedKey] | None:
        """Make many keys in one transaction; see `Session.make`."""
        fulls = [full for _, full in values]
        made: list[LeasedKey] | None = None
        self._writing += 1
        try:
            if not any(full in self._keys or full in self._debris for full in fulls):
                made = await self._make_all(values)
            loss = self._tenure.loss()
            if loss is not None:
                raise loss
        except BaseException as exc:
            if made or isinstance(exc, OutcomeUnknown) or not isinstance(exc, Exception):
                self._abandon(fulls)
            raise
        finally:
            self._written()
        return made

    async def _make_all(self, values: Mapping[tuple[str, bytes], bytes]) -> list[LeasedKey] | None:
        anchor, lease, known = self._tenure.anchor, self._tenure.lease_id, self._tenure.known
        absent = (Compare(full, mod_revision=0) for _, full in values)
        compares = (Compare(anchor.full, mod_revision=anchor.mod_revision), *absent)
        puts = tuple(Put(full, value, lease) for (_, full), value in values.items())
        write = Txn(compares, then=puts, otherwise=(Range(anchor.full, keys_only=True),))
        answered = await self._gateway.call(write, self._policy)
        self._tenure.learn(answered.result.header, known)
        if not answered.result.succeeded:
            return None
        revision = answered.result.header.revision
        made = [LeasedKey(key, full, Entry(value, revision, revision)) for (key, full), value in values.items()]
        for own in made:
            self._keys[own.full] = own
            self._watch.unwatched.put(own, self._watch)
        return made

    def _abandon(self, fulls: Iterable[bytes]) -> None:
        """Let keys be deleted whose writer has left, and that may have been made, or may be yet."""
        if self._tenure.lost:
            return
        for full in fulls:
            self._keys.pop(full, None)
            self._debris[full] = OrphanedKeys(full, None, self._tenure.anchor.mod_revision)
        self._tenure.hasten()

    async def _settle(self, attempt: _Attempt) -> LeasedKey:
        """Write until it is known what came of it."""
        deadline = self._clock.monotonic() + self._policy.timeout
        own, expected, policy = attempt.own, attempt.own.mod_revision, self._policy
        while True:
            write = self._writing_of(attempt, expected)
            known = self._tenure.known
            try:
                answered = await self._gateway.call(write, policy)
            except OutcomeUnknown:
                attempt.sent = True
                if self._clock.monotonic() + _PAUSE >= deadline:
                    raise
                await anyio.sleep(_PAUSE)
                policy = self._policy.within(max(0.001, deadline - self._clock.monotonic()))
                continue
            result = answered.result
            self._tenure.learn(result.header, known)
            if result.succeeded:
                attempt.sent = True
                found = tuple(result.entries(n - len(attempt.reads)) for n in range(len(attempt.reads)))
                if expected:
                    return self._hold(own, result.entries(1).entries[own.full], found)
                revision = result.header.revision
                return self._hold(own, Entry(attempt.value, revision, revision), found)
            policy = self._policy.within(max(0.001, deadline - self._clock.monotonic()))
            expected = await self._after_refusal(own, result, policy)

    def _writing_of(self, attempt: _Attempt, expected: int) -> Txn:
        anchor, full = self._tenure.anchor, attempt.own.full
        # What makes a key says all there is to know of it.
        written = (Range(full),) if expected else ()
        return Txn(
            (
                Compare(anchor.full, mod_revision=anchor.mod_revision),
                Compare(full, mod_revision=expected),
            ),
            then=(Put(full, attempt.value, self._tenure.lease_id), *written, *attempt.reads),
            otherwise=(Range(anchor.full), Range(full)),
        )

    async def _after_refusal(self, own: LeasedKey, refused: TxnResult, policy: RetryPolicy) -> int:
        """Return the revision to expect at the next try, or raise if there is none."""
        self._take_anchor(refused.entries(0))
        entry = refused.entries(1).entries.get(own.full)
        if entry is None or entry.create_revision != own.create_revision:
            self.forget(own, f"it was not there any more at revision {refused.header.revision}")
        if entry is None:
            return 0
        if entry.mod_revision == own.mod_revision:
            return entry.mod_revision
        # An earlier try was applied, or the key is another session's.
        mine = Txn(
            (Compare(own.full, mod_revision=entry.mod_revision, lease=self._tenure.lease_id),),
            then=(Range(own.full, keys_only=True),),
            otherwise=(Range(own.full, keys_only=True),),
        )
        answered = await self._gateway.call(mine, policy)
        if answered.result.succeeded:
            return entry.mod_revision
        raise KeyTaken(f"{own.key!r} exists, and is not this session's", key=own.key)

    def _take_anchor(self, found: RangeResult) -> None:
        """Go on from the anchor's present revision. Raises `SessionLost`: the anchor is gone."""
        anchor = self._tenure.anchor
        entry = found.entries.get(anchor.full)
        if entry is None or entry.create_revision != anchor.create_revision:
            self._tenure.end(f"its key is gone at revision {found.header.revision}: etcd has ended the lease")
            raise SessionLost(f"session {self._tenure.lease_id:x}: {self._tenure.lost.reason}", definite=True)
        anchor.take(entry)

    def _hold(self, own: LeasedKey, entry: Entry, reads: tuple[RangeResult, ...]) -> LeasedKey:
        if own.full in self._keys and entry.create_revision == own.create_revision and not own.gone:
            own.take(entry, reads)
            return own
        if own.create_revision or own.gone:
            fresh = LeasedKey(own.key, own.full, entry, reads)
        else:
            fresh = own
            fresh.create_revision = entry.create_revision
            fresh.take(entry, reads)
        self._keys[own.full] = fresh
        self._watch.unwatched.put(fresh, self._watch)
        return fresh

    # Giving back -----------------------------------------------------------------------------------------------

    async def give_back(self, own: LeasedKey, timeout: float) -> bool:
        """Delete a key; see `Session.delete`."""
        if self._keys.get(own.full) is not own:
            return True
        del self._keys[own.full]
        own.gone.give("its owner gave it back")
        debris = self._debris[own.full] = OrphanedKeys(own.full, own.create_revision, 0)
        self._writing += 1
        try:
            async with self._returns:
                # What was left behind may have been cleared away meanwhile.
                if self._debris.get(own.full) is debris:
                    await self._delete(debris, timeout)
        except StoreFault:
            return False
        finally:
            if own.full in self._debris:
                self._tenure.hasten()
            self._written()
        return True

    def forget(self, own: LeasedKey, why: str) -> None:
        """Record that a key is gone, and why."""
        own.gone.give(why)
        if self._keys.get(own.full) is own:
            del self._keys[own.full]

    async def sweep(self) -> Fault | None:
        """Delete all debris, many at once: meanwhile the lease cannot be proven. Return what prevented it."""
        faults: list[Fault] = []
        limiter = anyio.CapacityLimiter(_SWEEPS_AT_ONCE)

        async def delete(debris: OrphanedKeys) -> None:
            async with limiter:
                try:
                    if not faults:
                        await self._delete(debris, self._tenure.rules.rpc_timeout)
                except StoreFault as exc:
                    faults.append(exc.fault)

        async with anyio.create_task_group() as tasks:
            for debris in list(self._debris.values()):
                tasks.start_soon(delete, debris)
        if faults and self._stuck_since is None:
            self._stuck_since = self._clock.boot()
        elif not faults:
            self._stuck_since = None
        return faults[0] if faults else None

    async def _clear_name(self, full: bytes) -> None:
        """Delete what was left behind under a name, before it is used again."""
        debris = self._debris.get(full)
        if debris is None:
            return
        try:
            await self._delete(debris, self._policy.timeout)
        except StoreFault as exc:
            raise public_error(exc.fault, doing=f"clear away {full!r}", writes=False) from exc

    async def _delete(self, debris: OrphanedKeys, timeout: float) -> None:
        """Delete one piece of debris; twice at once does no harm. Raises `StoreFault`: its fate is not known."""
        if self._tenure.lost:
            return
        created = debris.create_revision
        if created is None:
            created = await self._fence(debris, timeout)
        if created:
            # Guarded by its own revision: applied late, it does not strike a later key of the same name.
            read = Range(debris.full, keys_only=True)
            gone = Txn(
                (Compare(debris.full, create_revision=created),), then=(Delete(debris.full),), otherwise=(read,)
            )
            await self._direct.ask(gone, timeout=timeout)
        if self._debris.get(debris.full) is debris:
            del self._debris[debris.full]

    async def _fence(self, debris: OrphanedKeys, timeout: float) -> int:
        """Write the anchor again, so that a write still under way is refused when it arrives.

        Returns the revision at which the key has been made under this lease; 0 if it has not, and never will be.
        """
        anchor, lease = self._tenure.anchor, self._tenure.lease_id
        if anchor.mod_revision <= debris.guard:
            fence = Txn(
                (Compare(anchor.full, mod_revision=anchor.mod_revision),),
                then=(Put(anchor.full, anchor.value, lease), Range(anchor.full)),
                otherwise=(Range(anchor.full), Range(anchor.full)),
            )
            done = await self._direct.ask(fence, timeout=timeout)
            try:
                self._take_anchor(done.entries(1))
            except SessionLost:
                return 0
        debris.fence = debris.fence or anchor.mod_revision
        read = Range(debris.full, keys_only=True)
        mine = Txn((Compare(debris.full, lease=lease),), then=(read,), otherwise=(read,))
        found = await self._direct.ask(mine, timeout=timeout)
        entry = found.entries(0).entries.get(debris.full)
        # What was made after the fence is no debris: another task has cleared the name, and has used it again.
        if not found.succeeded or entry is None or entry.create_revision > debris.fence:
            return 0
        return entry.create_revision
