"""The followed keys in their order: counted, and listed a page at a time."""

from __future__ import annotations

import sys
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tideover.config.keys import Keys
from tideover.policies import StalenessLimit
from tideover.prefixes.view import View
from tideover.status import KeyPage, KeyStatus, RejectedValue
from tideover.types import Entry, Source

# How many keys a page has, at the most.
MOST = 1000


@dataclass(frozen=True, slots=True)
class _Sorted:
    """The names of a view's keys as of one revision."""

    entries: Mapping[bytes, Entry]
    revision: int
    names: list[str]


class Listing:
    """The followed keys by name."""

    def __init__(self, keys: Keys, views: Mapping[str, View], *, limits: Mapping[str, StalenessLimit]) -> None:
        self._keys = keys
        # No followed prefix covers another: with the prefixes in order, all names are in order.
        self._views = dict(sorted(views.items()))
        self._limits = limits
        self._sorted: dict[str, _Sorted] = {}

    def page(self, containing: str, skip: int, limit: int, *, rejected: Sequence[RejectedValue]) -> KeyPage:
        """Return a page of keys; raise `ValueError` for a number out of range. See `Coordinator.config_keys`."""
        if skip < 0 or not 1 <= limit <= MOST:
            raise ValueError(f"need skip >= 0 and limit from 1 to {MOST}, not skip={skip}, limit={limit}")
        matching = [
            (prefix, name)
            for prefix in self._views
            for name in self._names(prefix)
            if not containing or containing in name
        ]
        refused = {value.key: value for value in rejected}
        shown = matching[skip : skip + limit]
        keys = (self._describe(prefix, name, refused.get(name)) for prefix, name in shown)
        return KeyPage(
            tuple(key for key in keys if key is not None),
            skipped=min(skip, len(matching)),
            matching=len(matching),
            total=sum(len(view.entries) for view in self._views.values()),
        )

    def count(self, prefix: str) -> int:
        """Count the keys that have the limit of a prefix, without those of a longer prefix with a limit."""
        inner = [p for p in self._limits if p != prefix and p.startswith(prefix)]
        outermost = [p for p in inner if not any(q != p and p.startswith(q) for q in inner)]
        return self._below(prefix) - sum(map(self._below, outermost))

    def limit_of(self, name: str) -> str | None:
        """Return the longest prefix with a limit that a key or prefix begins with; None if there is none."""
        return max((p for p in self._limits if name.startswith(p)), key=len, default=None)

    def _below(self, prefix: str) -> int:
        found = 0
        for followed in self._views:
            names = self._names(followed)
            if followed.startswith(prefix):
                found += len(names)
            elif prefix.startswith(followed):
                found += _end(names, prefix) - bisect_left(names, prefix)
        return found

    def _names(self, prefix: str) -> list[str]:
        view, known = self._views[prefix], self._sorted.get(prefix)
        entries, revision = view.entries, view.freshness.reached
        # Each full read makes another dict, and each change in between another revision.
        if known is None or known.entries is not entries or known.revision != revision:
            names = sorted(map(self._keys.short, list(entries)))
            known = self._sorted[prefix] = _Sorted(entries, revision, names)
        return known.names

    def _describe(self, prefix: str, name: str, refused: RejectedValue | None) -> KeyStatus | None:
        view, full = self._views[prefix], self._keys.base + name
        entry = view.entries.get(full.encode(errors="surrogateescape"))
        if entry is None:  # deleted this very moment, by the event loop
            return None
        limit, age = self.limit_of(name), view.age_of(full.encode(errors="surrogateescape"))
        return KeyStatus(
            key=name,
            etcd_key=full,
            prefix=prefix,
            revision=entry.mod_revision if refused is None else refused.served,
            source=view.source or Source.DEFAULT,
            age=age,
            refused=None if refused is None else refused.revision,
            reason=None if refused is None else refused.reason,
            over=limit is not None and age > self._limits[limit].max_stale,
        )


def _end(names: Sequence[str], prefix: str) -> int:
    """Return the index behind the names that begin with a prefix."""
    stem = prefix.rstrip(chr(sys.maxunicode))
    # The first text behind all of them has a larger last character; the largest character has no successor.
    return bisect_left(names, stem[:-1] + chr(ord(stem[-1]) + 1)) if stem else len(names)
