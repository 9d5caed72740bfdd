"""The keys of a lock's queue: how they are written, what they hold, and their order.

`{namespace}/locks/{name}/{lease in hexadecimal}`, ordered by create revision: the first one has the lock. The
value says whose key it is, for people. Those are the keys of etcd's Go package `concurrency`, so that `etcdctl
lock` and services in Go stand in the same queue; unlike in Go, only keys directly under the prefix count:
"orders/42" does not stand in the queue of "orders".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache

from tideover.foreign_bytes import INT64, hexadecimal
from tideover.holders import Holder
from tideover.shown import shown
from tideover.status import RejectedValue
from tideover.store.operations import Range, RangeResult, Sort, prefix_end
from tideover.types import Entry

# What is said of a key in a queue that no client of a lock has made.
NO_PLACE = "named after no lease: until it is deleted nobody behind it has the lock"


@lru_cache(maxsize=64)
def value_of(name: str, second: int) -> bytes:
    """Return the value of a process's key, made in a second since 1970: who it is, for people, and since when."""
    return Holder.now(name, second).encode()


@lru_cache(maxsize=4096)
def key_of(name: str, lease_id: int) -> str:
    """Return a lease's key in the queue of a lock, below the namespace."""
    return f"locks/{name}/{lease_id:x}"


def is_place(name: bytes) -> bool:
    """Whether the end of a key is that of a waiter or holder: a lease, as tideover, Go and etcdctl write it."""
    try:
        lease = hexadecimal(name.decode(), "a lease", most=INT64)
        return lease > 0 and name == b"%x" % lease
    except ValueError:
        return False


@lru_cache(maxsize=4096)
def queue_head(namespace: str, name: str) -> Range:
    """Return what reads the first key of a lock's queue, with its value, which says who has the lock."""
    prefix = f"{namespace}/locks/{name}/".encode()
    return Range(prefix, prefix_end(prefix), limit=1, sort=Sort.OLDEST)


@dataclass(frozen=True, slots=True)
class Before:
    """A key before ours, as it was at the revision `seen_at`."""

    key: bytes
    entry: Entry
    seen_at: int


@dataclass(slots=True)
class Ahead:
    """What was seen before our key; kept with the key, for a task that goes on waiting with it.

    Attributes:
        last: The key last seen right before ours; None if none was.
        gone_at: The revision at which that key went; None if that was not seen.
        holder: The first key of the queue when it was last read, which has the lock; None if none was.
        is_long: Whether the queue is too long to be followed as a whole.
    """

    last: Before | None = None
    gone_at: int | None = None
    holder: Before | None = None
    is_long: bool = False


class QueueKeys:
    """The keys of one lock's queue."""

    def __init__(self, namespace: str, name: str) -> None:
        self.head = queue_head(namespace, name)
        self.prefix = self.head.key
        self.end = self.head.end

    def until(self, revision: int, limit: int = 0) -> Range:
        """Return what reads the keys made at a revision or before, newest first."""
        return Range(self.prefix, self.end, limit=limit, sort=Sort.NEWEST, created_until=revision)

    def direct(self, found: Iterable[bytes]) -> list[bytes]:
        """Return the keys that stand in this queue: those of longer names have a slash more."""
        start = len(self.prefix)
        return [key for key in found if b"/" not in key[start:]]

    def others(self, own: bytes, found: Mapping[bytes, Entry]) -> bool:
        """Whether another key than ours is among those found."""
        return any(key != own for key in self.direct(found))

    def first_in(self, found: RangeResult) -> Before | None:
        """Return the first key in the answer to `head`; None if that is of a longer name's queue."""
        key = next(iter(self.direct(found.entries)), None)
        return None if key is None else Before(key, found.entries[key], found.header.revision)

    def lease(self, key: Before) -> bytes:
        """Return what a key is named after: a lease, unless it is foreign."""
        return key.key[len(self.prefix) :]

    def describe(self, key: Before) -> str:
        """Return whose key this is, for people, as far as that is known."""
        where = f"key {shown(key.key)}, since revision {key.entry.create_revision}"
        name = self.lease(key)
        if not is_place(name):
            return f"nobody: foreign {where}, {NO_PLACE}"
        holder = Holder.read(key.entry.value)
        return str(holder) if holder.since else f"{holder.name or 'another client'} (lease {shown(name)}, {where})"

    def foreign(self, ahead: Ahead) -> list[RejectedValue]:
        """Return those of the keys seen before ours that no lease takes away, and so may stay for good."""
        seen = {each.key: each for each in (ahead.holder, ahead.last) if each is not None}
        return [
            RejectedValue(key.decode(errors="backslashreplace"), each.entry.mod_revision, f"it is {NO_PLACE}")
            for key, each in seen.items()
            if not is_place(self.lease(each))
        ]
