"""The dashboard and the Collector's files: whole, as they are made, and read by nothing but a parser."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.resources.abc import Traversable
from typing import Any

import pytest
import yaml

from tests.assets.expressions import ASSETS, ROOT, dashboard
from tools.assets.made import made

EXAMPLE = ROOT / "examples/observability"


def inside(value: object) -> Iterator[object]:
    """Return a value and all that is in it."""
    yield value
    if isinstance(value, dict | list):
        for each in value.values() if isinstance(value, dict) else value:
            yield from inside(each)


@pytest.mark.parametrize("path", sorted(made()))
def test_a_file_is_what_is_made(path: str) -> None:
    """What is made by a tool is committed as it is made: `python -m tools.assets` writes it."""
    assert (ASSETS / path).read_text() == made()[path]


def test_the_dashboard_is_of_the_classic_model() -> None:
    """Every Grafana in use imports it: a schema of 11.6 or newer, and not the one of resources; no nulls."""
    found = dashboard()
    assert found["schemaVersion"] >= 41
    assert "spec" not in found
    assert None not in list(inside(found))


def test_panels_can_be_told_apart_and_do_not_overlap() -> None:
    """Ids are there and unique, so are the reference ids in a panel; no two panels share a place."""
    panels = dashboard()["panels"]
    ids = [panel["id"] for panel in panels]
    assert sorted(set(ids)) == sorted(ids)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        names = [target["refId"] for target in panel.get("targets", ())]
        assert sorted(set(names)) == sorted(names), panel["title"]
        at = panel["gridPos"]
        cells = {(at["x"] + i, at["y"] + j) for i in range(at["w"]) for j in range(at["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24, panel["title"]
        taken |= cells


def test_a_panel_says_what_is_normal() -> None:
    """Each panel that shows something has a description, which says what is normal."""
    shown = [panel for panel in dashboard()["panels"] if panel["type"] != "row"]
    assert [panel["title"] for panel in shown if "Normal: " not in panel["description"]] == []


def test_a_source_of_data_is_a_variable() -> None:
    """No panel names a source of somebody's: each is one of the three variables."""
    variables = {each["name"]: each for each in dashboard()["templating"]["list"]}
    assert {"namespace", "service", "instance"} < variables.keys()
    for each in inside(dashboard()):
        if isinstance(each, dict) and isinstance(each.get("datasource"), dict):
            kind = each["datasource"]["type"]
            assert each["datasource"]["uid"] == f"${{{kind}}}"
            assert variables[kind]["query"] == kind


@pytest.mark.parametrize(
    "file",
    [ASSETS / "otelcol/tail-sampling.yaml", ASSETS / "otelcol/prometheus.yaml", EXAMPLE / "collector.yaml"],
    ids=str,
)
def test_a_pipeline_names_what_is_there(file: Traversable) -> None:
    """Each pipeline of the Collector uses what the file defines, and nothing in the file is left unused."""
    parsed: dict[str, Any] = yaml.safe_load(file.read_text())
    kinds = ("receivers", "processors", "exporters")
    for kind in kinds:
        used = {name for pipeline in parsed["service"]["pipelines"].values() for name in pipeline.get(kind, ())}
        assert used == set(parsed.get(kind, ())), kind


def test_tail_sampling_keeps_what_is_recorded() -> None:
    """The attributes that decide are those on the reference page; the example's policies are the same."""
    parsed = yaml.safe_load((ASSETS / "otelcol/tail-sampling.yaml").read_text())
    policies = parsed["processors"]["tail_sampling"]["policies"]
    example = yaml.safe_load((EXAMPLE / "collector.yaml").read_text())
    assert example["processors"]["tail_sampling"]["policies"] == policies
    keys = {policy[policy["type"]]["key"] for policy in policies if "key" in policy[policy["type"]]}
    assert keys == {"tideover.degraded", "tideover.outage_id"}


@pytest.mark.parametrize(
    "path", ["README.md", "grafana/tideover.json", "otelcol/tail-sampling.yaml", "otelcol/prometheus.yaml"]
)
def test_what_was_not_run_says_so(path: str) -> None:
    """Each file that no program of its kind has read here says so itself."""
    assert "not run" in (ASSETS / path).read_text().lower()
