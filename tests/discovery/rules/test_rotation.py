"""Whose turn it is: exact shares, evenly spread, and not the same for everybody at the start."""

from __future__ import annotations

import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from tideover.discovery.rules.rotation import Rotation


def rotation(weights: dict[str, float], seed: int = 1, before: Rotation[str] | None = None) -> Rotation[str]:
    """Return a rotation with chance that repeats."""
    return Rotation(weights.items(), chance=random.Random(seed).random, before=before)


def picks(turns: Rotation[str], count: int) -> list[str]:
    """Pick so many times."""
    return [item for _ in range(count) if (item := turns.next()) is not None]


@given(st.dictionaries(st.text(max_size=3), st.floats(1e-3, 1e6), min_size=1, max_size=8), st.integers(0, 99))
def test_shares_are_the_weights(weights: dict[str, float], seed: int) -> None:
    """At every moment each item is within two turns of its share of the virtual time that has passed."""
    turns, total = rotation(weights, seed), sum(weights.values())
    counts = Counter[str]()
    for n in range(1, 400):
        counts.update(picks(turns, 1))
        for item, weight in weights.items():
            share = weight / total
            # All others may be a turn ahead or behind, which shifts this one by its share of them.
            assert abs(counts[item] - n * share) <= 2 + len(weights) * share


@given(st.integers(1, 50), st.integers(0, 99))
def test_equal_weights_take_strict_turns(count: int, seed: int) -> None:
    """With equal weights everybody has had one turn before anybody has a second, for ever in the same order."""
    turns = rotation({str(n): 2.5 for n in range(count)}, seed)
    first = picks(turns, count)
    assert len(set(first)) == count
    assert picks(turns, 3 * count) == first * 3


def test_turns_of_a_heavy_item_are_spread() -> None:
    """Weights 5, 1, 1: the heavy one never has more than five turns running, and the light ones one in seven."""
    order = "".join(picks(rotation({"a": 5.0, "b": 1.0, "c": 1.0}), 700))
    assert "aaaaaa" not in order
    assert Counter(order) == {"a": 500, "b": 100, "c": 100}


def test_weight_0_has_no_turn() -> None:
    """An item without weight is never picked; nobody is picked if all are."""
    assert set(picks(rotation({"a": 1.0, "b": 0.0}), 100)) == {"a"}
    assert rotation({"a": 0.0}).next() is None
    assert rotation({}).next(["a"]) is None


def test_a_fleet_does_not_begin_with_the_same_item() -> None:
    """A thousand processes that start together spread their first pick over ten items."""
    weights = {str(n): 1.0 for n in range(10)}
    first = Counter(rotation(weights, seed).next() for seed in range(1000))
    assert len(first) == 10
    assert max(first.values()) < 150


def test_who_is_avoided_is_picked_only_if_there_is_nobody_else() -> None:
    """A retry goes to another; the turn of the one avoided is not lost."""
    turns = rotation({"a": 1.0, "b": 1.0, "c": 1.0})
    first = picks(turns, 1)
    others = {turns.next(first), turns.next(first)}
    assert others == {"a", "b", "c"} - set(first)
    assert turns.next(["a", "b", "c"]) in {"a", "b", "c"}
    assert rotation({"a": 1.0}).next(["a"]) == "a"


@given(st.integers(2, 12), st.integers(0, 30), st.integers(0, 99))
def test_a_change_of_the_list_keeps_the_order(count: int, after: int, seed: int) -> None:
    """When one more joins, the others go on where they were: nobody is picked twice in a row because of it."""
    weights = {str(n): 1.0 for n in range(count)}
    turns = rotation(weights, seed)
    done = picks(turns, after)
    due = done[-count + 1 :]
    joined = rotation({**weights, "new": 1.0}, seed + 1, before=turns)
    coming = [item for item in picks(joined, count + 2) if item != "new"]
    if len(done) >= count:
        assert coming[0] not in due
    assert Counter(picks(joined, 10 * (count + 1))).most_common()[-1][1] >= 9


def test_extreme_weights_do_not_stop_the_rotation() -> None:
    """Weights as far apart as floats go: the heavy ones share the turns, and nothing overflows."""
    turns = rotation({"a": 1e6, "b": 1e6, "c": 5e-324})
    assert Counter(picks(turns, 1000)).keys() >= {"a", "b"}
