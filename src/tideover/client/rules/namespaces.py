"""Namespaces as they are spelled, which one a key in etcd is of, and where the next one may begin."""

from __future__ import annotations

from tideover.store.operations import prefix_end

# What a namespace has in etcd, each below it and a slash.
TREES = ("config/", "elections/", "locks/", "services/", "tideover/")
# After so many folders of others' keys in one, that one is left.
_SOME_FOLDERS = 8


def other_spelling(namespace: str) -> str | None:
    """Return the namespace that a person may have meant instead: with the slash at its start, or without it.

    The empty one has no other spelling.
    """
    if not namespace:
        return None
    return namespace[1:] if namespace.startswith("/") else f"/{namespace}"


def place_of(key: bytes) -> tuple[bytes, str] | None:
    """Return the namespace of a key and the tree that it is in; None if it is none of tideover's."""
    found = ((key.find(b"/" + tree.encode()), tree) for tree in TREES)
    at, tree = min(((at, tree) for at, tree in found if at >= 0), default=(-1, ""))
    return (key[:at], tree) if tree else None


def foreign_folder(key: bytes, within: bytes, passed: dict[bytes, int]) -> bytes | None:
    """Return the folder to pass over because of a key that is none of tideover's; None passes over that key alone.

    The key begins with `within`. `passed` counts the keys of others, this one too, in each outermost folder below.
    """
    end = key.find(b"/", len(within) + 1)
    # Keys in no folder at all are taken together by how they begin.
    outermost = key[: end + 1] if end >= 0 else key[: len(within) + 1]
    passed[outermost] = passed.get(outermost, 0) + 1
    if passed[outermost] > _SOME_FOLDERS:
        return outermost
    return key[: key.rfind(b"/") + 1] if end >= 0 else None


def start_after(prefix: bytes) -> bytes | None:
    """Return where the keys begin that come after all those with a prefix; None if there can be none."""
    end = prefix_end(prefix)
    return None if end == b"\0" else end
