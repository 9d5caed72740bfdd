"""The files that are made, and from what."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from tools.assets.dashboard import dashboard

ASSETS = Path(__file__).parents[2] / "src" / "tideover" / "assets"

_ENVELOPE = """\
# The rules of prometheus/alerts.yml as a resource of the Prometheus operator; what is said there holds here.
# Not run: there was no Kubernetes. A test says that the rules are the same.
#
# Your Prometheus may look for rules with certain labels alone (its ruleSelector): add them to metadata.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: tideover
  labels:
    app.kubernetes.io/part-of: tideover
spec:
"""


def made() -> Mapping[str, str]:
    """Return the text of each file that is made, by its path among the assets."""
    return {
        "grafana/tideover.json": json.dumps(dashboard(), indent=2) + "\n",
        "kubernetes/prometheus-rule.yaml": _in_envelope((ASSETS / "prometheus/alerts.yml").read_text()),
    }


def _in_envelope(rules: str) -> str:
    """Return rules for Prometheus as a resource: their groups, comments included, two columns further in."""
    groups = rules[rules.index("groups:") :]
    return _ENVELOPE + "".join(f"  {line}" if line.strip() else line for line in groups.splitlines(keepends=True))
