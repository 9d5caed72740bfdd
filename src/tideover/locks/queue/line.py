"""The keys of a short queue: as one read has shown them, and as the events of a watch go on telling. Pure.

*Guarantee.* If the line was read at a revision at or after the one at which the watch was opened, and every batch
of the watch was taken since, `is_first` says what a read at the revision of the last batch would: the events of
one revision are taken together, so that a transaction that deletes our key along with the one before it passes
nothing on.

*Not guaranteed* is that nothing has happened since that revision: the watch may be late.
"""

from __future__ import annotations

from tideover.locks.queue.keys import Before, QueueKeys
from tideover.sessions.key import LeasedKey
from tideover.store.operations import RangeResult
from tideover.store.protocol import WatchBatch

# Keys: in a longer line only the one wakes that comes next.
MOST_FOLLOWED = 8


class Line:
    """The keys of a queue, with ours among them, as `QueueKeys.line` has read them at the revision `seen_at`."""

    def __init__(self, keys: QueueKeys, own: LeasedKey, found: RangeResult) -> None:
        self.seen_at = found.header.revision
        self._own = own
        self._keys = keys
        self._more = found.more
        self._entries = {key: found.entries[key] for key in keys.direct(found.entries)}

    @property
    def is_long(self) -> bool:
        """Whether there are more keys than are followed."""
        return self._more or len(self._entries) > MOST_FOLLOWED

    @property
    def is_gone(self) -> bool:
        """Whether our key is not there any more."""
        own = self._entries.get(self._own.full)
        return own is None or own.create_revision != self._own.create_revision

    @property
    def nearest(self) -> Before | None:
        """The key right before ours; None if ours is the first."""
        older = (key for key, each in self._entries.items() if each.create_revision < self._own.create_revision)
        key = max(older, key=lambda each: self._entries[each].create_revision, default=None)
        return None if key is None else Before(key, self._entries[key], self.seen_at)

    @property
    def is_over(self) -> bool:
        """Whether there is nothing left to wait for: ours is the first or gone, or the line has become long."""
        return self.is_gone or self.is_long or self.nearest is None

    @property
    def is_first(self) -> bool:
        """Whether our key is there, and none before it."""
        return not (self.is_gone or self.is_long) and self.nearest is None

    def take(self, batch: WatchBatch) -> None:
        """Learn what has happened, all of it before anything is concluded."""
        for event in batch.events:
            if event.revision > self.seen_at and self._keys.direct((event.key,)):
                if event.entry is None:
                    self._entries.pop(event.key, None)
                else:
                    self._entries[event.key] = event.entry
