"""What waits for the reader of a watch: whole revisions, in order, bounded."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tideover.etcd.watch_buffer import Inbox
from tideover.store.faults import FaultKind, StoreFault
from tideover.store.protocol import Compacted, Event, WatchBatch
from tideover.types import Entry, Header

HEADER = Header(1, 2, 3, 99)


def event(revision: int, key: bytes = b"k", size: int = 1) -> Event:
    """Return a put."""
    return Event(key, Entry(b"v" * size, 1, revision), revision)


def drained(inbox: Inbox) -> list[WatchBatch]:
    """Return all that waits."""
    batches = []
    while (batch := inbox.pop()) is not None:
        batches.append(batch)
    return batches


@given(
    sizes=st.lists(st.integers(1, 4), min_size=1, max_size=8),
    cuts=st.sets(st.integers(1, 31), max_size=8),
)
def test_fragments_join_to_whole_revisions(sizes: list[int], cuts: set[int]) -> None:
    """However a message is cut, all its events come in order, and no revision is in two batches."""
    events = [event(10 + n, b"k%d" % m) for n, size in enumerate(sizes) for m in range(size)]
    ends = sorted({cut for cut in cuts if cut < len(events)} | {len(events)})
    inbox, began = Inbox(10), 0
    for end in ends:
        inbox.add(HEADER, events[began:end], more=end != len(events))
        began = end
    batches = drained(inbox)
    assert [e for batch in batches for e in batch.events] == events
    revisions = [r for batch in batches for r in sorted({e.revision for e in batch.events})]
    assert len(revisions) == len(set(revisions))


def test_whole_revisions_are_not_held_back() -> None:
    """Of a fragment only the revision that may go on waits for the next one."""
    inbox = Inbox(1)
    inbox.add(HEADER, [event(1), event(2), event(3, b"a")], more=True)
    assert [[e.revision for e in batch.events] for batch in drained(inbox)] == [[1, 2]]
    inbox.add(HEADER, [event(3, b"b")], more=False)
    assert [[e.key for e in batch.events] for batch in drained(inbox)] == [[b"a", b"b"]]


def test_a_revision_torn_without_a_word_asks_for_a_full_read() -> None:
    """Events of a revision that was passed on as whole cannot be passed on any more: only a full read helps."""
    inbox = Inbox(1)
    inbox.add(HEADER, [event(1), event(2, b"a")], more=False)
    with pytest.raises(Compacted):
        inbox.add(HEADER, [event(2, b"b")], more=False)


def test_what_comes_again_is_dropped() -> None:
    """Events below what was passed on, or below the start, are not told twice."""
    inbox = Inbox(5)
    inbox.add(HEADER, [event(4), event(5), event(6)], more=False)
    inbox.add(HEADER, [event(5), event(7)], more=False)
    assert [e.revision for batch in drained(inbox) for e in batch.events] == [5, 6, 7]


def test_a_slow_reader_is_told_after_what_had_arrived() -> None:
    """Beyond its limit an inbox refuses, and keeps what it has: whole revisions, behind which one can resume."""
    inbox = Inbox(1, limit=10_000)
    with pytest.raises(StoreFault) as caught:
        for revision in range(1, 100):
            inbox.add(HEADER, [event(revision, size=1000)], more=False)
    assert caught.value.fault.kind is FaultKind.OVERFLOW
    assert not caught.value.fault.outage
    assert [e.revision for batch in drained(inbox) for e in batch.events] == list(range(1, 9))


def test_a_message_larger_than_the_limit_passes_an_empty_inbox() -> None:
    """The limit is on what waits: a reader that keeps up gets any message, so that it always comes further."""
    inbox = Inbox(1, limit=1000)
    for revision in (1, 2):
        inbox.add(HEADER, [event(revision, size=5000)], more=False)
        assert len(drained(inbox)) == 1


def test_progress_does_not_pile_up() -> None:
    """However many progress replies come, the newest one waits, behind the events before it."""
    inbox = Inbox(1)
    inbox.add(HEADER, [event(1)], more=False)
    for revision in range(100):
        inbox.add_progress(Header(1, 2, 3, revision))
    assert [(batch.header.revision, len(batch.events)) for batch in drained(inbox)] == [(99, 1), (99, 0)]
