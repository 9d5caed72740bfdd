"""Who is not picked for a while, and that somebody always is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tideover.discovery.rules.ejection import EjectionRules, Track, ejected

RULES = EjectionRules()


def reports(track: Track, *oks: bool, now: float, room: bool = True) -> Track:
    """Report several calls at one moment."""
    for ok in oks:
        track = track.report(ok, now, room=room, rules=RULES)
    return track


def test_three_failures_in_a_row_eject() -> None:
    """Two failures do not eject, nor do three with a success between; three in a row do, for 5 s."""
    assert reports(Track(), False, False, now=1.0).until < 1.0
    assert reports(Track(), False, False, True, False, False, now=1.0).until < 1.0
    assert reports(Track(), False, False, False, now=1.0).until == 6.0


def test_on_its_return_one_failure_is_enough_and_the_time_doubles() -> None:
    """Who comes back and fails again is away for twice as long, up to 300 s."""
    track, now, lengths = reports(Track(), False, False, False, now=0.0), 0.0, list[float]()
    for _ in range(9):
        lengths.append(track.length)
        now = track.until
        track = reports(track, False, now=now)
    assert lengths == [5, 10, 20, 40, 80, 160, 300, 300, 300]


def test_a_success_clears_and_in_time_forgives() -> None:
    """After a success three failures are needed again; good for as long as it was away, it starts from 5 s."""
    once = reports(Track(), False, False, False, now=0.0)
    twice = reports(once, False, now=5.0)
    back = reports(twice, True, now=16.0)
    assert reports(back, False, False, now=16.0).until == 15.0
    assert reports(back, False, False, False, now=16.0).length == 20.0
    assert reports(back, True, False, False, False, now=25.0).length == 5.0


def test_what_is_reported_during_an_ejection_changes_nothing() -> None:
    """Calls that were under way when it was ejected neither lengthen nor shorten that."""
    track = reports(Track(), False, False, False, now=0.0)
    assert reports(track, False, False, True, now=4.0) == track


def test_without_room_nobody_is_ejected_but_it_is_remembered() -> None:
    """At the cap failures are counted; the next one when there is room ejects."""
    track = reports(Track(), *[False] * 5, now=0.0, room=False)
    assert track.until < 0.0
    assert reports(track, False, now=1.0).until == 6.0


def test_of_those_that_remain_no_more_than_half_is_out() -> None:
    """When the list shrinks, those come back first whose time is over first."""
    tracks = {name: Track(3, 5.0, until) for name, until in (("a", 10.0), ("b", 20.0), ("c", 30.0))}
    assert ejected(tracks, list("abcdef"), 0.0, RULES) == {"a", "b", "c"}
    assert ejected(tracks, list("abcd"), 0.0, RULES) == {"b", "c"}
    assert ejected(tracks, list("abc"), 0.0, RULES) == {"c"}
    assert ejected(tracks, list("a"), 0.0, RULES) == set()
    assert ejected(tracks, list("abcdef"), 20.0, RULES) == {"c"}


@pytest.mark.parametrize("wrong", [{"failures": 0}, {"shortest": 0.0}, {"longest": 1.0}, {"share": 1.0}])
def test_numbers_that_cannot_work_are_refused(wrong: dict[str, float]) -> None:
    """A rule out of range raises ValueError, and the message has its name."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        EjectionRules(**wrong)  # type: ignore[arg-type] # int and float, by name


@given(
    st.integers(1, 8),
    st.lists(st.tuples(st.floats(0.0, 20.0), st.integers(0, 7), st.booleans()), max_size=80),
)
def test_somebody_can_always_be_picked(count: int, calls: list[tuple[float, int, bool]]) -> None:
    """Whatever is reported of whom: at least half, and never nobody, can be picked; no ejection exceeds 300 s."""
    tracks, now = dict[int, Track](), 0.0
    for after, which, ok in calls:
        now, which = now + after, which % count
        room = len(ejected(tracks, range(count), now, RULES)) < RULES.most(count)
        tracks[which] = tracks.get(which, Track()).report(ok, now, room=room, rules=RULES)
        out = ejected(tracks, range(count), now, RULES)
        assert len(out) <= count // 2
        assert len(out) < count
        assert tracks[which].until <= now + RULES.longest
