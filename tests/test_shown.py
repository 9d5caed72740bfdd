"""Text of others, escaped and cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tideover.shown import MOST, shown


@given(st.one_of(st.text(st.characters(exclude_categories=())), st.binary(max_size=1000)), st.integers(10, 300))
def test_it_is_one_short_printable_line(text: str | bytes, most: int) -> None:
    """Whatever it is, what is shown can be printed and encoded, and is no longer than asked for."""
    found = shown(text, most)
    assert found.isprintable()
    assert len(found) <= most
    found.encode()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", ""),
        ("orders/42 für Ä", "orders/42 für Ä"),
        ("\x1b[31mred\x07", r"\x1b[31mred\x07"),
        ("two\nlines\ttab", r"two\nlines\ttab"),
        ("half \ud83d", r"half \ud83d"),
        ("right \u202e left", r"right \u202e left"),
        (b"no \xff text", r"no \xff text"),
        ("x" * 201, "x" * 197 + "..."),
        (b"x" * 2_000_000, "x" * 197 + "..."),
        ("x" * 200, "x" * 200),
        ("\x1b" * 60, (r"\x1b" * 60)[:197] + "..."),
    ],
)
def test_what_is_shown(text: str | bytes, found: str) -> None:
    """Printable text stays as it is; controls, surrogates and bytes are escaped; the rest is cut off."""
    assert shown(text) == found
    assert len(found) <= MOST
