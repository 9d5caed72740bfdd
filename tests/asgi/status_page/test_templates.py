"""Every template, given what others may have written, shows it as text."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from importlib.resources import files

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.asgi.status_page.reports import with_text
from tideover.asgi.status_page.ages import Ages
from tideover.asgi.status_page.config import keys
from tideover.asgi.status_page.contexts import Contexts
from tideover.asgi.status_page.query import Query
from tideover.asgi.status_page.templates import environment, render
from tideover.status import KeyPage, KeyStatus, StatusReport
from tideover.types import Source

HOSTILE = [
    "<script>alert(1)</script>",
    "\"'><img src=x onerror=alert(1)>",
    "' onmouseover='alert(1)",
    "\x1b[31mred\x1b[0m\x00\r\n\u2028",
    "\u202eetadpu\u202c \ud800",
    "{{ 7*7 }}{% raw %}&lt;b&gt;",
    "javascript:alert(1)",
    '"' * 4096 + "\x07" * 100,
    "]]></svg><svg onload=alert(1)>",
]


class _Reader(HTMLParser):
    """Collects elements and attributes, as a browser would see them."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, tuple[str, ...]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, tuple(name for name, _ in attrs)))

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)

    def handle_data(self, data: str) -> None:
        self.text += data


def pages(report: StatusReport, text: str) -> dict[str, str]:
    """Render every fragment of a report."""
    contexts = Contexts(title=None, window=3600).of(report)
    rendered = {
        name: render(f"fragments/{name}", {**facts, "name": name, "version": "v"})
        for name, (facts, _) in contexts.items()
    }
    key = KeyStatus(text, text, text, 3, Source.DISK, 100.0, 4, text, over=True)
    facts = keys(KeyPage((key,), 0, 1, 1), Query(text, 1), report, Ages())
    rendered["keys"] = render("fragments/keys", {**facts, "name": "keys", "version": "v"})
    return {name: str(html) for name, html in rendered.items()}


def shape(html: str) -> list[tuple[str, tuple[str, ...]]]:
    """Return the elements of some markup, with the names of their attributes."""
    reader = _Reader()
    reader.feed(html)
    reader.close()
    return reader.elements


PLAIN = {name: shape(html) for name, html in pages(with_text("plain"), "plain").items()}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(HOSTILE) | st.text(min_size=1, max_size=60))
def test_text_of_others_stays_text(text: str) -> None:
    """Each fragment has the elements and attributes that a harmless text gives it, and no control character."""
    for name, html in pages(with_text(text), text).items():
        assert shape(html) == PLAIN[name], name
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u202e\ud800-\udfff]", html), name
        html.encode()


@pytest.mark.parametrize("text", HOSTILE)
def test_what_is_long_is_cut(text: str) -> None:
    """No text of others takes more than 200 characters, so that it can never push the rest off the page."""
    for name, html in pages(with_text(text), text).items():
        assert len(html) < 60_000, name


def test_every_template_is_rendered_here() -> None:
    """A template that this property does not see would not be covered by it."""
    folder = files("tideover.asgi.status_page") / "templates" / "fragments"
    assert {each.name.removesuffix(".html") for each in folder.iterdir()} == set(PLAIN)


def test_everything_is_escaped_whatever_a_template_is_called() -> None:
    """Frameworks' environments escape by a file's name; this one does not look at it."""
    template = environment.from_string("<text>{{ a }}</text>")
    assert template.render(a="<b>&\x1b") == "<text>&lt;b&gt;&amp;\\x1b</text>"


def test_no_template_switches_escaping_off() -> None:
    """Neither by a filter nor by a block, and no attribute stands without quotes."""
    folder = files("tideover.asgi.status_page") / "templates"
    for file in [*folder.iterdir(), *(folder / "fragments").iterdir()]:
        if file.name.endswith(".html"):
            text = file.read_text(encoding="utf-8")
            assert not re.search(r"\|\s*safe|autoescape|=\{\{", text), file.name
            assert not re.search(r"<(?!!--)[^>]*\s(style|on\w+)=", text), file.name
