"""How Grafana's classic model writes panels: only what differs from its defaults, and no null."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]

PROMETHEUS: Json = {"type": "prometheus", "uid": "${prometheus}"}
TEMPO: Json = {"type": "tempo", "uid": "${tempo}"}
LOKI: Json = {"type": "loki", "uid": "${loki}"}
WIDTH = 24


@dataclass(frozen=True)
class Panel:
    """A panel, before it has an id and a place.

    Attributes:
        title: What it shows.
        normal: What it shows, and what is normal; its description.
        model: The rest of its model.
        height: In Grafana's rows.
    """

    title: str
    normal: str
    model: Json
    height: int = 8

    def placed(self, number: int, *, x: int, y: int, width: int) -> Json:
        """Return the whole model.

        Args:
            number: Its id.
            x: Its left edge.
            y: Its upper edge.
            width: Of `WIDTH` columns.
        """
        place = {"h": self.height, "w": width, "x": x, "y": y}
        return {"id": number, "title": self.title, "description": self.normal, "gridPos": place, **self.model}


@dataclass(frozen=True)
class Row:
    """A row: its title, and its panels in lines of equal width."""

    title: str
    lines: Sequence[Sequence[Panel]] = field(default_factory=tuple)


def lines(
    title: str, normal: str, queries: Mapping[str, str], *, unit: str = "short", custom: Json | None = None
) -> Panel:
    """Return a panel of lines over time.

    Args:
        title: What it shows.
        normal: What is normal.
        queries: Expressions by their legends.
        unit: Grafana's name of the unit.
        custom: How the lines are drawn, where it differs.
    """
    return Panel(
        title,
        normal,
        {
            "type": "timeseries",
            "datasource": PROMETHEUS,
            "targets": _targets(queries),
            "fieldConfig": _fields(unit, {"showPoints": "never", "fillOpacity": 8, **(custom or {})}),
            "options": {
                "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True, "calcs": []},
                "tooltip": {"mode": "multi", "sort": "desc"},
            },
        },
    )


def strip(title: str, normal: str, query: str, colours: Mapping[str, str]) -> Panel:
    """Return one strip over time that is divided among states.

    Args:
        title: What it shows.
        normal: What is normal.
        query: An expression by `tideover_state`.
        colours: The colour of each state.
    """
    bars = {"drawStyle": "bars", "barWidthFactor": 1, "fillOpacity": 100, "lineWidth": 0}
    whole = {"stacking": {"mode": "percent", "group": "A"}}
    panel = lines(title, normal, {"{{tideover_state}}": query}, custom=bars | whole)
    panel.model["fieldConfig"]["overrides"] = [
        {
            "matcher": {"id": "byName", "options": state},
            "properties": [{"id": "color", "value": {"mode": "fixed", "fixedColor": colour}}],
        }
        for state, colour in colours.items()
    ]
    return Panel(title, normal, panel.model, height=6)


def table(title: str, normal: str, query: str) -> Panel:
    """Return a table of what holds now, a line for each series."""
    (target,) = _targets({"": query})
    return Panel(
        title,
        normal,
        {
            "type": "table",
            "datasource": PROMETHEUS,
            "targets": [target | {"format": "table", "instant": True, "range": False}],
            "fieldConfig": _fields("short", {}),
            "options": {"showHeader": True, "cellHeight": "sm"},
            "transformations": [{"id": "organize", "options": {"excludeByName": {"Time": True}}}],
        },
    )


def traces(title: str, normal: str, query: str, *, link: str) -> Panel:
    """Return a table of spans that a TraceQL query finds.

    Args:
        title: What it shows.
        normal: What is normal.
        query: The query.
        link: Where a click on `tideover.outage_id` leads.
    """
    target = {"refId": "A", "datasource": TEMPO, "queryType": "traceql", "query": query, "limit": 50}
    fields = _fields("short", {})
    fields["overrides"] = [
        {
            "matcher": {"id": "byName", "options": "tideover.outage_id"},
            "properties": [{"id": "links", "value": [{"title": "The outage", "url": link}]}],
        }
    ]
    model = {
        "type": "table",
        "datasource": TEMPO,
        "targets": [target | {"tableType": "spans"}],
        "fieldConfig": fields,
        "options": {"showHeader": True, "cellHeight": "sm"},
    }
    return Panel(title, normal, model, height=9)


def logs(title: str, normal: str, query: str) -> Panel:
    """Return the lines that a LogQL query finds."""
    options = {"showTime": True, "wrapLogMessage": True, "sortOrder": "Descending", "enableLogDetails": True}
    model = {
        "type": "logs",
        "datasource": LOKI,
        "targets": [{"refId": "A", "datasource": LOKI, "expr": query, "queryType": "range"}],
        "options": options | {"dedupStrategy": "none", "prettifyLogMessage": False, "showLabels": False},
    }
    return Panel(title, normal, model, height=9)


def _targets(queries: Mapping[str, str]) -> list[Json]:
    return [
        {
            "refId": chr(ord("A") + number),
            "datasource": PROMETHEUS,
            "editorMode": "code",
            "expr": query,
            "legendFormat": legend,
            "instant": False,
            "range": True,
        }
        for number, (legend, query) in enumerate(queries.items())
    ]


def _fields(unit: str, custom: Json) -> Json:
    return {"defaults": {"unit": unit, "min": 0, "custom": custom}, "overrides": []}
