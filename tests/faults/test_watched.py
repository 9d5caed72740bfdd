"""The check of what a follower saw finds every planted fault, and none where there is none."""

from __future__ import annotations

import pytest

from tests.faults.watched import FullRead, Seen, Written, announced, check, check_changes

WRITTEN = Written(
    {
        (2, "p/a"): "1",
        (3, "p/b"): "2",
        (3, "q/b"): "2",
        (4, "p/a"): "3",
        (5, "p/b"): None,
        (7, "p/a"): "4",
    },
    {("p/a", "1"), ("p/b", "2"), ("q/b", "2"), ("p/a", "3"), ("p/b", None), ("p/c", "?"), ("p/a", "4")},
)
READ = FullRead({}, 1)
A1, B2, A3, B_GONE, C, A4 = (
    Seen("p/a", "1", 2),
    Seen("p/b", "2", 3),
    Seen("p/a", "3", 4),
    Seen("p/b", None, 5),
    Seen("p/c", "?", 6),
    Seen("p/a", "4", 7),
)


@pytest.mark.parametrize(
    "log",
    [
        [READ, A1, B2, A3, B_GONE, A4],
        [READ, A1, B2, A3, B_GONE, C, A4],  # applied, and never acknowledged
        [READ, A1, FullRead({"p/a": ("3", 4)}, 5), A4],  # merged by a full read
        [READ, FullRead({"p/a": ("4", 7)}, 8)],
    ],
)
def test_what_is_well_is_not_complained_about(log: list[Seen | FullRead]) -> None:
    """Events in order, unacknowledged ones too, and full reads that merge, are as they should be."""
    assert check(log, WRITTEN, prefix="p/", end=7) == []


@pytest.mark.parametrize(
    ("log", "complaint"),
    [
        ([READ, A1, B2, B_GONE, A4], "p/a at 4 was not seen"),
        ([READ, A1, B2, A3, B_GONE], "p/a at 7 was not seen"),
        ([READ, A1, A3, FullRead({"p/a": ("3", 4)}, 5), A4], "p/b at 3 was not seen"),
        ([READ, A1, A1, B2, A3, B_GONE, A4], "came again"),
        ([READ, A1, A3, B2, B_GONE, A4], "came again"),
        ([READ, A1, FullRead({"p/a": ("3", 4)}, 5), B_GONE, A4], "came again"),
        ([READ, A1, B2, Seen("p/a", "9", 4), B_GONE, A4], "was never written"),
        ([READ, A1, B2, A3, B_GONE, Seen("p/z", "9", 6), A4], "was never written"),
        ([READ, A1, FullRead({}, 5), A4], "lacks p/a"),
        ([READ, A1, FullRead({"p/a": ("1", 2)}, 5), A4], "shows p/a"),
        (
            [READ, A1, B2, A3, FullRead({"p/a": ("1", 2), "p/b": ("2", 3)}, 3), A3, B_GONE, A4],
            "after 4 was reached",
        ),
    ],
)
def test_every_planted_fault_is_found(log: list[Seen | FullRead], complaint: str) -> None:
    """Lost, doubled, out of order, invented, or misread: each is named."""
    assert any(complaint in text for text in check(log, WRITTEN, prefix="p/", end=7))


def test_a_full_read_announces_its_differences() -> None:
    """What a full read shows already is not announced; what it lacks is gone."""
    log: list[Seen | FullRead] = [READ, A1, B2, FullRead({"p/a": ("1", 2), "p/c": ("?", 6)}, 6)]
    assert announced(log) == (
        [A1, B2, C, Seen("p/b", None, 6)],
        {"p/a": ("1", 2), "p/c": ("?", 6)},
    )


@pytest.mark.parametrize(
    ("changes", "fine"),
    [
        ([A1, B2, A3, B_GONE, A4], True),
        ([A1, B_GONE, A4], True),  # what was superseded before it was read
        ([B_GONE, A4], True),
        ([A1, B2, A3, B_GONE], False),
        ([A1, A3, A4], False),
        ([A1, A1, B2, A3, B_GONE, A4], False),
        ([B2, A1, A3, B_GONE, A4], False),
        ([A1, B2, C, A3, B_GONE, A4], False),
    ],
)
def test_what_is_handed_on(changes: list[Seen], fine: bool) -> None:
    """A reader may miss what was superseded, never the last change of a key, nor get one twice or out of order."""
    assert (check_changes(changes, [A1, B2, A3, B_GONE, A4]) == []) is fine
