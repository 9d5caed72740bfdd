"""The queues of locks as an operator sees them: which client has each lock, and which clients wait.

tideover, Go and etcdctl stand in the same queues (`etcd_queue`), each key under a lease of its own. tideover
writes the name of its process into its keys; the others leave them empty, and their lease is all that is known.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

from tideover.client.gateway import Gateway
from tideover.client.pages import pages
from tideover.errors import TideoverError
from tideover.foreign_bytes import INT64, hexadecimal
from tideover.holders import NOBODY, Holder
from tideover.locks.queue.keys import is_place
from tideover.store.leases import LeaseTimeToLive
from tideover.types import Entry, Source

# Keys in a page.
_PAGE = 500
# Of how many keys of a queue the lease is asked for.
MOST_LEASES = 100


@dataclass(frozen=True, slots=True)
class LinePlace:
    """A key in a line.

    Attributes:
        name: The end of the key, behind the lock's name: a lease in hexadecimal digits, unless it is `foreign`.
        revision: The revision at which it came to be, which orders the line; Go and etcdctl fence with it.
        held_by: Who it is and since when the key is there, for people; empty if the client has left no name.
        foreign: Whether it is named after no lease: nobody behind it gets the lock until it is deleted.
        ttl: Seconds that its lease lasts without a renewal; None if that is not known.
        granted: Seconds that a renewal gives it; None likewise.
    """

    name: bytes
    revision: int
    held_by: Holder = NOBODY
    foreign: bool = False
    ttl: int | None = None
    granted: int | None = None


@dataclass(frozen=True, slots=True)
class LockLine:
    """Who stands in the line of one lock.

    Attributes:
        lock: The lock; bytes that are no text are escaped.
        first: The oldest key, which has the lock; None if there is none.
        waiting: How many stand behind it.
        source: Whether a quorum said so, or a surviving member, which may be behind.
        behind: Those behind it, oldest first; only of a single line, in a list of locks it is empty.
    """

    lock: str
    first: LinePlace | None
    waiting: int
    source: Source
    behind: tuple[LinePlace, ...] = ()

    @property
    def state(self) -> str:
        """One word: `"free"`, `"held"`, or `"blocked"` by a foreign key."""
        if self.first is None:
            return "free"
        return "blocked" if self.first.foreign else "held"


async def lock_lines(base: str, gateway: Gateway) -> AsyncIterator[LockLine]:
    """Go through the queues of all locks, of nested names the longer one first. Raises as `pages` does."""
    prefix = f"{base}locks/".encode()
    # Each lock whose queue the walk is in: the keys of "a" may stand before and behind those of "a/b".
    open_: list[tuple[bytes, LinePlace, int]] = []
    source = Source.QUORUM
    async for page in pages(gateway, prefix, size=_PAGE):
        source = page.source
        for key, entry in page.entries.items():
            lock, _, name = key[len(prefix) :].rpartition(b"/")
            if not lock:  # it stands in no queue
                continue
            while open_ and not _is_within(lock, open_[-1][0]):
                yield _line(*open_.pop(), source)
            place = _place(name, entry)
            if open_ and open_[-1][0] == lock:
                _, first, waiting = open_[-1]
                open_[-1] = (lock, min(first, place, key=lambda each: each.revision), waiting + 1)
            else:
                open_.append((lock, place, 0))
    while open_:
        yield _line(*open_.pop(), source)


def _is_within(lock: bytes, other: bytes) -> bool:
    return lock == other or lock.startswith(other + b"/")


def _line(lock: bytes, first: LinePlace, waiting: int, source: Source) -> LockLine:
    return LockLine(lock.decode(errors="backslashreplace"), first, waiting, source)


async def lock_line(base: str, lock: str, gateway: Gateway) -> LockLine:
    """Return the queue of one lock, with how long the leases in it last. Raises as `pages` does."""
    prefix = f"{base}locks/{lock}/".encode()
    found: list[LinePlace] = []
    source = Source.QUORUM
    async for page in pages(gateway, prefix, size=_PAGE):
        source = page.source
        names = ((key[len(prefix) :], entry) for key, entry in page.entries.items())
        found += [_place(name, entry) for name, entry in names if b"/" not in name]
    found.sort(key=lambda each: each.revision)
    asked = [await _with_ttl(each, gateway) for each in found[:MOST_LEASES]] if source is Source.QUORUM else []
    found[: len(asked)] = asked
    return LockLine(lock, found[0] if found else None, max(0, len(found) - 1), source, tuple(found[1:]))


def _place(name: bytes, entry: Entry) -> LinePlace:
    if not is_place(name):
        return LinePlace(name, entry.create_revision, foreign=True)
    return LinePlace(name, entry.create_revision, Holder.read(entry.value))


async def _with_ttl(place: LinePlace, gateway: Gateway) -> LinePlace:
    # A user without the right to ask is shown the key without its lease.
    if place.foreign:
        return place
    try:
        lease = hexadecimal(place.name.decode(), "a lease", most=INT64)
        told = (await gateway.call(LeaseTimeToLive(lease))).result
    except TideoverError:
        return place
    return replace(place, ttl=max(0, told.ttl), granted=told.granted or None)
