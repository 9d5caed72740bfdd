"""How etcd's request rate is drawn from counters that were looked at now and then. Nothing is measured here."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest

from benchmarks.fleet import STEP, _rate
from benchmarks.picture import Mark, bars


def test_a_late_look_makes_no_peak() -> None:
    """A look that came late, and one right after it, give the rate of the time between, and no more."""
    counted = [(10.0, 0.0), (10.1, 100.0), (10.45, 450.0), (10.4501, 450.1), (10.5, 500.0)]
    assert _rate(counted, 10.0)[:5] == pytest.approx([1000.0] * 5, rel=0.01)


def test_what_was_counted_is_what_is_drawn() -> None:
    """However the looks fall, all requests are in the picture, and none twice."""
    counted = [(10.03, 5.0), (10.2, 50.0), (10.21, 90.0), (10.77, 1234.0)]
    assert sum(_rate(counted, 10.0)) * STEP == pytest.approx(1229)


def test_an_etcd_that_was_started_again_counts_anew() -> None:
    """A counter that went back is no rate, and what was before `since` is left out."""
    counted = [(9.0, 0.0), (9.9, 900.0), (12.0, 3.0), (12.1, 103.0)]
    rates = _rate(counted, 10.0)
    assert sum(rates) * STEP == pytest.approx(100)
    assert max(rates) <= 1001


def test_the_picture_is_well_formed_and_says_what_it_shows() -> None:
    """The SVG can be parsed, has a title and a description, a bar for each step with requests, and its marks."""
    drawn = bars("A <b>", "text & more", [0, 5, 10], step=0.1, marks=[Mark(0.1, "here")], unit="1/s")
    root = ET.fromstring(drawn)
    name = "{http://www.w3.org/2000/svg}"
    assert root.findtext(f"{name}title") == "A <b>"
    assert root.findtext(f"{name}desc") == "text & more"
    assert len(root.findall(f"{name}rect")) == 2
    assert "here" in [text.text for text in root.findall(f"{name}text")]
