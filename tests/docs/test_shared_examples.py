"""What a page and the folder of examples both show is the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.test_code_blocks import blocks_of

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "how-to" / "build-on-fastapi.md"


@pytest.mark.parametrize("name", ["shop.py", "test_shop.py"])
def test_the_page_shows_the_file(name: str) -> None:
    """The block of that title is the file, letter for letter: types are checked in the file, the block is run."""
    (block,) = [block for block in blocks_of(PAGE) if block.title == name]
    assert block.code == (ROOT / "examples" / name).read_text()
