"""`docs/reference/telemetry.md` read against what an SDK receives: nothing is missing, nothing is more."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest
from opentelemetry.sdk.metrics.export import Gauge, Histogram, Metric, Sum
from opentelemetry.trace import SpanKind

from tests.telemetry.everything import live_through_everything
from tests.telemetry.recording import Recorded

pytestmark = pytest.mark.anyio

PAGE = Path(__file__).parents[2] / "docs/reference/telemetry.md"


@dataclass(frozen=True)
class Row:
    """One line of a table of the page."""

    name: str
    cells: tuple[str, ...]

    def names(self, cell: int) -> set[str]:
        """Return the attributes that a cell names."""
        return set(re.findall(r"`((?:tideover|db|server|error)\.[a-z_.]+)`", self.cells[cell]))


def table(heading: str) -> dict[str, Row]:
    """Return the first table below a heading, by the name in its first column."""
    text = PAGE.read_text().partition(f"\n## {heading}\n")[2]
    found = re.search(r"^\|.*\n\|[-|]+\n((?:\|.*\n)+)", text, re.M)
    assert found is not None, heading
    rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in found[1].splitlines()]
    return {cells[0].strip("`"): Row(cells[0].strip("`"), tuple(cells[1:])) for cells in rows}


def kind_of(metric: Metric) -> str:
    """Return what kind of instrument a metric comes from, as the page calls it."""
    data = metric.data
    if isinstance(data, Sum):
        return "counter" if data.is_monotonic else "up-down counter"
    return {Gauge: "gauge", Histogram: "histogram"}[type(data)]


@pytest.mark.usefixtures("disk_at_once")
async def test_the_page_says_what_is_recorded(recorded: Recorded, tmp_path: Path) -> None:
    """Every span, event and metric is on the page, with its kind, unit, level and attributes; and none is there
    that is not recorded."""
    seen = await live_through_everything(recorded, tmp_path)

    metrics = table("Metrics")
    assert set(seen.metrics) == set(metrics)
    for name, row in metrics.items():
        instrument, unit = row.cells[0].removeprefix("observable ").split(", ")
        assert (kind_of(seen.metrics[name]), seen.metrics[name].unit) == (instrument, unit), name
        assert seen.attributes.get(name, set()) == row.names(1), name
        assert (seen.metrics[name].description or "").endswith("."), name

    events = table("Events")
    assert set(seen.events()) == set(events)
    for name, attributes in seen.events().items():
        assert attributes - {"tideover.left_out"} == events[name].names(2), name
    for data in recorded.log_exporter.get_finished_logs():
        event = data.log_record
        if event.event_name:
            assert str(event.severity_text) in events[event.event_name].cells[0], event.event_name

    spans = {span.name: span.kind for span in recorded.spans()}
    documented = table("Spans")
    named = {name: SpanKind[row.cells[0]] for name, row in documented.items() if name.startswith("tideover.")}
    assert {name: kind for name, kind in spans.items() if name.startswith("tideover.")} == named
    assert {kind for name, kind in spans.items() if name not in named} == {SpanKind.CLIENT}


@pytest.mark.usefixtures("disk_at_once")
async def test_names_are_no_namespaces(recorded: Recorded, tmp_path: Path) -> None:
    """No metric has its unit, `_total` or a bare `count` in its name; no name is another one's namespace."""
    metrics = set(table("Metrics"))
    for name in metrics:
        assert not name.endswith(("_total", ".total", "_seconds", "_bytes", "count")), name
        assert not any(other.startswith(f"{name}.") for other in metrics), name
    attributes = set(re.findall(r"`((?:tideover|db|server|error)\.[a-z_.]+)`", PAGE.read_text()))
    attributes -= metrics | set(table("Events")) | set(table("Spans"))
    for name in attributes:
        assert not any(other.startswith(f"{name}.") for other in attributes), name
