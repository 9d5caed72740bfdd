"""Which namespace a key is of, and how else a namespace may be spelled."""

from __future__ import annotations

import pytest

from tideover.client.rules.namespaces import foreign_folder, other_spelling, place_of, start_after


@pytest.mark.parametrize(
    ("one", "other"), [("shop", "/shop"), ("/shop", "shop"), ("/a/b", "a/b"), ("//a", "/a"), ("", None)]
)
def test_the_other_spelling_differs_by_the_slash_at_the_start(one: str, other: str | None) -> None:
    """With it or without it; no namespace has no other spelling."""
    assert other_spelling(one) == other


@pytest.mark.parametrize(
    ("key", "place"),
    [
        (b"/shop/config/a/b", (b"/shop", "config/")),
        (b"shop/services/api/i/x", (b"shop", "services/")),
        (b"/config/a", (b"", "config/")),
        (b"/eu/shop/locks/orders/5f", (b"/eu/shop", "locks/")),
        (b"/shop/tideover/epoch", (b"/shop", "tideover/")),
        (b"/shop/config/locks/elections/x", (b"/shop", "config/")),
        (b"/shop/configs/a", None),
        (b"config/a", None),
        (b"\xff\xfe", None),
    ],
)
def test_a_key_is_of_the_namespace_before_its_first_tree(key: bytes, place: tuple[bytes, str] | None) -> None:
    """Where the name of a tree stands between slashes for the first time, the namespace ends."""
    assert place_of(key) == place


def test_folders_of_others_are_passed_over_in_growing_steps() -> None:
    """First the folder of the key; after eight in one outermost folder, that one; a key in no folder alone."""
    passed: dict[bytes, int] = {}
    for n in range(8):
        assert foreign_folder(b"/r/%d/x" % n, b"", passed) == b"/r/%d/" % n
    assert foreign_folder(b"/r/8/x", b"", passed) == b"/r/"
    assert [foreign_folder(b"k%d" % n, b"", passed) for n in range(9)] == [None] * 8 + [b"k"]
    assert foreign_folder(b"/r/a/b/c", b"/r/", {}) == b"/r/a/b/"


def test_after_the_last_prefix_there_is_nothing() -> None:
    """What follows a prefix is its end; after bytes that cannot be raised nothing follows."""
    assert start_after(b"/shop/config/") == b"/shop/config0"
    assert start_after(b"\xff\xff") is None
