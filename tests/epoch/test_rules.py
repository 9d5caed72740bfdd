"""Which history etcd is in, decided from headers and the marker."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tideover.epoch.rules import MAX_EPOCH, EpochMarker, Known, decode_marker, may_replace, settle, settle_unseen
from tideover.foreign_bytes import Malformed
from tideover.types import Header

HERE = Header(cluster_id=7, member_id=1, raft_term=5, revision=100)
MARKER = EpochMarker(epoch=3, history="h3", cluster_id=7, raft_term=4)
KNOWN = Known(cluster_id=7, raft_term=5, revision=90, known_at=10.0, epoch=3, history="h3")


@given(st.integers(1, MAX_EPOCH), st.text(max_size=64), st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_a_marker_is_read_back(epoch: int, history: str, cluster_id: int, term: int) -> None:
    """What is written is read back."""
    marker = EpochMarker(epoch, history, cluster_id, term)
    assert decode_marker(marker.encode()) == marker


@given(st.binary())
def test_anything_else_is_no_marker(value: bytes) -> None:
    """Whatever somebody has written there, it is a marker or one error, and no other."""
    with suppress(Malformed):
        decode_marker(value)


def spoilt(**fields: object) -> bytes:
    """Return a marker with other fields."""
    return json.dumps({**json.loads(MARKER.encode()), **fields}).encode()


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"{}",
        b"7",
        b"null",
        b"[" * 2000,
        b'{"epoch":' + b"7" * 4300 + b"}",
        MARKER.encode() + b" " * 4096,
        spoilt(epoch=0),
        spoilt(epoch=True),
        spoilt(epoch=10**15),
        spoilt(epoch=2**63),
        spoilt(history="\ud800"),
        spoilt(history="h" * 65),
        spoilt(cluster_id=7),
        spoilt(cluster_id="0x7"),
        spoilt(cluster_id="1" * 17),
        spoilt(raft_term=2**64),
        spoilt(raft_term=-1),
        spoilt(more=10**400),
    ],
)
def test_what_is_no_marker(value: bytes) -> None:
    """Incomplete markers, epochs below 1 or beyond what a header holds, and whatever has no bounds, are none."""
    with pytest.raises(Malformed):
        decode_marker(value)


def test_the_last_epoch_is_followed_by_itself_and_nobody_quarrels_about_it() -> None:
    """A count that somebody has put at its end stands still; there another process's marker is adopted."""
    last = replace(MARKER, epoch=MAX_EPOCH)
    assert settle(replace(KNOWN, epoch=MAX_EPOCH), last, HERE, "restored").epoch == MAX_EPOCH
    settled = settle(replace(KNOWN, epoch=MAX_EPOCH), replace(last, history="other"), HERE, None)
    assert settled.reset
    assert settled.epoch == MAX_EPOCH
    assert not settled.write


@pytest.mark.parametrize(
    ("header", "sent_at", "proven"),
    [
        (HERE, 11.0, False),
        (replace(HERE, revision=90), 11.0, False),
        (replace(HERE, revision=89), 11.0, True),
        (replace(HERE, revision=89), 10.0, False),
        (replace(HERE, raft_term=4), 11.0, True),
        (replace(HERE, raft_term=4), 9.0, False),
    ],
)
def test_headers_that_prove_another_history(header: Header, sent_at: float, proven: bool) -> None:
    """A lower term or revision proves another history, in an answer asked for after the higher one was known."""
    assert (KNOWN.contradiction(header, sent_at) is not None) is proven


def test_terms_count_in_linearizable_answers_only() -> None:
    """A member that is cut off counts terms of its own: they are not remembered."""
    alone = replace(HERE, raft_term=50)
    assert KNOWN.updated(alone, 20.0, linearizable=False).raft_term == 5
    assert KNOWN.updated(alone, 20.0, linearizable=True).raft_term == 50


@pytest.mark.parametrize(
    ("known", "seen", "evidence", "epoch", "reset", "write"),
    [
        # Known to be the same.
        (KNOWN, MARKER, None, 3, False, False),
        # Never seen anything.
        (Known(), None, None, 1, False, True),
        (Known(), MARKER, None, 3, False, False),
        (Known(), replace(MARKER, cluster_id=8), None, 4, True, True),
        (Known(), replace(MARKER, raft_term=6), None, 4, True, True),
        # Restored, and nobody has raised the epoch yet.
        (KNOWN, MARKER, "older", 4, True, True),
        (KNOWN, None, None, 4, True, True),
        (KNOWN, replace(MARKER, epoch=2, history="h2"), None, 4, True, True),
        (KNOWN, replace(MARKER, history="other"), None, 4, True, True),
        (KNOWN, replace(MARKER, cluster_id=8), None, 4, True, True),
        # Restored, and somebody has.
        (KNOWN, replace(MARKER, epoch=4, history="h4"), "older", 4, True, False),
        (KNOWN, replace(MARKER, epoch=9, history="h9"), None, 9, True, False),
        # Counted by this process, which could not write it.
        (replace(KNOWN, epoch=4, history=""), MARKER, None, 4, False, True),
        (replace(KNOWN, epoch=4, history=""), replace(MARKER, epoch=4, history="h4"), None, 4, False, False),
        (replace(KNOWN, epoch=4, history=""), replace(MARKER, cluster_id=8), None, 4, False, True),
        (replace(KNOWN, epoch=4, history=""), replace(MARKER, epoch=5, history="h5"), None, 5, True, False),
    ],
)
def test_what_a_look_at_the_marker_means(
    known: Known, seen: EpochMarker | None, evidence: str | None, epoch: int, reset: bool, write: bool
) -> None:
    """The marker is the same, older, gone, or somebody else's; the epoch only grows, and is written once."""
    settled = settle(known, seen, HERE, evidence)
    assert (settled.epoch, settled.reset is not None, settled.write) == (epoch, reset, write)


def test_without_the_marker_the_epoch_is_counted_here() -> None:
    """A process that may not read the marker counts what it can prove."""
    assert settle_unseen(KNOWN, None).epoch == 3
    assert settle_unseen(KNOWN, "older").epoch == 4


@pytest.mark.parametrize(
    ("said", "silent_for", "replaced"),
    [
        ({"a": 8, "b": 8}, 3.0, True),
        ({"a": 8, "b": 8}, 2.9, False),
        ({"a": 8, "b": 7, "c": 7}, 60.0, False),
        ({"a": 8}, 60.0, False),
        ({"a": 8, "b": 9, "c": 7}, 60.0, False),
    ],
)
def test_when_another_cluster_has_taken_over(said: dict[str, int], silent_for: float, replaced: bool) -> None:
    """Most endpoints belong to it, and the known one has been silent for longer than a leader change takes."""
    assert may_replace(8, said, members=("a", "b", "c"), silent_for=silent_for) is replaced


# A model: one etcd that is restored now and then, and several processes that look at it now and then. ------------


@dataclass
class Etcd:
    """The header's numbers, the marker, and backups of both."""

    header: Header = HERE
    marker: EpochMarker | None = None
    minted: int = 0
    backups: list[tuple[Header, EpochMarker | None]] = field(default_factory=list)

    def restore(self, index: int) -> None:
        """Go back to a backup."""
        if self.backups:
            header, self.marker = self.backups[index % len(self.backups)]
            self.header = replace(header, raft_term=2)

    def write(self, epoch: int) -> EpochMarker:
        """Write a marker."""
        self.minted += 1
        self.header = replace(self.header, revision=self.header.revision + 1)
        self.marker = EpochMarker(epoch, f"m{self.minted}", self.header.cluster_id, self.header.raft_term)
        return self.marker


def look(etcd: Etcd, known: Known, now: float) -> tuple[Known, bool, bool]:
    """Let a process look; return what it knows then, whether it saw a reset, and whether it wrote."""
    evidence = known.contradiction(etcd.header, now)
    settled = settle(known, etcd.marker, etcd.header, evidence)
    marker = etcd.write(settled.epoch) if settled.write else etcd.marker
    assert marker is not None
    base = Known() if settled.reset else known
    after = base.updated(etcd.header, now, linearizable=True)
    return replace(after, epoch=settled.epoch, history=marker.history), settled.reset is not None, settled.write


_STEPS = st.one_of(
    st.tuples(st.just("look"), st.integers(0, 3)),
    st.tuples(st.just("grow"), st.integers(1, 40)),
    st.tuples(st.just("elect"), st.integers(1, 3)),
    st.tuples(st.just("backup"), st.just(0)),
    st.tuples(st.just("restore"), st.integers(0, 9)),
)


@settings(deadline=None, max_examples=300)
@given(st.lists(_STEPS, max_size=60))
def test_epoch_and_revision_never_go_back_for_anybody(steps: list[tuple[str, int]]) -> None:
    """Per process (epoch, revision) only grows; a second look in an unchanged etcd changes and writes nothing."""
    etcd, known = Etcd(), [Known() for _ in range(4)]
    for now, (what, number) in enumerate(steps):
        match what:
            case "grow":
                etcd.header = replace(etcd.header, revision=etcd.header.revision + number)
            case "elect":
                etcd.header = replace(etcd.header, raft_term=etcd.header.raft_term + number)
            case "backup":
                etcd.backups.append((etcd.header, etcd.marker))
            case "restore":
                etcd.restore(number)
            case "look":
                before = known[number]
                after, reset, _ = look(etcd, before, float(now))
                assert (after.epoch, etcd.header.revision) >= (before.epoch, before.revision)
                assert after.epoch >= before.epoch
                assert not (reset and before.epoch and after.epoch == before.epoch)
                known[number], *again = look(etcd, after, now + 0.5)
                assert again == [False, False]


@settings(deadline=None, max_examples=100)
@given(st.integers(2, 8), st.integers(0, 50))
def test_many_processes_raise_the_epoch_once(processes: int, outgrown: int) -> None:
    """Of many processes that see one reset, whatever each remembers of one epoch, exactly one raises it."""
    etcd = Etcd()
    known, _, _ = look(etcd, Known(), 0.0)
    etcd.backups.append((etcd.header, etcd.marker))
    etcd.header = replace(etcd.header, revision=200, raft_term=9)
    all_known = [known.updated(etcd.header, 1.0, linearizable=True)] * processes
    etcd.restore(0)
    etcd.header = replace(etcd.header, revision=etcd.header.revision + outgrown)
    found = [look(etcd, each, 2.0) for each in all_known]
    assert [reset for _, reset, _ in found] == [True] * processes
    assert [wrote for _, _, wrote in found] == [True] + [False] * (processes - 1)
    assert {each.epoch for each, _, _ in found} == {2}
