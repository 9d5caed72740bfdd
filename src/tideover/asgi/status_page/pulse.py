"""What all viewers of a page share: one look at the coordinator a second, and each fragment rendered once.

There is no task: the first viewer after a second has passed gathers the report. A fragment has a new version
when its facts have changed, not when its ages have grown.
"""

from __future__ import annotations

import json
import secrets
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import anyio

from tideover.asgi.status_page.ages import Ages
from tideover.asgi.status_page.answers import Answer
from tideover.asgi.status_page.config import SIZE
from tideover.asgi.status_page.contexts import Contexts
from tideover.asgi.status_page.query import Query
from tideover.asgi.status_page.report_json import to_json
from tideover.asgi.status_page.templates import POLICY, SCRIPT, STYLE, Markup, render
from tideover.coordinator.coordinator import Coordinator
from tideover.status import KeyPage, StatusReport

# Seconds for which a look counts as the present.
EVERY = 1.0
# How many lists of keys, each with its filter, are remembered.
_MOST_LISTS = 64


class Fragment:
    """One part of the page, as it is at one instant."""

    __slots__ = ("_html", "ages", "facts", "name", "version")

    def __init__(self, name: str, facts: Mapping[str, Any], ages: Ages, version: str) -> None:
        self.name = name
        self.facts = facts
        self.ages = ages
        self.version = version
        self._html: Markup | None = None

    @property
    def html(self) -> Markup:
        """Its markup, with ages as of that instant."""
        if self._html is None:
            self._html = render(
                f"fragments/{self.name}", {**self.facts, "name": self.name, "version": self.version}
            )
        return self._html


@dataclass(frozen=True, slots=True)
class Beat:
    """The page at one instant, without the keys, which differ by viewer."""

    at: float
    report: StatusReport
    fragments: Mapping[str, Fragment]

    @property
    def as_of(self) -> str:
        """When, for people."""
        return f"{self.report.at:%H:%M:%S}"

    def as_json(self) -> Answer:
        """Return the report for programs, under a tag that changes with its facts."""
        tag = "-".join(fragment.version for fragment in self.fragments.values())
        headers = {"etag": f'W/"{tag}"', "cache-control": "no-cache", "tideover-as-of": self.as_of}
        return Answer(200, to_json(self.report), "application/json", headers)


@dataclass(frozen=True, slots=True)
class Frame:
    """What one viewer sees at one instant."""

    beat: Beat
    fragments: Mapping[str, Fragment]

    @property
    def ages(self) -> str:
        """All ages, and the time that they are of, as JSON."""
        ages = {name: fragment.ages.seconds for name, fragment in self.fragments.items() if fragment.ages.seconds}
        return json.dumps({"as_of": self.beat.as_of, "ages": ages}, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class _Keys:
    """The keys found by one filter and page."""

    at: float
    token: object
    page: KeyPage
    fragment: Fragment


class Pulse:
    """The page of one coordinator. The pulse holds no coordinator, so that an unseen page keeps none alive."""

    def __init__(self, *, title: str | None, window: float) -> None:
        self._contexts = Contexts(title=title, window=window)
        # Versions of another process are others.
        self._nonce = secrets.token_hex(4)
        self._changes = 0
        self._beat: Beat | None = None
        self._keys: OrderedDict[Query, _Keys] = OrderedDict()

    def beat(self, tide: Coordinator) -> Beat:
        """Return the page of now, or of less than a second ago."""
        now, last = anyio.current_time(), self._beat
        if last is not None and 0 <= now - last.at < EVERY:
            return last
        report = tide.status()
        contexts = self._contexts.of(report)
        before = last.fragments if last is not None else {}
        fragments = {
            name: Fragment(name, facts, ages, self._version(facts, before.get(name)))
            for name, (facts, ages) in contexts.items()
        }
        self._beat = Beat(now, report, fragments)
        return self._beat

    def frame(self, tide: Coordinator, query: Query) -> Frame:
        """Return the page for a viewer of these keys."""
        beat = self.beat(tide)
        return Frame(beat, {**beat.fragments, "keys": self._keys_of(tide, query, beat)})

    def page(self, tide: Coordinator, query: Query, *, base: str, live: bool) -> Answer:
        """Return the whole page."""
        frame = self.frame(tide, query)
        context = {
            "base": base,
            "live": live,
            "fragments": {name: fragment.html for name, fragment in frame.fragments.items()},
            "names": " ".join(frame.fragments),
            "as_of": frame.beat.as_of,
            "style": Markup(STYLE),
            "script": Markup(SCRIPT),
            "filter": query.text,
            **self._contexts.head(frame.beat.report),
        }
        body = render("page", context).encode()
        return Answer(200, body, "text/html; charset=utf-8", {"content-security-policy": POLICY})

    def _keys_of(self, tide: Coordinator, query: Query, beat: Beat) -> Fragment:
        """Return a viewer's keys, gathered again if the configuration has changed, with their present ages."""
        known = self._keys.get(query)
        if known is not None and known.at == beat.at:
            return known.fragment
        token = self._contexts.keys_token(beat.report)
        if known is not None and known.token == token:
            page = known.page
        else:
            page = tide.config_keys(query.text, skip=(query.page - 1) * SIZE, limit=SIZE)
        facts, ages = self._contexts.keys(page, query, beat.report)
        fragment = Fragment("keys", facts, ages, self._version(facts, known.fragment if known else None))
        self._keys[query] = _Keys(beat.at, token, page, fragment)
        self._keys.move_to_end(query)
        if len(self._keys) > _MOST_LISTS:
            self._keys.popitem(last=False)
        return fragment

    def _version(self, facts: Mapping[str, Any], before: Fragment | None) -> str:
        if before is not None and before.facts == facts:
            return before.version
        self._changes += 1
        return f"{self._nonce}.{self._changes}"
