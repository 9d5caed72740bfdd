"""Which holds overlapped: what is called certain did happen, and what did happen is found."""

from __future__ import annotations

import time
from dataclasses import replace
from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from tideover.clock import Stamp
from tideover.locks.rules.overlaps import UNCERTAINTY, Hold, overlap, overlaps
from tideover.types import LockMode

SECONDS = st.floats(0, 100, allow_nan=False)
# How wrong the wall clock of a machine is: two of them differ by no more than the uncertainty.
SKEW = st.floats(-UNCERTAINTY / 2, UNCERTAINTY / 2, allow_nan=False)


def hold(
    owner: str,
    began: float,
    lasted: float,
    *,
    skew: float = 0.0,
    boot: str = "",
    mode: LockMode = LockMode.LOCAL,
    known: bool = True,
) -> Hold:
    """Return a hold as a machine with a clock that is wrong by `skew` writes it down."""

    def at(true: float) -> Stamp:
        return Stamp(1e9 + true + skew, true, boot or owner)

    ended = at(began + lasted)
    return Hold(
        f"{owner}-1",
        "orders",
        owner,
        owner,
        mode,
        0,
        at(began),
        ended if known else None,
        ended if known else at(began),
    )


@given(SECONDS, SECONDS, SKEW, SECONDS, SECONDS, SKEW)
def test_between_machines(b1: float, l1: float, s1: float, b2: float, l2: float, s2: float) -> None:
    """Whatever the clocks: certain means that it happened, and what happened is found."""
    found = overlap(hold("a", b1, l1, skew=s1), hold("b", b2, l2, skew=s2))
    truly = min(b1 + l1, b2 + l2) - max(b1, b2)
    if found is not None and found.certain:
        assert truly > -1e-6
    if truly > 1e-6:
        assert found is not None
    if truly > 2 * UNCERTAINTY + 1e-6:
        assert found is not None
        assert found.certain
    if truly < -2 * UNCERTAINTY - 1e-6:
        assert found is None


@given(SECONDS, SECONDS, SKEW, SECONDS, SECONDS, SKEW)
def test_within_one_boot_nothing_is_uncertain(
    b1: float, l1: float, s1: float, b2: float, l2: float, s2: float
) -> None:
    """On one machine the boot-time clock decides, however wrong the wall clock was set in between."""
    found = overlap(hold("a", b1, l1, skew=s1, boot="x"), hold("b", b2, l2, skew=s2, boot="x"))
    truly = min(b1 + l1, b2 + l2) - max(b1, b2)
    assert (found is not None) == (truly > 0)
    assert found is None or found.certain


@given(SECONDS, SECONDS, SECONDS)
def test_an_unknown_end_is_possible_not_certain(began: float, lasted: float, later: float) -> None:
    """A process died: it may have held until anytime, and is certain only as long as it was seen."""
    dead = hold("a", began, 0, known=False)
    other = hold("b", began + later + 1.5, lasted)
    found = overlap(dead, other)
    assert found is not None
    assert not found.certain


def test_only_with_a_local_hold_and_between_processes() -> None:
    """Two DISTRIBUTED holds, and two of one process, are no conflict."""
    one, other = hold("a", 0, 10), hold("b", 5, 10)
    distributed = LockMode.DISTRIBUTED
    assert overlap(one, replace(other, mode=distributed))
    assert overlap(replace(one, mode=distributed), replace(other, mode=distributed)) is None
    assert overlap(one, replace(other, owner="a")) is None


def test_each_pair_of_one_name_once() -> None:
    """Holds of other names do not meet; one that is known twice counts once, as last told."""
    one, other = hold("a", 0, 10), hold("b", 5, 10)
    elsewhere = replace(hold("c", 0, 10), name="other")
    (found,) = overlaps([one, other, elsewhere, one])
    assert found.id == ("a-1", "b-1")
    assert (found.first, found.second) == (one, other)
    assert not list(overlaps([one, other, replace(other, began=Stamp(2e9, 1e6, "b"), ended=Stamp(2e9, 1e6, "b"))]))


OWNERS = st.tuples(st.sampled_from("abc"), st.sampled_from(["one", "two", ""]))
HOLDS = st.lists(st.tuples(OWNERS, SECONDS, SECONDS, SKEW, st.booleans(), st.sampled_from(LockMode)), max_size=12)


@given(HOLDS)
def test_the_order_of_time_misses_none(
    drawn: list[tuple[tuple[str, str], float, float, float, bool, LockMode]],
) -> None:
    """What is found in the order of time is what is found by comparing each hold with each other."""
    holds = [
        replace(hold(owner, b, lasts, skew=s, boot=boot or owner, known=known, mode=mode), id=f"{owner}-{n}")
        for n, ((owner, boot), b, lasts, s, known, mode) in enumerate(drawn)
    ]
    each = {found.id for pair in combinations(holds, 2) if (found := overlap(*pair)) is not None}
    assert sorted(found.id for found in overlaps(holds)) == sorted(each)


def test_thousands_of_holds_of_one_name_take_no_time() -> None:
    """A lock that is taken again and again through a long outage blocks nothing when it is over."""
    holds = [
        replace(hold(owner, 2.0 * n + start, 0.9), id=f"{owner}-{n}")
        for owner, start in (("a", 0.0), ("b", 1.0))
        for n in range(10_000)
    ]
    holds.append(hold("c", 500.5, 0.1))
    began = time.process_time()
    assert len([found for found in overlaps(holds) if found.certain]) == 0
    assert time.process_time() - began < 10
