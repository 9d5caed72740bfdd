"""What was held while etcd was away, published when etcd is back: so that conflicts are found.

*Guarantee.* Each hold that touches an outage is written to disk as it begins, changes and ends. After the outage
all of it is published under a lease of seven days, and compared with what others have published. A process that
saw no outage has nothing on disk; it remembers its latest holds, and when it reads of a LOCAL one that may have
overlapped with one of them it publishes that, too.

*Not guaranteed.* A process that is killed forgets holds that touched no outage; and beyond the bounds below the
oldest holds are left out, or new ones are not recorded, which `error` says.
"""

from __future__ import annotations

import math
import os
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import anyio

from tideover import telemetry
from tideover.client.client import Client
from tideover.clock import Stamp
from tideover.errors import AuthenticationFailed, InvalidRequest, TideoverError, Unavailable
from tideover.fencing.token import fencing_token
from tideover.foreign_bytes import Malformed
from tideover.holders import process_name
from tideover.locks.hold_document import KEPT, MOST_HOLDS, decode, encode, latest, published
from tideover.locks.ledger_file import LedgerFile
from tideover.locks.rules.overlaps import Hold, Overlap, overlaps
from tideover.status import RejectedValue
from tideover.store.leases import LeaseGrant
from tideover.store.operations import Put, Range, ReadBatch, prefix_end
from tideover.store.transactions import Txn
from tideover.types import Entry, LockMode

# How many holds without an outage are remembered; how many puts, and bytes of them, go into one transaction: etcd
# takes 128, and 1.5 MiB.
_REMEMBERED = 10_000
_BATCH = 100
_BATCH_BYTES = 512 * 1024
# How many of its own holds a process keeps that have ended and are published: from then on others compare theirs.
_KEPT_PUBLISHED = 1_000
# How many holds of others are kept: those that were read last.
_MOST_OTHERS = 10_000
# How many published values that are no holds are remembered, to look at them again.
_MOST_REJECTED = 100
# Seconds between two looks at what others publish: usually, and for how long after an outage how often.
LOOK_EVERY = 60.0
_EAGER_FOR = 120.0
LOOK_EAGERLY_EVERY = 2.0
# The same while a value among them is no hold, until that is gone.
_LOOK_AGAIN = 10.0


@dataclass(frozen=True, slots=True)
class Past:
    """A hold that touched no outage, as far as this process knows; times of the boot-time clock.

    `stamp` is what its fencing token is made of; None if it was LOCAL.
    """

    name: str
    began: float
    ended: float
    stamp: tuple[int, int] | None


class Ledger:
    """The ledger of one coordinator.

    `owner` is the process, unique for each start of one; `file` is None if nothing goes to disk.

    Attributes:
        conflicts: Overlaps in which this process had a part.
        rejected: Published values that are no holds, by keys.
        error: What does not work at present; None if all does.
        past: The latest holds that touched no outage.
    """

    def __init__(self, client: Client, owner: str, file: LedgerFile | None) -> None:
        self.conflicts: dict[tuple[str, str], Overlap] = {}
        self.rejected: dict[bytes, RejectedValue] = {}
        self.error: str | None = None
        self._prefix = published(client.base)
        self._file = file
        self._owner = owner
        self._where = process_name()
        self._gateway = client.calls
        self._clock = client.clock
        self._own: dict[str, Hold] = {}
        self._unpublished: set[str] = set()
        self._others: dict[str, Hold] = {}
        self.past: deque[Past] = deque(maxlen=_REMEMBERED)
        self._count = 0
        self._read_to = 0
        self._eager_until = -math.inf
        self._lease: tuple[int, float] | None = None

    def begin(self, name: str, mode: LockMode, token: int, since: float) -> Hold:
        """Record a new hold, with a token of 0 if it is LOCAL, that began at a boot time."""
        self._count += 1
        began = self._stamp(since)
        hold_id = f"{self._owner}-{self._count}"
        hold = Hold(hold_id, name, self._owner, self._where, mode, token, began, None, self._clock.stamp())
        self._write(hold)
        return hold

    def alive(self) -> None:
        """Record of all holds that have not ended that they last: in case this process is killed."""
        now = self._clock.stamp()
        for hold in [hold for hold in self._own.values() if hold.ended is None]:
            self._write(replace(hold, seen=now))

    def end(self, hold: Hold) -> None:
        """Record the end of a hold."""
        now = self._clock.stamp()
        self._write(replace(hold, ended=now, seen=now))

    def _write(self, hold: Hold) -> None:
        if hold.id not in self._own and len(self._own) >= MOST_HOLDS and not self._make_room():
            self._complain(
                f"the ledger is full: {MOST_HOLDS} holds that touched an outage; later ones are not recorded"
            )
            return
        self._own[hold.id] = hold
        self._unpublished.add(hold.id)
        if self._file is None:
            return
        try:
            self._file.write(hold)
        except OSError as exc:
            # The hold is still in memory, and is published from there unless the process dies.
            self._complain(f"the ledger cannot be written: {exc}")

    def _make_room(self) -> bool:
        # What has ended and is published is compared by others.
        oldest = next(iter(self._own.values()))
        if oldest.ended is None or oldest.id in self._unpublished:
            return False
        del self._own[oldest.id]
        return True

    def _stamp(self, boot: float) -> Stamp:
        return self._clock.stamp(max(0.0, self._clock.boot() - boot))

    def _complain(self, error: str) -> None:
        if self.error != error:
            telemetry.ledger_failed(error)
        self.error = error

    async def recovered(self) -> None:
        """Publish what was held in the outage that is over; look more often for what others publish."""
        self._eager_until = self._clock.monotonic() + _EAGER_FOR
        await self.look()

    @property
    def pause(self) -> float:
        """Seconds until the next look."""
        if self._clock.monotonic() < self._eager_until:
            return LOOK_EAGERLY_EVERY
        return _LOOK_AGAIN if self.rejected else LOOK_EVERY

    async def look(self) -> None:
        """Publish what is not published yet, read what others have, and compare; never raises."""
        try:
            odd = await self._adopt_and_publish()
            await self._read()
            if self._recall():
                await self._publish(self._due())
        except (Unavailable, AuthenticationFailed):
            # The holds are published when that is over, which is the purpose of the ledger: no reason to complain.
            return
        except TideoverError as exc:
            self._complain(f"the ledger cannot be published: {exc}")
            return
        except OSError as exc:
            self._complain(f"the ledger's folder cannot be read: {exc}")
            return
        if odd is None:
            self.error = None
        else:
            self._complain(odd)
        self._compare()
        self._forget()

    async def _adopt_and_publish(self) -> str | None:
        """Publish our holds, and those of processes that have ended; return what is odd about theirs."""
        if self._file is None:
            await self._publish(self._due())
            return None
        async with self._file.orphans() as orphans:
            fresh = [hold for hold in orphans.holds if self._age(hold) < KEPT]
            await self._publish([*self._due(), *fresh])
            self._others.update({hold.id: hold for hold in fresh})
        if not self._unpublished and all(hold.ended for hold in self._own.values()):
            self._file.clear()
        return orphans.odd

    def _due(self) -> list[Hold]:
        now = self._clock.stamp()
        due = [self._own[hold_id] for hold_id in self._unpublished]
        return [hold if hold.ended else replace(hold, seen=now) for hold in due]

    async def _publish(self, holds: list[Hold]) -> None:
        for batch in _batches(latest(holds)):
            try:
                await self._put(batch)
            except InvalidRequest:
                # The lease is gone with its history.
                self._lease = None
                await self._put(batch)
            # A hold that has not ended is published again when it has.
            self._unpublished -= {hold.id for hold in batch if self._own.get(hold.id, hold).ended == hold.ended}

    async def _put(self, batch: list[Hold]) -> None:
        lease = await self._lease_of_a_week()
        puts = tuple(Put(self._prefix + hold.id.encode(), encode(hold), lease) for hold in batch)
        await self._gateway.call(Txn((), then=puts))

    async def _lease_of_a_week(self) -> int:
        now = self._clock.monotonic()
        if self._lease is None or now - self._lease[1] > 3600:
            lease = int.from_bytes(os.urandom(8)) >> 1 or 1
            await self._gateway.call(LeaseGrant(int(KEPT), lease))
            self._lease = lease, now
        return self._lease[0]

    async def _read(self) -> None:
        since = self._read_to + 1 if self._read_to else 0
        op = Range(self._prefix, prefix_end(self._prefix), changed_since=since)
        result = (await self._gateway.call(op)).result
        if result.header.revision < self._read_to:
            self._read_to = 0  # another history
            return
        for hold in self._decode(result.entries):
            if hold.owner != self._owner:
                self._others[hold.id] = hold
        self._read_to = result.header.revision
        await self._look_at_rejected()

    def _decode(self, entries: dict[bytes, Entry]) -> list[Hold]:
        # What is no hold is reported once, and left alone.
        holds = []
        for key, entry in entries.items():
            try:
                holds.append(decode(entry.value))
            except Malformed as exc:
                self._reject(key, RejectedValue(key.decode(errors="replace"), entry.mod_revision, str(exc)))
        return holds

    def _reject(self, key: bytes, found: RejectedValue) -> None:
        if found != self.rejected.get(key) and len(self.rejected) < _MOST_REJECTED:
            telemetry.hold_rejected(found.key, found.revision, found.reason)
            self.rejected[key] = found

    async def _look_at_rejected(self) -> None:
        # What has been deleted or replaced is forgotten.
        if not self.rejected:
            return
        there = (await self._gateway.call(ReadBatch(tuple(self.rejected)))).result.entries
        self.rejected = {
            key: found
            for key, found in self.rejected.items()
            if key in there and there[key].mod_revision == found.revision
        }

    async def published(self) -> list[Overlap]:
        """Return the overlaps in what all processes have published; raise `TideoverError` if it is unreadable."""
        result = (await self._gateway.call(Range(self._prefix, prefix_end(self._prefix)))).result
        return list(overlaps(self._decode(result.entries)))

    def _recall(self) -> bool:
        """Record remembered holds that a LOCAL one may have overlapped with; return whether there was one."""
        local = [hold for hold in self._others.values() if hold.mode is LockMode.LOCAL]
        if not local:
            return False
        names = {hold.name for hold in local}
        candidates: dict[str, tuple[Hold, Past]] = {}
        for past in self.past:
            if past.name in names:
                self._count += 1
                began, ended = self._stamp(past.began), self._stamp(past.ended)
                hold_id, mode = f"{self._owner}-{self._count}", LockMode.DISTRIBUTED
                token = fencing_token(*past.stamp) if past.stamp is not None else 0
                hold = Hold(hold_id, past.name, self._owner, self._where, mode, token, began, ended, ended)
                candidates[hold_id] = hold, past
        together = [*local, *(hold for hold, _ in candidates.values())]
        found = {hold_id for conflict in overlaps(together) for hold_id in conflict.id if hold_id in candidates}
        told = {candidates[hold_id][1] for hold_id in found}
        self.past = deque((past for past in self.past if past not in told), maxlen=_REMEMBERED)
        for hold_id, (hold, _) in candidates.items():
            if hold_id in found:
                self._write(hold)
        return bool(found)

    def _compare(self) -> None:
        mine = {hold.name for hold in self._own.values()}
        relevant: Iterable[Hold] = (hold for hold in self._others.values() if hold.name in mine)
        now = self._clock.stamp()
        own = [hold if hold.ended else replace(hold, seen=now) for hold in self._own.values()]
        for found in overlaps([*own, *relevant]):
            if self._owner not in (found.first.owner, found.second.owner):
                continue
            known = self.conflicts.get(found.id)
            self.conflicts[found.id] = found
            if known is None or (found.certain and not known.certain):
                _report(found)

    def _forget(self) -> None:
        # What is too old to be of interest, and the oldest of what is over and published.
        self._own = {i: hold for i, hold in self._own.items() if hold.ended is None or self._age(hold) < KEPT}
        over = [i for i, hold in self._own.items() if hold.ended is not None and i not in self._unpublished]
        for hold_id in over[:-_KEPT_PUBLISHED]:
            del self._own[hold_id]
        others = [hold for hold in self._others.values() if self._age(hold) < KEPT]
        self._others = {hold.id: hold for hold in others[-_MOST_OTHERS:]}
        self.conflicts = {i: found for i, found in self.conflicts.items() if self._age(found.first) < KEPT}

    def _age(self, hold: Hold) -> float:
        age = self._clock.elapsed(hold.until)
        return age if age < math.inf else 0.0

    async def aclose(self, *, published: bool) -> None:
        """Close the file; if etcd can be asked, what is left is `published` before."""
        if published and (self._own or self.past):
            with anyio.move_on_after(1.0, shield=True):
                await self.look()
        self.close()

    def close(self) -> None:
        """Close the file; what is not published is left for the next process."""
        if self._file is not None:
            self._file.close(keep=bool(self._unpublished))


def _batches(holds: Iterable[Hold]) -> Iterator[list[Hold]]:
    batch: list[Hold] = []
    room = _BATCH_BYTES
    for hold in holds:
        size = len(encode(hold))
        if batch and (len(batch) == _BATCH or size > room):
            yield batch
            batch, room = [], _BATCH_BYTES
        batch.append(hold)
        room -= size
    if batch:
        yield batch


def _report(found: Overlap) -> None:
    telemetry.lock_conflict(
        found.first.name,
        f"{found.first.where} ({found.first.mode}) and {found.second.where} ({found.second.mode}) held it at the "
        f"same time, for {max(found.seconds, 0.0):.3f} s",
        certain=found.certain,
    )
