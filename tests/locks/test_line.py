"""A line that is followed says what a read would."""

from __future__ import annotations

import random

import pytest

from tideover.locks.queue.keys import QueueKeys
from tideover.locks.queue.line import MOST_FOLLOWED, Line
from tideover.sessions.key import LeasedKey
from tideover.store.operations import RangeResult
from tideover.store.protocol import Event, WatchBatch
from tideover.types import Entry, Header

KEYS = QueueKeys("/app", "orders")
NAMES = [KEYS.prefix + b"%x" % number for number in range(1, 7)] + [KEYS.prefix + b"42/1"]
OWN = NAMES[3]


class History:
    """Transactions at random on a few keys of a line, each of one revision."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.entries: dict[bytes, Entry] = {}
        self.revision = 1

    def step(self, *names: bytes) -> WatchBatch:
        """Put or delete some keys."""
        self.revision += 1
        events = []
        for name in names or self.chance.sample(NAMES, self.chance.choice((1, 1, 1, 2, 5))):
            there = self.entries.get(name)
            if there is not None and self.chance.random() < 0.7:
                del self.entries[name]
                events.append(Event(name, None, self.revision))
            else:
                created = there.create_revision if there else self.revision
                entry = self.entries[name] = Entry(b"", created, self.revision)
                events.append(Event(name, entry, self.revision))
        return WatchBatch(Header(1, 1, 1, self.revision), tuple(events))

    def read(self) -> RangeResult:
        """Return the line."""
        return RangeResult(Header(1, 1, 1, self.revision), dict(self.entries), False, len(self.entries))

    def is_first(self, own: LeasedKey) -> bool:
        """Whether a key is there and the first, as a read would say."""
        line = {key: entry for key, entry in self.entries.items() if b"/" not in key[len(KEYS.prefix) :]}
        there = line.get(own.full)
        oldest = min((entry.create_revision for entry in line.values()), default=0)
        return there is not None and there.create_revision == own.create_revision == oldest


@pytest.mark.parametrize("seed", range(40))
def test_it_says_at_each_revision_what_a_read_would(seed: int) -> None:
    """Whatever is put and deleted, alone or together, ours among them; what the read has shown comes twice."""
    history = History(seed)
    for _ in range(5):
        history.step()
    while OWN not in history.entries:
        history.step(OWN)
    own = LeasedKey("own", OWN, history.entries[OWN])
    late = [history.step() for _ in range(3)]
    line = Line(KEYS, own, history.read())
    for batch in [*late, *(None for _ in range(30))]:
        line.take(batch or history.step())
        assert line.is_first is history.is_first(own)
        assert line.is_gone is not line_has(history, own)


def line_has(history: History, own: LeasedKey) -> bool:
    """Whether our very key is there."""
    there = history.entries.get(own.full)
    return there is not None and there.create_revision == own.create_revision


def test_a_long_line_has_nobody_first() -> None:
    """More keys than are followed: nothing is concluded from the events."""
    entries = {KEYS.prefix + b"%x" % n: Entry(b"", n + 1, n + 1) for n in range(1, MOST_FOLLOWED + 2)}
    own = LeasedKey("own", KEYS.prefix + b"1", entries[KEYS.prefix + b"1"])
    line = Line(KEYS, own, RangeResult(Header(1, 1, 1, 20), entries, False, len(entries)))
    assert line.is_long
    assert not line.is_first
    line.take(WatchBatch(Header(1, 1, 1, 21), (Event(KEYS.prefix + b"9", None, 21),)))
    assert line.is_first
    assert not Line(KEYS, own, RangeResult(Header(1, 1, 1, 20), entries, True, 30)).is_first
