"""When an instance leaves the list, in both directions: not too soon, and not too late."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tideover.discovery.rules.removals import Listing, RemovalRules

RULES = RemovalRules()
NOTHING: Listing[str] = Listing()


def some(*instances: str) -> dict[str, str]:
    """Return what etcd has: each instance known by its name."""
    return {instance: instance for instance in instances}


def numbered(count: int) -> dict[str, str]:
    """Return so many instances."""
    return some(*(f"i{n:03}" for n in range(count)))


def settled(present: dict[str, str], now: float = 0.0) -> Listing[str]:
    """Return a listing in ordinary times."""
    return NOTHING.observe(present, now, trusted=True, rules=RULES)


def run(listing: Listing[str], present: dict[str, str], now: float, until: float) -> list[tuple[float, int]]:
    """Let time pass while etcd stays as it is; return when the list had which length."""
    lengths: list[tuple[float, int]] = []
    while now <= until:
        listing = listing.observe(present, now, trusted=True, rules=RULES)
        if not lengths or lengths[-1][1] != len(listing.listed):
            lengths.append((now, len(listing.listed)))
        now = listing.next_at(RULES)
    return lengths


def test_a_single_removal_is_immediate() -> None:
    """In ordinary times the instance that goes has gone."""
    assert run(settled(some("a", "b")), some("a"), 100.0, 200.0) == [(100.0, 1)]


def test_a_mass_removal_takes_three_windows() -> None:
    """Of 100 that leave 1 at once, a third has gone at once, another after 10 s, and the last after 20 s."""
    lengths = run(settled(numbered(100)), numbered(1), 100.0, 1000.0)
    assert lengths == [(100.0, 66), (110.0, 32), (120.0, 1)]


def test_emptiness_is_believed_after_a_while() -> None:
    """A service that is empty in etcd is full here for 30 s, and empty after 50 s."""
    lengths = run(settled(numbered(30)), {}, 100.0, 1000.0)
    assert lengths == [(100.0, 30), (130.0, 20), (140.0, 10), (150.0, 0)]


def test_the_last_instance_stays_for_a_while() -> None:
    """A service of one that scales to none has its one instance for 30 s more."""
    assert run(settled(some("a")), {}, 100.0, 1000.0) == [(100.0, 1), (130.0, 0)]


def test_removals_after_an_outage_wait_for_the_grace_period() -> None:
    """After an outage nothing goes for 30 s; what does not come back has gone after 50 s."""
    listing = settled(numbered(30)).suspend().observe(numbered(30), 100.0, trusted=False, rules=RULES)
    assert run(listing, numbered(10), 200.0, 1000.0) == [(200.0, 30), (230.0, 20), (240.0, 10)]


def test_who_comes_back_within_the_grace_period_was_never_away() -> None:
    """Slow renewers vanish and come back together: the list does not change at all."""
    listing = settled(numbered(30)).suspend()
    for now, present in ((200.0, 30), (216.0, 12), (219.0, 30), (300.0, 30)):
        listing = listing.observe(numbered(present), now, trusted=True, rules=RULES)
        assert len(listing.listed) == 30
    assert not listing.missing


def test_nothing_is_removed_without_proof() -> None:
    """While the content is not proven in sync nothing goes, however long that lasts; additions count."""
    listing = settled(some("a", "b"))
    for now in (10.0, 1e3, 1e6):
        listing = listing.observe(some("c"), now, trusted=False, rules=RULES)
        assert set(listing.listed) == {"a", "b", "c"}
        assert listing.missing == {"a": 10.0, "b": 10.0}


@pytest.mark.parametrize("trusted", [True, False])
@pytest.mark.parametrize("suspect", [True, False])
def test_who_says_that_it_leaves_has_left(trusted: bool, suspect: bool) -> None:
    """Any number that say so go at once, after an outage and in one too, and use up nobody else's window."""
    listing = settled(numbered(9))
    listing = listing.suspend() if suspect else listing
    left = {f"i{n:03}" for n in range(1, 9)}
    after = listing.observe(some("i000"), 100.0, trusted=trusted, rules=RULES, left=left)
    assert set(after.listed) == {"i000"}
    assert not after.missing
    assert after.removed == 0
    assert not listing.observe({}, 100.0, trusted=trusted, rules=RULES, left=left | {"i000"}).listed
    # Who said so and is there again stays.
    again = listing.observe(numbered(9), 100.0, trusted=trusted, rules=RULES, left=left)
    assert again.listed == numbered(9)


def test_a_replacement_is_no_removal() -> None:
    """The same instance with something new to say is changed at once, in the grace period too."""
    listing = settled({"a": "old"}).suspend().observe({"a": "new"}, 100.0, trusted=True, rules=RULES)
    assert listing.listed == {"a": "new"}
    assert not listing.missing


def test_emptiness_in_an_outage_counts_for_nothing() -> None:
    """What is empty for an hour of outage, as a lagging member may say, must be empty for 30 s afterwards."""
    listing = settled(some("a")).observe({}, 10.0, trusted=True, rules=RULES).suspend()
    listing = listing.observe({}, 3600.0, trusted=False, rules=RULES)
    assert run(listing, {}, 3610.0, 5000.0) == [(3610.0, 1), (3640.0, 0)]


def test_what_an_earlier_process_left_is_replaced_at_once() -> None:
    """A start without an outage takes over what etcd has, unless that is nothing."""
    left = NOTHING.observe(numbered(9), 0.0, trusted=False, rules=RULES)
    assert left.observe(some("x"), 1.0, trusted=True, rules=RULES).listed == some("x")
    assert len(left.observe({}, 1.0, trusted=True, rules=RULES).listed) == 9
    assert len(left.suspend().observe(some("x"), 1.0, trusted=True, rules=RULES).listed) == 10


@pytest.mark.parametrize("wrong", [{"grace": -1.0}, {"window": math.inf}, {"share": 0.0}, {"share": 1.5}])
def test_numbers_that_cannot_work_are_refused(wrong: dict[str, float]) -> None:
    """A rule out of range raises ValueError, and the message has its name."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        RemovalRules(**wrong)


steps = st.lists(
    st.tuples(
        st.floats(0.0, 40.0),
        st.sampled_from(["see", "see", "see", "doubt", "suspend"]),
        st.frozensets(st.integers(0, 11), max_size=12),
    ),
    max_size=25,
)


@given(steps)
def test_never_too_soon(history: list[tuple[float, str, frozenset[int]]]) -> None:
    """Whatever happens: nothing that etcd has is missing; nothing goes unproven, in the grace period, more than a
    third (of the longest list lately) per window, or because of emptiness that has not lasted."""
    listing, now, recovered, empty_since, gone = NOTHING, 0.0, -math.inf, math.inf, list[tuple[float, int]]()
    suspect, first = False, True
    for after, what, which in history:
        now += after
        present = some(*map(str, which))
        if what == "suspend":
            listing, suspect, empty_since = listing.suspend(), True, math.inf
        trusted = what == "see"
        before = listing
        listing = listing.observe(present, now, trusted=trusted, rules=RULES)
        assert present.items() <= listing.listed.items()
        if trusted and suspect:
            recovered, suspect = now, False
        empty_since = math.inf if present else min(empty_since, now) if trusted else empty_since
        removed = before.listed.keys() - listing.listed.keys()
        wholesale = first and recovered == -math.inf
        first = first and not trusted
        if not removed or (wholesale and present):
            continue
        assert trusted
        assert now >= recovered + RULES.grace
        assert present or now - empty_since >= RULES.empty_after
        gone.append((now, len(removed)))
        lately = sum(count for at, count in gone if now - at < RULES.window)
        assert lately <= 2 * RULES.most(12)
        assert listing.removed <= RULES.most(max(listing.size, 1))


@given(steps, st.frozensets(st.integers(0, 11), max_size=12))
def test_never_too_late(history: list[tuple[float, str, frozenset[int]]], last: frozenset[int]) -> None:
    """Whatever happened: a minute after the last change the list is what etcd has."""
    listing, now = NOTHING, 0.0
    for after, what, which in history:
        now += after
        listing = listing.suspend() if what == "suspend" else listing
        listing = listing.observe(some(*map(str, which)), now, trusted=what == "see", rules=RULES)
    present, began = some(*map(str, last)), now
    while now <= began + RULES.longest:
        listing = listing.observe(present, now, trusted=True, rules=RULES)
        now = listing.next_at(RULES)
        assert now > began
    assert listing.listed == present
    assert RULES.longest == 60.0
