"""Until when a record's holder is taken for the leader."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from tideover.elections.record_document import RecordDocument
from tideover.elections.rules.candidate import Timing


def written(**fields: Any) -> RecordDocument:
    """Return a record."""
    document = RecordDocument("somebody", term=1, policy="step_down", ttl=15.0, write="w")
    return replace(document, **fields)


@pytest.mark.parametrize(
    "document",
    [written(holder=""), written(vacant=True), written(policy="peers", limit=3600.0, entered=False)],
)
def test_nobody_leads(document: RecordDocument) -> None:
    """By a founded or a vacant record nobody leads, nor who has yet to wait for the end of a promise."""
    assert document.led_until(100.0) == -math.inf


@pytest.mark.parametrize("ttl", [4.6, 15.0, 60.0])
def test_a_leader_is_given_up_before_its_own_deadline(ttl: float) -> None:
    """Of a renewal that took a second it is the leader's own deadline, and never before the next renewal."""
    timing, sent_at, took = Timing(ttl), 100.0, 1.0
    until = written(ttl=ttl).led_until(sent_at + took)
    assert until <= sent_at + timing.ttl - timing.margin + 1e-9
    assert until > sent_at + took + timing.interval


def test_what_a_leader_does_in_an_outage_counts() -> None:
    """Under `"peers"` it may be confirmed up to its limit, under `"stay"` only another record ends it."""
    assert written(policy="peers", limit=3600.0).led_until(100.0) == 3700.0
    assert written(policy="stay").led_until(100.0) == math.inf
