"""The decision records are of one form, so that they can be found and told apart."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RECORDS = sorted((ROOT / "docs" / "decisions").glob("0*.md"))


def test_numbers_are_used_once() -> None:
    """They count from 1, without a gap."""
    assert [int(record.name[:4]) for record in RECORDS] == list(range(1, len(RECORDS) + 1))


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: record.stem)
def test_a_record_has_its_form(record: Path) -> None:
    """The title bears the file's number; context, decision and consequence follow; the navigation has it."""
    text = record.read_text()
    assert text.startswith(f"# {record.name[:4]}: ")
    parts = [text.index(f"\n**{part}.** ") for part in ("Context", "Decision", "Consequence")]
    assert parts == sorted(parts)
    assert f"decisions/{record.name}\n" in (ROOT / "mkdocs.yml").read_text()
