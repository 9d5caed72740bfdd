"""The context of each fragment of the page: names, words and tones for its template, which computes nothing.

A function for each fragment takes the report and the fragment's `Ages`, and returns the template's context. Lists
are cut to what a person reads; status.json has all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from tideover.asgi.status_page import cluster, config, held, hour, primitives, services, verdict
from tideover.asgi.status_page.ages import Ages
from tideover.asgi.status_page.query import Query
from tideover.asgi.status_page.words import Facts
from tideover.status import KeyPage, StatusReport

_SECTIONS = ("primitives", "hour", "elections", "locks", "members", "process", "config", "services")


class Contexts:
    """The contexts of one coordinator's page."""

    def __init__(self, *, title: str | None, window: float) -> None:
        self._title = title
        self._window = window

    def of(self, report: StatusReport) -> dict[str, tuple[Facts, Ages]]:
        """Return the context and the ages of each fragment except the keys'."""
        builders: dict[str, Callable[[StatusReport, Ages], Facts]] = {
            "bar": verdict.bar,
            "verdict": partial(verdict.verdict, name=self._name(report)),
            "works": verdict.works,
            "primitives": primitives.primitives,
            "hour": partial(hour.hour, window=self._window),
            "elections": held.elections,
            "locks": held.locks,
            "members": cluster.members,
            "process": cluster.process,
            "config": config.config,
            "services": services.services,
            "announce": verdict.announce,
        }
        made: dict[str, tuple[Facts, Ages]] = {}
        for name, build in builders.items():
            ages = Ages()
            made[name] = build(report, ages), ages
        return made

    def keys(self, page: KeyPage, query: Query, report: StatusReport) -> tuple[Facts, Ages]:
        """Return the context and the ages of one page of the keys."""
        ages = Ages()
        return config.keys(page, query, report, ages), ages

    def keys_token(self, report: StatusReport) -> object:
        """Return a token of the keys, which is equal as long as they are unchanged."""
        return config.token(report)

    def head(self, report: StatusReport) -> Facts:
        """Return the context of the page around the fragments."""
        name = self._name(report)
        return {
            "title": verdict.title(name, report),
            "state": str(report.state),
            "brand": name,
            "namespace": report.namespace if report.namespace.strip("/") != name else "",
            "sections": [
                (section, section.capitalize() if section != "hour" else "Last hour") for section in _SECTIONS
            ],
        }

    def _name(self, report: StatusReport) -> str:
        return self._title or report.namespace.strip("/") or report.process.host
