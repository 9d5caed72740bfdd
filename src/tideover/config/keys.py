"""Translates keys between users' names and etcd's, and finds the view of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from tideover.errors import InvalidRequest, NotFollowed
from tideover.options import below
from tideover.prefixes.view import View
from tideover.shown import quoted


def settings_prefix(prefix: str) -> str:
    """Return the prefix of a settings object's keys, with the slash before the fields' names."""
    return prefix + "/" if prefix[-1:].isalnum() else prefix


class Keys:
    """The names of one coordinator's configuration keys."""

    def __init__(self, base: str, views: Sequence[View]) -> None:
        self.base = base
        self.views = views
        # A cache without a bound: the prefixes that an application's code names are few.
        self._under: dict[str, tuple[View, ...]] = {}

    def full(self, key: str) -> bytes:
        """Return a key as etcd has it.

        Raises `InvalidRequest` if the key is empty, no string or no Unicode text, has a NUL, or a slash begins it.
        """
        if not isinstance(key, str) or not key or "\0" in key:
            raise InvalidRequest(f"a configuration key must be a non-empty string without NUL, not {quoted(key)}")
        self.check_start("key", key)
        try:
            return (self.base + key).encode()
        except UnicodeEncodeError as exc:
            raise InvalidRequest(f"a configuration key must be Unicode text, not {quoted(key)}") from exc

    def short(self, full: bytes) -> str:
        """Return an etcd key as `get` names it; undecodable bytes become surrogate escapes."""
        return full.decode(errors="surrogateescape").removeprefix(self.base)

    def view_of(self, full: bytes) -> View | None:
        """Return the view of an etcd key; None if the key is not followed."""
        for view in self.views:
            if full.startswith(view.prefix):
                return view
        return None

    def followed(self, key: str) -> View:
        """Return the view of a key.

        Raises `NotFollowed`, which names the followed prefixes, or `InvalidRequest` if the key is malformed.
        """
        view = self.view_of(self.full(key))
        if view is None:
            raise self._not_followed(key)
        return view

    def views_under(self, prefix: str) -> tuple[View, ...]:
        """Return the views that hold the followed keys under a prefix; raise as `check_prefix`."""
        known = self._under.get(prefix)
        if known is None:
            self.check_prefix(prefix)
            full = (self.base + prefix).encode(errors="surrogateescape")
            around = self.view_of(full)
            inside = tuple(view for view in self.views if view.prefix.startswith(full))
            known = self._under[prefix] = inside if around is None else (around,)
        return known

    def check_prefix(self, prefix: str) -> None:
        """Raise `NotFollowed` if no key under the prefix is followed, `InvalidRequest` if a slash begins it."""
        self.check_start("prefix", prefix)
        full = (self.base + prefix).encode(errors="surrogateescape")
        if self.view_of(full) is None and not any(view.prefix.startswith(full) for view in self.views):
            raise self._not_followed(prefix)

    def check_start(self, what: Literal["key", "prefix"], name: str) -> None:
        """Raise `InvalidRequest`, with the right name, for a slash at the start: the namespace ends in one."""
        if name.startswith("/"):
            right = below(self.base, name)
            given = quoted(name)
            advice = (
                f"write {quoted(right)}, not {given}" if right or what == "prefix" else f"{given} names no key"
            )
            raise InvalidRequest(
                f"a configuration {what} does not begin with a slash, because {self.base!r} is put before it: "
                f"{advice}"
            )

    def _not_followed(self, key: str) -> NotFollowed:
        followed = ", ".join(repr(self.short(view.prefix)) for view in self.views) or "nothing"
        return NotFollowed(f"{key!r} is not followed (followed: {followed}); use fetch() for such keys")
