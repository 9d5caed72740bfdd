"""The dashboard: its variables, its annotations, and the rows in their places."""

from __future__ import annotations

from tools.assets.panels import PROMETHEUS, WIDTH, Json
from tools.assets.rows import FILTER, ROWS

_DESCRIPTION = (
    "What tideover records: whether etcd is usable, from where answers come meanwhile, and what is led, locked, "
    "registered and found. Names are those of the Python Prometheus exporter. Not run: there was no Grafana, "
    "Tempo or Loki; every PromQL expression was parsed, and its names were compared with a real exposition."
)


def dashboard() -> Json:
    """Return the whole dashboard, as Grafana imports it."""
    return {
        "uid": "tideover",
        "title": "tideover",
        "description": _DESCRIPTION,
        "tags": ["tideover", "etcd"],
        "schemaVersion": 41,
        "version": 1,
        "editable": True,
        "fiscalYearStartMonth": 0,
        "graphTooltip": 1,
        "timezone": "browser",
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "timepicker": {},
        "links": [],
        "templating": {"list": _variables()},
        "annotations": {"list": [_transitions()]},
        "panels": _panels(),
    }


def _variables() -> list[Json]:
    sources = [_datasource("prometheus", "Prometheus"), _datasource("tempo", "Tempo"), _datasource("loki", "Loki")]
    return [
        *sources,
        _labels("service", "Service", "label_values(tideover_component_status, job)", "The job of the scrape."),
        _labels(
            "instance",
            "Instance",
            'label_values(tideover_component_status{job=~"$service"}, instance)',
            "A process. Workers of one server are instances of their own.",
        ),
        _labels(
            "namespace",
            "Namespace",
            'label_values(tideover_config_age_seconds{job=~"$service"}, db_namespace)',
            "Of the configuration in etcd. Panels of ages, sizes and refused values know it, no others.",
        ),
        {
            "name": "max_stale",
            "type": "textbox",
            "label": "Limit of the age, s",
            "description": "Your max_stale.",
            "query": "3600",
            "current": {"text": "3600", "value": "3600"},
            "options": [{"selected": True, "text": "3600", "value": "3600"}],
            "hide": 0,
        },
    ]


def _datasource(kind: str, label: str) -> Json:
    made = {"name": kind, "type": "datasource", "label": label, "query": kind, "regex": "", "refresh": 1}
    return made | {"current": {}, "options": [], "hide": 0, "includeAll": False, "multi": False}


def _labels(name: str, label: str, query: str, description: str) -> Json:
    return {
        "name": name,
        "type": "query",
        "label": label,
        "description": description,
        "datasource": PROMETHEUS,
        "query": {"query": query, "refId": name},
        "definition": query,
        "regex": "",
        "refresh": 2,
        "sort": 1,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": ["All"], "value": ["$__all"]},
        "options": [],
        "hide": 0,
    }


def _transitions() -> Json:
    counter = f"tideover_state_transitions_total{{{FILTER}}}"
    return {
        "name": "Changes of state",
        "datasource": PROMETHEUS,
        "enable": True,
        "hide": False,
        "iconColor": "orange",
        # The first time makes the series, and no increase.
        "expr": f"sum by (job, tideover_state, tideover_reason) "
        f"(increase({counter}[1m]) > 0 or ({counter} unless {counter} offset 1m)) > 0",
        "step": "30s",
        "titleFormat": "{{job}}: {{tideover_state}}",
        "textFormat": "{{tideover_reason}}",
    }


def _panels() -> list[Json]:
    panels: list[Json] = []
    y = 0
    for row in ROWS:
        place = {"h": 1, "w": WIDTH, "x": 0, "y": y}
        head = {"type": "row", "id": len(panels) + 1, "title": row.title, "collapsed": False}
        panels.append(head | {"gridPos": place, "panels": []})
        y += 1
        for line in row.lines:
            width = WIDTH // len(line)
            for column, panel in enumerate(line):
                panels.append(panel.placed(len(panels) + 1, x=column * width, y=y, width=width))
            y += max(panel.height for panel in line)
    return panels
