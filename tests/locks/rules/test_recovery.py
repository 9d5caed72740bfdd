"""What becomes of locks in an outage and after it."""

from __future__ import annotations

import itertools

from tideover.locks.rules.recovery import Fate, Verdict, fate, verdict


def test_only_doubt_in_a_declared_outage_makes_a_lock_local() -> None:
    """Of eight cases one turns LOCAL: asked for, an outage, and no definite no."""
    for definite, may_be_local, outage in itertools.product([False, True], repeat=3):
        found = fate(definite=definite, may_be_local=may_be_local, away=outage)
        assert (found is Fate.TURN_LOCAL) == (not definite and may_be_local and outage)


def test_only_the_first_in_line_is_distributed_again() -> None:
    """The same key keeps its token, another one has a new one, and who is not first is in conflict."""
    assert verdict(own=7, first=7, before=7) is Verdict.KEPT
    assert verdict(own=9, first=9, before=7) is Verdict.TAKEN
    assert verdict(own=9, first=9, before=None) is Verdict.TAKEN
    assert verdict(own=7, first=5, before=7) is Verdict.CONFLICT
    assert verdict(own=9, first=8, before=None) is Verdict.CONFLICT
