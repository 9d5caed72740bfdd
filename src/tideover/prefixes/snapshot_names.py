"""The names of snapshot files: what a name is made of is what tells two snapshots apart."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from tideover.types import Component


def sorted_endpoints(endpoints: Sequence[str]) -> tuple[str, ...]:
    """Return a cluster's addresses in the order that names are made of.

    Raises:
        ValueError: It is a single string.
    """
    if isinstance(endpoints, str):
        raise ValueError(f"endpoints must be a sequence of addresses, not the string {endpoints!r}")
    return tuple(sorted(set(endpoints)))


def raw_stem(component: Component, prefix: bytes, namespace: str, endpoints: tuple[str, ...], user: str) -> str:
    """Return how the files of a followed prefix's snapshot begin."""
    return f"{component}-{_digest(namespace, prefix.hex(), endpoints, user)[:32]}"


def accepted_stem(
    prefix: bytes, form: str, shape: str, namespace: str, endpoints: tuple[str, ...], user: str
) -> str:
    """Return how the files of a settings object's accepted snapshot begin.

    In two parts, so that a start finds all of a user's without knowing what will be bound.
    """
    return f"{_accepted_by(namespace, endpoints, user)}-{_digest(prefix.hex(), form, shape)[:16]}"


def accepted_paths(folder: Path, *, namespace: str, endpoints: Sequence[str], user: str) -> list[Path]:
    """Return a user's accepted snapshots, both generations of each, in the order of their names.

    Args:
        folder: Where the files live; one that does not exist has none.
        namespace: The caller's namespace in etcd.
        endpoints: The cluster's addresses; their order does not matter.
        user: The etcd user.
    """
    return sorted(folder.glob(f"{_accepted_by(namespace, sorted_endpoints(endpoints), user)}-*.json"))


def _accepted_by(namespace: str, endpoints: tuple[str, ...], user: str) -> str:
    return f"accepted-{_digest(namespace, endpoints, user)[:16]}"


def _digest(*identity: object) -> str:
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()
