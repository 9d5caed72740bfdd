"""The rules: promtool proves that each fires and is over, and nothing that promtool overlooks is left to it.

`promtool test rules` is content with rule files that match nothing and with alerts that do not exist. So names are
compared both ways here, and each alert has a case in which it fires.
"""

from __future__ import annotations

import functools
import re
import shutil
from collections.abc import Mapping, Sequence
from importlib.resources import as_file
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.assets.conftest import Promtool
from tests.assets.expressions import ASSETS, ROOT, rules

SITE = "https://tideover.readthedocs.io/en/stable/"


def cases() -> Sequence[Mapping[str, Any]]:
    """Return the cases of `alerts_test.yml`."""
    found = parsed()["tests"]
    assert isinstance(found, list)
    return found


@functools.cache
def parsed() -> Mapping[str, Any]:
    """Return `alerts_test.yml`."""
    found = yaml.load((ASSETS / "prometheus/alerts_test.yml").read_text(), yaml.CSafeLoader)
    assert isinstance(found, dict)
    return found


def seconds(text: str) -> int:
    """Return the seconds of a duration such as 4m20s."""
    units = {"h": 3600, "m": 60, "s": 1}
    return sum(int(number) * units[unit] for number, unit in re.findall(r"(\d+)([hms])", text))


def fired(case: Mapping[str, Any], alert: str) -> list[bool]:
    """Return whether an alert fires, at one time after the other."""
    checks = [check for check in case["alert_rule_test"] if check["alertname"] == alert]
    return [bool(check["exp_alerts"]) for check in sorted(checks, key=lambda check: seconds(check["eval_time"]))]


def test_promtool_proves_them(promtool: Promtool, tmp_path: Path) -> None:
    """Each rule is one, and does what its cases say; so does a copy, away from the sources."""
    with as_file(ASSETS / "prometheus") as folder:
        shutil.copytree(folder, tmp_path / "prometheus")
    promtool("check", "rules", tmp_path / "prometheus/alerts.yml")
    promtool("test", "rules", tmp_path / "prometheus/alerts_test.yml")


def test_each_alert_fires_and_is_over() -> None:
    """Each alert has a case in which it is silent, then fires, then is over; and none is tested that is none."""
    names = {rule["alert"] for rule in rules()}
    tested = {check["alertname"] for case in cases() for check in case["alert_rule_test"]}
    assert tested == names
    courses = {(name, *fired(case, name)) for case in cases() for name in names}
    for name in names:
        assert {(name, False, True, False), (name, False, False, True, False)} & courses, name
    # All of them are silent while all is well.
    (well,) = (case for case in cases() if case["name"] == "all is well")
    assert {name for name in names if fired(well, name) and not any(fired(well, name))} == names


def test_the_budget_is_four_fifths_of_the_limit(promtool: Promtool, tmp_path: Path) -> None:
    """An age below 80 % of an hour is no alert, and one above it is; each service and namespace by itself."""
    (rule,) = (rule for rule in rules() if rule["alert"] == "StaleBudget")
    ages = {"/a": 2879, "/b": 2881}
    series = [
        {"series": f'tideover_config_age_seconds{{job="shop", db_namespace="{name}"}}', "values": f"{age}x5"}
        for name, age in ages.items()
    ]
    expected = [{"labels": '{job="shop", db_namespace="/b"}', "value": 2881}]
    asked = {"expr": rule["expr"], "eval_time": "2m40s", "exp_samples": expected}
    file = tmp_path / "test.yml"
    file.write_text(
        yaml.dump({"tests": [{"interval": "1m", "input_series": series, "promql_expr_test": [asked]}]})
    )
    promtool("test", "rules", file)


def test_no_check_stands_at_an_edge() -> None:
    """No evaluation that is looked at is whole intervals from a sample: 2 and 3 differ there."""
    every = seconds(parsed()["evaluation_interval"])
    for case in cases():
        for check in case["alert_rule_test"]:
            evaluated = seconds(check["eval_time"]) // every * every
            assert evaluated % seconds(case["interval"]) != 0, (case["name"], check["eval_time"])


def test_each_has_what_routes_and_people_need() -> None:
    """Each alert says how urgent it is and from where, what is the matter, and where to read on."""
    for rule in rules():
        assert rule["labels"]["severity"] in ("page", "warning"), rule["alert"]
        assert rule["labels"]["source"] == "tideover", rule["alert"]
        assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}, rule["alert"]


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_a_runbook_is_there(rule: Mapping[str, Any]) -> None:
    """The address of each runbook is a page of the documentation, and a section of it."""
    url = rule["annotations"]["runbook_url"]
    page, _, anchor = url.removeprefix(SITE).partition("#")
    text = (ROOT / "docs" / f"{page.rstrip('/')}.md").read_text()
    # As Python-Markdown makes them of headings.
    headings = re.findall(r"^#+ (.+)$", text, re.M)
    assert url.startswith(SITE)
    assert anchor in {re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", head).strip().lower()) for head in headings}


def test_the_page_has_no_section_of_an_alert_that_is_none() -> None:
    """The sections of the runbook are the alerts, in their order."""
    text = (ROOT / "docs/how-to/see-degradation.md").read_text()
    runbook = text.partition("\n## The alerts\n")[2].partition("\n## ")[0]
    assert re.findall(r"^### (\w+)$", runbook, re.M) == [rule["alert"] for rule in rules()]


def test_the_rules_for_kubernetes_are_the_same() -> None:
    """The resource of the operator has exactly the rules of `alerts.yml`."""
    resource = yaml.safe_load((ASSETS / "kubernetes/prometheus-rule.yaml").read_text())
    assert (resource["apiVersion"], resource["kind"]) == ("monitoring.coreos.com/v1", "PrometheusRule")
    assert resource["spec"] == yaml.safe_load((ASSETS / "prometheus/alerts.yml").read_text())
