"""Endpoints of a service as lines: text for people, or JSON."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from tideover.cli.printer import print_json, print_line
from tideover.cli.words import json_age
from tideover.discovery.endpoint import Endpoint
from tideover.discovery.service_view import ServiceView
from tideover.shown import shown
from tideover.types import Source


def print_endpoints(endpoints: Iterable[Endpoint], source: Source, age: float, *, as_json: bool) -> None:
    """Print endpoints, one a line."""
    for endpoint in endpoints:
        if as_json:
            print_json({**_record(endpoint), "source": source, "age": json_age(age)})
        else:
            print_line(_describe(endpoint))


def _record(endpoint: Endpoint) -> dict[str, object]:
    return {
        "service": endpoint.service,
        "url": endpoint.url,
        "weight": endpoint.weight,
        "metadata": dict(endpoint.metadata),
        "instance": endpoint.instance,
        "incarnation": endpoint.incarnation,
    }


def _describe(endpoint: Endpoint) -> str:
    metadata = "".join(f"  {name}={value}" for name, value in endpoint.metadata.items())
    return shown(f"{endpoint.url}  weight {endpoint.weight:g}{metadata}")


def print_changes(
    before: Collection[Endpoint], after: Collection[Endpoint], view: ServiceView, *, as_json: bool
) -> None:
    """Print what differs between two lists, each with a sign."""
    old, new = ({e.instance: e for e in endpoints} for endpoints in (before, after))
    changed = [(_sign(old.get(i), new.get(i)), new.get(i) or old[i]) for i in sorted(old.keys() | new.keys())]
    for sign, endpoint in changed:
        if sign and as_json:
            print_json({"change": _WORDS[sign], **_record(endpoint), "source": view.source})
        elif sign:
            print_line(f"{sign} {_describe(endpoint)}")


_WORDS = {"+": "added", "-": "removed", "~": "changed"}


def _sign(old: Endpoint | None, new: Endpoint | None) -> str:
    if old == new:
        return ""
    return "+" if old is None else "-" if new is None else "~"
