"""What a problem's `type` leads to is there."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

from tideover.asgi import error_problems, fencing, misdirected, refusals
from tideover.asgi.problems import DOCS

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "tideover" / "asgi"

SECTIONS = {
    fencing.SEE,
    misdirected.SEE,
    refusals.SEE,
    *(error_problems.PAGE + answer[2] for answer in error_problems.ANSWERS.values()),
}


def slug(heading: str) -> str:
    """Return a heading's anchor, as Python-Markdown makes it."""
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower())


@pytest.mark.parametrize("section", sorted(SECTIONS))
def test_a_type_leads_to_a_section(section: str) -> None:
    """Each page is there and has the heading."""
    page, _, anchor = section.partition("/#")
    text = (ROOT / "docs" / f"{page}.md").read_text()
    assert anchor in {slug(heading) for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE)}


def test_no_section_is_forgotten() -> None:
    """Whatever the source names as `see=` is among those looked at above."""
    named = {
        match for path in SOURCE.rglob("*.py") for match in re.findall(r'"([\w/-]+/#[\w-]+)"', path.read_text())
    }
    assert named <= SECTIONS


def test_the_documentation_has_one_address() -> None:
    """Problems, the package and mkdocs say the same."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["urls"]["Documentation"] == DOCS
    assert f"\nsite_url: {DOCS}\n" in (ROOT / "mkdocs.yml").read_text()
