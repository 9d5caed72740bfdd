"""Verdicts and sentences are read rightly from what Spin prints; the searches themselves are `nox -s model`."""

from __future__ import annotations

import re

import pytest

from models.spin import MODEL, SpinFailed, read, sentences
from models.variants import BROKEN, VARIANTS, Verdict

WHOLE = """
State-vector 92 byte, depth reached 54346, errors: 0
   183206 states, stored
   412034 states, matched
"""
VIOLATED = """
pan:1: assertion violated ( !((p[0].deadline>0)&&(p[1].deadline>0))) (at depth 13)
pan: wrote failsafe.pml.trail
State-vector 92 byte, depth reached 14, errors: 1
  1.31e+06 states, stored
"""


def test_a_whole_search_without_errors_is_safe() -> None:
    """No error in a complete search is `SAFE`, with states and depth."""
    found = read(WHOLE, 1.5)
    assert (found.verdict, found.states, found.depth, found.seconds) == (Verdict.SAFE, 183206, 54346, 1.5)


@pytest.mark.parametrize("cut", ["Warning: Search not completed\n", "error: max search depth too small\n"])
def test_a_search_that_was_cut_short_proves_nothing(cut: str) -> None:
    """A search that ran out of memory or depth is `UNKNOWN`, never `SAFE`."""
    assert read(cut + WHOLE, 1.0).verdict is Verdict.UNKNOWN


@pytest.mark.parametrize(
    ("claim", "verdict"),
    [
        (
            "( !(((p[0].deadline>0)&&(p[0].promise==0))&&((p[1].deadline>0)&&(p[1].promise==0))))",
            Verdict.TWO_LEADERS,
        ),
        ("((record_vacant||(record_holder==3))||!((p[record_holder].deadline>0)))", Verdict.DISTURBED),
        ("((p[i].write!=1)||(p[i].promise==0))", Verdict.REACHED),
        ("!((((p[0].deadline>0)&&(p[0].limit>0))&&(p[0].limit<=((2+1)-2))))", Verdict.REACHED),
    ],
)
def test_a_violated_claim_is_told_by_its_text(claim: str, verdict: Verdict) -> None:
    """Two leaders, a disturbed leader and a reached state are told apart; the depth is the violation's."""
    text = re.sub(r"violated .* \(at", lambda _: f"violated {claim} (at", VIOLATED)
    found = read(text, 1.0)
    assert (found.verdict, found.states, found.depth) == (verdict, 1_310_000, 13)


@pytest.mark.parametrize(
    "output", ["", "pan: out of memory", VIOLATED.replace("assertion violated", "invalid end")]
)
def test_what_is_no_verdict_is_an_error(output: str) -> None:
    """Silence, a crash and an error of another kind raise, rather than pass for a verdict."""
    with pytest.raises(SpinFailed):
        read(output, 1.0)


def test_a_trail_becomes_sentences_with_numbered_ticks() -> None:
    """What the model says is kept, ticks are counted, and Spin's own words are dropped."""
    said = "A leads for 2 ticks\na tick passes\nB looks at the record\na tick passes\nspin: trail ends\nnoise\n"
    assert sentences(said) == ["A leads for 2 ticks", "tick 1", "B looks at the record", "tick 2"]


def test_every_switch_of_the_model_is_searched() -> None:
    """Each `BREAK_` and `SHOW_` that the model knows belongs to a variant, and no variant has an unknown one."""
    known = set(re.findall(r"\b((?:BREAK|SHOW|CHECK)_[A-Z0-9_]+)", MODEL.read_text())) - {"BREAK_", "SHOW_"}
    used = {flag for variant in VARIANTS for flag in variant.flags if re.match(r"(BREAK|SHOW|CHECK)_", flag)}
    assert known == used
    assert len({variant.name for variant in VARIANTS}) == len(VARIANTS)


def test_each_of_the_eight_rules_is_broken_somewhere() -> None:
    """Every rule of the policy "peers" has a variant without it that is expected to fail."""
    assert {variant.says[0] for variant in BROKEN if variant.says[0].isdigit()} == set("12345678")
