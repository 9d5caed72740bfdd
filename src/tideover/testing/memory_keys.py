"""The keys of a `MemoryStore`: their history, and what reads and conditions see of it."""

from __future__ import annotations

import itertools
from bisect import bisect_left
from collections.abc import Iterator

from tideover.store.faults import StoreFault, classify
from tideover.store.operations import Range, Sort, within
from tideover.store.protocol import Compacted, Event
from tideover.store.transactions import Compare
from tideover.types import Entry


class MemoryKeys:
    """Keys with their history, as etcd's multi-version store keeps them."""

    def __init__(self) -> None:
        self.newest: dict[bytes, Entry] = {}
        self.history: list[Event] = []
        self.revision = 1
        self.compacted = 0

    def reset(self, revision: int) -> None:
        """Forget everything, and go on at a revision."""
        self.newest.clear()
        self.history.clear()
        self.revision, self.compacted = revision, 0

    def record(self, event: Event) -> None:
        """Append an event to the history, and apply it."""
        self.revision = event.revision
        self.history.append(event)
        _apply(self.newest, event)

    def since(self, revision: int) -> Iterator[Event]:
        """Yield the events from a revision on."""
        first = bisect_left(self.history, revision, key=lambda event: event.revision)
        return itertools.islice(self.history, first, None)

    def at(self, revision: int) -> dict[bytes, Entry]:
        """Return all entries as of a revision."""
        if revision == self.revision:
            return self.newest
        state: dict[bytes, Entry] = {}
        for event in self.history:
            if event.revision > revision:
                break
            _apply(state, event)
        return state

    def read(self, op: Range, now: int) -> tuple[dict[bytes, Entry], bool, int]:
        """Read a range at a member whose newest revision is `now`.

        Returns:
            The entries, whether the limit cut some off, and how many keys there are in the range.
        """
        if op.revision > now:
            raise StoreFault(classify("OUT_OF_RANGE", "etcdserver: mvcc: required revision is a future revision"))
        if op.revision and op.revision < self.compacted:
            raise Compacted(self.compacted)
        found = sorted((k, e) for k, e in self.at(op.revision or now).items() if within(k, op.key, op.end))
        changed = [(k, e) for k, e in found if e.mod_revision >= op.changed_since]
        if op.created_until:
            changed = [(k, e) for k, e in changed if e.create_revision <= op.created_until]
        if op.sort is not Sort.KEY:
            changed.sort(key=lambda item: item[1].create_revision, reverse=op.sort is Sort.NEWEST)
        cut = dict(changed[: op.limit] if op.limit else changed)
        if op.keys_only:
            cut = {k: Entry(b"", e.create_revision, e.mod_revision) for k, e in cut.items()}
        return cut, len(cut) < len(changed), len(found)

    def holds(self, condition: Compare, lease: int) -> bool:
        """Whether a condition holds for a key that is attached to a lease, 0 for none."""
        entry = self.newest.get(condition.key)
        return (
            condition.create_revision in (None, entry.create_revision if entry else 0)
            and condition.mod_revision in (None, entry.mod_revision if entry else 0)
            and condition.lease in (None, lease)
            # Of an absent key etcd compares only revisions and the lease.
            and (condition.value is None or (entry is not None and condition.value == entry.value))
        )


def _apply(state: dict[bytes, Entry], event: Event) -> None:
    if event.entry is None:
        state.pop(event.key, None)
    else:
        state[event.key] = event.entry
