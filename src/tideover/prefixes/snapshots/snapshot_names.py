"""The names of snapshot files: what a name is made of is what tells two snapshots apart."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tideover.options import Options
from tideover.types import Component


def sorted_endpoints(endpoints: Sequence[str]) -> tuple[str, ...]:
    """Return a cluster's addresses in the order that names are made of. Raises `ValueError` for one string."""
    if isinstance(endpoints, str):
        raise ValueError(f"endpoints must be a sequence of addresses, not the string {endpoints!r}")
    return tuple(sorted(set(endpoints)))


@dataclass(frozen=True, slots=True)
class SnapshotOwner:
    """Whose snapshots they are: what tells the files of one service from those of others in the same folder."""

    namespace: str
    endpoints: Sequence[str]  # given in any order, and sorted; a single string is refused
    user: str = ""  # users may see different keys, so each has files of its own

    @classmethod
    def of(cls, options: Options) -> SnapshotOwner:
        """Return the owner that a coordinator with these options is."""
        return cls(options.namespace, options.endpoints, options.username or "")

    def __post_init__(self) -> None:
        """Sort the endpoints."""
        object.__setattr__(self, "endpoints", sorted_endpoints(self.endpoints))

    def raw_stem(self, component: Component, prefix: bytes) -> str:
        """Return how the files of a followed prefix's snapshot begin."""
        return f"{component}-{_digest(self.namespace, prefix.hex(), self.endpoints, self.user)[:32]}"

    def accepted_stem(self, prefix: bytes, form: str, shape: str) -> str:
        """Return how the files of a settings object's accepted snapshot begin.

        In two parts, so that a start finds all of a user's without knowing what will be bound.
        """
        return f"{self._accepted}-{_digest(prefix.hex(), form, shape)[:16]}"

    def accepted_paths(self, folder: Path) -> list[Path]:
        """Return the accepted snapshots, both generations of each, by name; a missing folder has none."""
        return sorted(folder.glob(f"{self._accepted}-*.json"))

    @property
    def _accepted(self) -> str:
        return f"accepted-{_digest(self.namespace, self.endpoints, self.user)[:16]}"


def _digest(*identity: object) -> str:
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()
