"""Whatever metric or label an alert, a panel or a page names is in what a process really exposes.

The names are those that the Python Prometheus exporter gives. A metric that is renamed in the source alone fails
here for each alert, panel and page that names it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.assets.conftest import Promtool
from tests.assets.expressions import ROOT, dashboard, everywhere, in_dashboard, in_pages, named, rules
from tests.telemetry.everything import Exposed

REFERENCE = ROOT / "docs/reference/telemetry.md"


def strangers(found: Iterator[tuple[str, str]], exposed: Exposed) -> list[str]:
    """Return where something is named that is not exposed, and what."""
    return [f"{where}: {name}" for where, expression in found for name in named(expression).strangers(exposed)]


def test_alerts_name_what_is_exposed(exposed: Exposed) -> None:
    """Each metric, label and value in an alert's expression is exposed."""
    assert strangers(((f"alert {rule['alert']}", rule["expr"]) for rule in rules()), exposed) == []


def test_the_dashboard_names_what_is_exposed(exposed: Exposed) -> None:
    """So is each in the dashboard: in panels, in annotations and in variables."""
    assert strangers(in_dashboard(), exposed) == []


def test_pages_name_what_is_exposed(exposed: Exposed) -> None:
    """So is each in the PromQL of the documentation, of which there is some."""
    assert len(list(in_pages())) > 5
    assert strangers(in_pages(), exposed) == []


def test_names_of_prometheus_in_the_prose_are_exposed(exposed: Exposed) -> None:
    """A name with underscores that the documentation gives is one that is exposed."""
    names = {
        f"{page.relative_to(ROOT)}: {name}"
        for page in (ROOT / "docs").rglob("*.md")
        for name in re.findall(r"`((?:tideover|db_client)_[a-z_]+_[a-z_]+)`", page.read_text())
        if page.parent.name != "decisions"
    }
    labels = {label for metric in exposed.values() for label in metric}
    assert sorted(name for name in names if name.split(": ")[1] not in exposed.keys() | labels) == []


def test_the_dashboard_shows_every_metric(exposed: Exposed) -> None:
    """No metric is recorded that the dashboard leaves out."""
    shown = {metric for _, expression in in_dashboard() for metric in named(expression).metrics}
    families = {re.sub(r"_(bucket|sum|count)$", "", metric) for metric in shown}
    assert {re.sub(r"_(bucket|sum|count)$", "", metric) for metric in exposed} - families == set()


def test_the_dashboard_and_the_reference_name_each_alert() -> None:
    """Each alert is beside the panel that shows why, and on the reference page; no name there is that of none."""
    alerts = {rule["alert"] for rule in rules()}
    texts = [panel.get("description", "") for panel in dashboard()["panels"]]
    found = [names for text in texts for names in re.findall(r"Alerts?: ([\w, ]+)\.", text)]
    beside = {name for names in found for name in names.split(", ")}
    assert beside == alerts
    section = REFERENCE.read_text().partition("\n## What to alert on\n")[2]
    assert set(re.findall(r"\(`([A-Z]\w+)`\)", section)) == alerts


def test_templates_name_labels_of_their_results() -> None:
    """A label in the text of an alert, or in a panel's legend, is one that its expression keeps."""
    wrong = []
    for rule in rules():
        told = set(re.findall(r"\$labels\.(\w+)", " ".join(rule["annotations"].values())))
        wrong += [f"{rule['alert']}: {label}" for label in told - kept(rule["expr"])]
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", ()):
            told = set(re.findall(r"\{\{(\w+)\}\}", target.get("legendFormat", "")))
            wrong += [f"{panel['title']}: {label}" for label in told - kept(target.get("expr", "0"))]
    assert wrong == []


def kept(expression: str) -> set[str]:
    """Return the labels that the outermost aggregations of an expression keep."""
    return {label.strip() for labels in re.findall(r"\bby \(([^)]*)\)", expression) for label in labels.split(",")}


def test_attributes_in_traceql_are_recorded() -> None:
    """An attribute, or the name of a span, in TraceQL of the dashboard or a page is on the reference page."""
    reference = REFERENCE.read_text()
    texts = [(panel["title"], str(panel)) for panel in dashboard()["panels"] if panel["type"] == "table"]
    for page in (ROOT / "docs/how-to").glob("*.md"):
        blocks = re.findall(r"^```traceql\n(.*?)^```$", page.read_text(), re.M | re.S)
        texts += [(page.name, block) for block in blocks]
    wrong = [
        f"{where}: {name}"
        for where, text in texts
        for name in re.findall(r'(?:span\.|name = ")(tideover\.[a-z_.]*[a-z])', text)
        if f"`{name}`" not in reference
    ]
    assert wrong == []


def test_promtool_reads_every_expression(promtool: Promtool, tmp_path: Path) -> None:
    """All of them are PromQL to promtool, too, as rules that record."""
    filled = [text.replace("$__rate_interval", "5m").replace("$max_stale", "3600") for _, text in everywhere()]
    rules = [f"      - record: x{number}\n        expr: {text!r}\n" for number, text in enumerate(filled)]
    file = tmp_path / "rules.yml"
    # A Python literal is a YAML one as long as it is in single quotes; newlines would be two characters.
    text = "".join(rule.replace("\\n", " ") for rule in rules)
    file.write_text(f"groups:\n  - name: all\n    rules:\n{text}")
    promtool("check", "rules", file)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("tideover_gone_total", ["tideover_gone_total"]),
        ("sum by (gone) (tideover_config_age_seconds)", ["gone"]),
        ("rate(tideover_config_reads_total{gone='x'}[5m]) > 0", ["gone", 'tideover_config_reads_total{gone="x"}']),
        (
            'tideover_component_status{tideover_state=~"degraded|gone"}',
            ['tideover_component_status{tideover_state="gone"}'],
        ),
        ("tideover_config_age_seconds unless on (gone) tideover_election_leader offset 1m", ["gone"]),
        ("max by (job) (tideover_config_age_seconds{instance=~'a.*'}) > 0.8 * 3600", []),
        ("histogram_quantile(0.5, sum by (le) (rate(tideover_config_reads_total[5m])))", ["le"]),
    ],
)
def test_a_stranger_is_found_wherever_it_stands(expression: str, expected: list[str], exposed: Exposed) -> None:
    """Metrics, labels to group and match by, and values to compare with: what is not exposed is named."""
    assert named(expression).strangers(exposed) == expected
