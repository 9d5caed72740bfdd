"""Which metrics and labels an expression of PromQL names, and where the assets and the pages have expressions."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import promql_parser
import yaml
from promql_parser import AggregateExpr, BinaryExpr, Call, MatchOp, VectorSelector

from tests.telemetry.everything import Exposed
from tideover import RegistrationState

ASSETS = files("tideover") / "assets"
ROOT = Path(__file__).parents[2]
# Labels that Prometheus adds to what it scrapes.
ADDED = {"job", "instance"}
# Where registrations are counted by state, those in which none has been are missing.
STATES = {"tideover_discovery_registration_active": {"tideover_state": set(RegistrationState)}}


@dataclass(frozen=True)
class Named:
    """What an expression names."""

    metrics: frozenset[str]
    labels: frozenset[str]
    values: tuple[tuple[str, str, str], ...]

    def strangers(self, exposed: Exposed) -> list[str]:
        """Return what no process exposes: metrics, labels of none of these metrics, values that a label never has.

        Args:
            exposed: What a process exposes in which everything has happened.
        """
        unknown = sorted(self.metrics - exposed.keys())
        if unknown:
            return unknown
        known = {label for metric in self.metrics for label in exposed[metric]} | ADDED
        unknown += sorted(self.labels - known)
        for metric, label, value in self.values:
            if value not in exposed[metric].get(label, set()) | STATES.get(metric, {}).get(label, set()):
                unknown.append(f'{metric}{{{label}="{value}"}}')
        return unknown

    def unscraped(self, exposed: Exposed) -> frozenset[str]:
        """Return the metrics that are not exposed, and the labels that none of the others has."""
        known = {label for metric in self.metrics for label in exposed.get(metric, ())} | ADDED
        return (self.metrics - exposed.keys()) | (self.labels - known)


def named(expression: str) -> Named:
    """Return what an expression names; variables of Grafana stand for anything.

    Raises:
        ValueError: It is none.
    """
    metrics: set[str] = set()
    labels: set[str] = set()
    values: list[tuple[str, str, str]] = []

    def look(node: object) -> None:
        if isinstance(node, VectorSelector):
            metrics.add(node.name or "")
            for matcher in node.matchers.matchers:
                labels.add(matcher.name)
                if matcher.name in ADDED or "$" in matcher.value or not matcher.value:
                    continue
                several = matcher.op in (MatchOp.Re, MatchOp.NotRe)
                each = matcher.value.split("|") if several else [matcher.value]
                values.extend((node.name or "", matcher.name, value) for value in each)
        elif isinstance(node, AggregateExpr) and node.modifier is not None:
            labels.update(node.modifier.labels)
        elif isinstance(node, BinaryExpr) and node.modifier is not None:
            labels.update(node.modifier.matching.labels if node.modifier.matching else ())
        elif isinstance(node, Call) and node.func.name == "histogram_quantile":
            labels.add("le")

    filled = expression.replace("$__rate_interval", "5m").replace("$max_stale", "3600")
    promql_parser.walk(promql_parser.parse(filled), look)
    return Named(frozenset(metrics), frozenset(labels), tuple(values))


def rules(path: str = "prometheus/alerts.yml") -> Sequence[Mapping[str, Any]]:
    """Return the rules in a file of the assets."""
    parsed = yaml.safe_load((ASSETS / path).read_text())
    return [rule for group in parsed.get("spec", parsed)["groups"] for rule in group["rules"]]


def dashboard() -> Mapping[str, Any]:
    """Return the dashboard."""
    found = json.loads((ASSETS / "grafana/tideover.json").read_text())
    assert isinstance(found, dict)
    return found


def in_dashboard() -> Iterator[tuple[str, str]]:
    """Return where each expression of the dashboard stands, and it."""
    for panel in dashboard()["panels"]:
        for target in panel.get("targets", ()):
            if target["datasource"]["type"] == "prometheus":
                yield f"panel {panel['title']}", target["expr"]
    for annotation in dashboard()["annotations"]["list"]:
        yield f"annotation {annotation['name']}", annotation["expr"]
    for variable in dashboard()["templating"]["list"]:
        found = re.fullmatch(r"label_values\((.+), (\w+)\)", variable.get("definition", ""))
        if found is not None:
            yield f"variable {variable['name']}", f"count by ({found[2]}) ({found[1]})"


def in_pages() -> Iterator[tuple[str, str]]:
    """Return where each block of PromQL in the documentation stands, and it."""
    for page in sorted((ROOT / "docs").rglob("*.md")):
        for block in re.findall(r"^```promql\n(.*?)^```$", page.read_text(), re.M | re.S):
            for expression in block.split("\n\n"):
                yield f"{page.relative_to(ROOT)}", re.sub(r"^#.*\n", "", expression, flags=re.M).strip()


def everywhere() -> Iterator[tuple[str, str]]:
    """Return where each expression of rules, dashboard and pages stands, and it."""
    yield from ((f"alert {rule['alert']}", rule["expr"]) for rule in rules())
    yield from in_dashboard()
    yield from in_pages()
