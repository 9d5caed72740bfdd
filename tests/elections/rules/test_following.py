"""Until when a record's holder is taken for the leader."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest

from tideover.elections.rules.candidate import Timing
from tideover.elections.rules.following import led_until


@dataclass(frozen=True)
class Written:
    """A record."""

    holder: str = "somebody"
    vacant: bool = False
    entered: bool = True
    policy: str = "step_down"
    ttl: float = 15.0
    limit: float = 0.0


@pytest.mark.parametrize(
    "written",
    [None, Written(holder=""), Written(vacant=True), Written(policy="peers", limit=3600, entered=False)],
)
def test_nobody_leads(written: Written | None) -> None:
    """By no record, a founded or a vacant one nobody leads, nor who has yet to wait for the end of a promise."""
    assert led_until(written, 100.0) == -math.inf


@pytest.mark.parametrize("ttl", [4.6, 15.0, 60.0])
def test_a_leader_is_given_up_before_its_own_deadline(ttl: float) -> None:
    """Of a renewal that took a second it is the leader's own deadline, and never before the next renewal."""
    timing, sent_at, took = Timing(ttl), 100.0, 1.0
    until = led_until(Written(ttl=ttl), sent_at + took)
    assert until <= sent_at + timing.ttl - timing.margin + 1e-9
    assert until > sent_at + took + timing.interval


def test_what_a_leader_does_in_an_outage_counts() -> None:
    """Under `"peers"` it may be confirmed up to its limit, under `"stay"` only another record ends it."""
    assert led_until(Written(policy="peers", limit=3600.0), 100.0) == 3700.0
    assert led_until(Written(policy="stay"), 100.0) == math.inf
