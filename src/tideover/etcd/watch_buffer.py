"""The frames that wait for the reader of one watch: whole revisions, in order, bounded.

etcd splits a large answer into fragments (`fragment=True`), also in the middle of a revision. Whole revisions are
passed on as they come, so that no more than one revision is ever put together here; the one that may go on in the
next fragment is held back. A reader that is slower than etcd makes the inbox overflow: the reader gets the frames
that had arrived in order, then the fault, and resumes after the last frame.

Nothing in this module waits.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from tideover.store.faults import StoreFault, classify
from tideover.store.protocol import Compacted, Event, WatchBatch
from tideover.types import Header

# Bytes of keys and values that may wait, and what an event weighs beside them.
LIMIT = 8 * 1024 * 1024
_WEIGHT = 200


class Inbox:
    """The frames of one watch between the stream and the reader.

    `limit` is how many bytes may wait; one message more is accepted, however large.
    """

    __slots__ = ("_held", "_last", "_limit", "_reached", "_size", "_waiting")

    def __init__(self, start_revision: int, *, limit: int = LIMIT) -> None:
        self._limit = limit
        # None while nothing waits: there are thousands of inboxes, almost always empty.
        self._waiting: deque[tuple[WatchBatch, int]] | None = None
        self._size = 0
        self._held: Sequence[Event] = ()
        self._reached = max(0, start_revision - 1)
        self._last = 0

    def add(self, header: Header, events: Sequence[Event], *, more: bool) -> None:
        """Append events, in order; `more` if the next fragment continues this one.

        Raises:
            StoreFault: The reader is too slow; nothing may be added any more.
            Compacted: A revision came in unannounced pieces, so that the history is incomplete.
        """
        if events and events[0].revision == self._last:
            raise Compacted(self._last)
        known, self._held = self._held, ()
        ready = [*known, *(event for event in events if event.revision > self._reached)]
        if more and ready:
            last = ready[-1].revision
            self._held = [event for event in ready if event.revision == last]
            del ready[len(ready) - len(self._held) :]
        if not ready:
            return
        size = sum(map(_weight, ready))
        if self._waiting and self._size + size > self._limit:
            raise StoreFault(classify("RESOURCE_EXHAUSTED", "watch overflow: the reader is slower than etcd"))
        self._last = self._reached = ready[-1].revision
        self._append(WatchBatch(header, tuple(ready)), size)

    def add_progress(self, header: Header) -> None:
        """Append a progress reply, in place of one that waits as the last frame."""
        if self._waiting and not self._waiting[-1][0].events:
            self._waiting.pop()
        self._append(WatchBatch(header), 0)

    def _append(self, batch: WatchBatch, size: int) -> None:
        if self._waiting is None:
            self._waiting = deque()
        self._waiting.append((batch, size))
        self._size += size

    def pop(self) -> WatchBatch | None:
        """Return the frame that has waited longest; None if none waits."""
        if self._waiting is None:
            return None
        batch, size = self._waiting.popleft()
        self._size -= size
        if not self._waiting:
            self._waiting = None
        return batch


def _weight(event: Event) -> int:
    value = 0 if event.entry is None else len(event.entry.value)
    return _WEIGHT + len(event.key) + value
