"""The pictures of results, drawn of results that are made up."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from benchmarks import plots
from benchmarks.harness import Comparison, Goal, Outcome
from benchmarks.picture import Ratio, ratios
from benchmarks.registry import ROWS
from benchmarks.report import document

_SVG = "{http://www.w3.org/2000/svg}"


def _outcome(row: str, value: float, goal: Goal | None) -> Outcome:
    return Outcome(row, Comparison(f"{row} <{value}>", value, "a peer", 1.0, value, value), goal, 1)


def test_each_bar_is_as_long_as_its_ratio_and_shows_whether_its_goal_is_met() -> None:
    """Twice the ratio is twice the width; one beyond its goal has another colour; the goal is a line across it."""
    root = ElementTree.fromstring(ratios("A & B", [Ratio("one", 1.0, 1.2, (0.9, 1.1)), Ratio("two", 2.0, 1.2)]))
    (met, width), (missed, twice) = [
        (bar.get("class"), float(bar.get("width", 0))) for bar in root.iter(f"{_SVG}rect")
    ]
    assert (met, missed) == ("bar", "over")
    assert twice == pytest.approx(2 * width, abs=0.2)
    lines = [line.get("class") for line in root.iter(f"{_SVG}line")]
    assert (lines.count("mark"), lines.count("spread")) == (2, 1)
    description = root.find(f"{_SVG}desc")
    assert description is not None
    assert description.text == "one: 1, goal 1.2; two: 2, goal 1.2"


def test_what_the_program_has_written_is_drawn(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Ratios with a goal are drawn in the picture of their row; one without results is named and not written."""
    outcomes = [
        _outcome("one-call", 1.4, Goal(1.5)),
        _outcome("one-call", 9.0, None),
        _outcome("transport", 0.8, Goal(5.0, of="value")),
    ]
    results = tmp_path / "results.json"
    results.write_text(json.dumps(document(outcomes, {})))
    assert plots.main([str(results), "--folder", str(tmp_path)]) == 0
    assert [path.name for path in tmp_path.glob("*.svg")] == ["bench-calls.svg"]
    drawn = (tmp_path / "bench-calls.svg").read_text()
    assert drawn.count('<rect class="bar"') == 1
    assert "one-call &lt;1.4&gt;" in drawn
    assert "no results for bench-locks.svg" in capsys.readouterr().err


def test_every_plot_is_of_rows_that_there_are() -> None:
    """A row that was renamed does not vanish from its picture."""
    names: dict[str, Any] = {row.name: row for row in ROWS}
    for plot in plots.PLOTS:
        assert set(plot.rows) <= set(names)
        for name in plot.rows:
            assert any(goal.of == "ratio" for goal in names[name].goals.values())
