"""What is met, and when to come again: decisions without a clock."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tideover.asgi.rules.requirements import (
    Available,
    Known,
    KnownConfig,
    Leads,
    Lockable,
    Need,
    PickableEndpoints,
    retry_after,
)
from tideover.types import Standing

HELD, CONFIRMED, UNCONFIRMED = Standing


@dataclass(frozen=True)
class Part:
    """What is known of a part of etcd."""

    known: bool = True
    denied: bool = False
    age: float = 5.0
    pickable: int = 2

    @property
    def view(self) -> Part:
        """What is known of its list."""
        return self


@dataclass(frozen=True)
class Some:
    """Facts as given."""

    available: bool = True
    writable: bool = True
    brief: str = "etcd has no quorum"
    parts: tuple[Part, ...] = (Part(),)
    standings: dict[str, Standing] = field(default_factory=dict)

    def config(self, prefix: str) -> Iterable[Known]:
        """Return what is known under any prefix."""
        return self.parts

    def service(self, name: str) -> Part:
        """Return what is known of any service."""
        return self.parts[0]

    def standing(self, election: str) -> Standing | None:
        """Return the standing."""
        return self.standings.get(election)


@pytest.mark.parametrize(
    ("need", "facts", "why"),
    [
        (KnownConfig(), Some(), ""),
        (KnownConfig(max_age=5), Some(), ""),
        (KnownConfig(max_age=4.9), Some(), "the configuration is 5 s old, and may be 4 s"),
        (KnownConfig(max_age=60), Some(parts=(Part(), Part(age=math.inf))), "the configuration is of unknown age"),
        (KnownConfig(), Some(parts=(Part(age=math.inf),)), ""),
        (KnownConfig("a/"), Some(parts=(Part(), Part(known=False))), "config 'a/' has never been read"),
        (KnownConfig("a/"), Some(parts=(Part(denied=True),)), "config 'a/' may not be read: etcd denies it"),
        (PickableEndpoints("b", 2), Some(), ""),
        (PickableEndpoints("b", 3), Some(), "'b' has 2 endpoints that can be picked, and 3 are required"),
        (PickableEndpoints("b", max_age=1), Some(), "the list of 'b' is 5 s old, and may be 1 s"),
        (PickableEndpoints("b"), Some(parts=(Part(known=False, pickable=9),)), "has never been read"),
        (Lockable(), Some(), ""),
        (
            Lockable(),
            Some(available=False, writable=False),
            "had across machines: etcd has no quorum",
        ),
        (Lockable(), Some(writable=False), "no lock can be had across machines"),
        (Available("etcd"), Some(writable=False), ""),
        (Available("etcd"), Some(available=False), "etcd has no quorum"),
        (Leads("a"), Some(standings={"b": HELD}), "'a' is not led here"),
        (Leads("a"), Some(standings={"a": HELD}), ""),
        (Leads("a"), Some(standings={"a": CONFIRMED}), ""),
        (Leads("a"), Some(standings={"a": UNCONFIRMED}), "'a' is led here, and only unconfirmed"),
        (Leads("a", [UNCONFIRMED]), Some(standings={"a": UNCONFIRMED}), ""),
        (Leads("a", [UNCONFIRMED]), Some(standings={"a": HELD}), "'a' is led here, and only held"),
    ],
)
def test_what_is_met(need: Need, facts: Some, why: str) -> None:
    """Each requirement says why it is not met, and nothing if it is."""
    found = need.unmet(facts)
    assert why in found
    assert bool(found) is bool(why)


@given(st.floats(0, 1e6), st.floats(0, 1, exclude_max=True))
def test_when_to_come_again(next_probe: float, chance: float) -> None:
    """`Retry-After` is a whole number from 1 to 30, and never before the next probe has found etcd back."""
    wait = retry_after(next_probe, chance)
    assert isinstance(wait, int)
    assert 1 <= wait <= 30
    assert wait == 30 or next_probe + 1 <= wait <= next_probe + 4


def test_not_all_come_together() -> None:
    """Clients that are told at the same time are spread."""
    assert len({retry_after(0.7, n / 100) for n in range(100)}) > 1
