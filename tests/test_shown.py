"""Text of others, escaped and cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tideover.shown import LONGEST_LINE, MOST, shown, shown_line


@given(st.one_of(st.text(st.characters(exclude_categories=())), st.binary(max_size=1000)), st.integers(10, 300))
def test_it_is_one_short_printable_line(text: str | bytes, most: int) -> None:
    """Whatever it is, what is shown can be printed and encoded, and is no longer than asked for."""
    found = shown(text, most)
    assert found.isprintable()
    assert len(found) <= most
    found.encode()


@given(st.text(st.characters(exclude_categories=())), st.integers(20, 60))
def test_a_line_is_printable_and_keeps_its_end(text: str, most: int) -> None:
    """A whole line loses its middle: what happened stands at its end, however long a name in it is."""
    found = shown_line(text, most)
    assert found.isprintable()
    assert len(found) <= most
    assert shown_line(found, most) == found
    if text.isprintable():
        assert found == text if len(text) <= most else text.endswith(found[-2:])


def test_a_long_name_hides_nothing() -> None:
    """Of a lock with a name of a megabyte it is still said what happened to it."""
    found = shown_line(f"lock {'x' * 2**20!r} is lost: its lease ended")
    assert found.startswith("lock 'xxx")
    assert found.endswith("xxx' is lost: its lease ended")
    assert len(found) == LONGEST_LINE


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
