"""The snapshot: what is known of one prefix, fit for outliving the process, and which of two tells more.

There are two kinds. A *raw* one is the newest state of a followed prefix. An *accepted* one is the state of one
settings object's keys that its class has last accepted: a restart runs on it while the newest state is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain

from tideover.clock import Stamp
from tideover.shown import quoted
from tideover.types import Entry


@dataclass(frozen=True, slots=True)
class Accepted:
    """The label of an accepted snapshot."""

    form: str  # the class that has accepted it, as `module.qualname`
    shape: str  # tells apart versions of the class that have other fields, or fields of other types
    keys: frozenset[bytes]  # full, absent if without an entry; with a slash at the end, all keys that begin so


@dataclass(frozen=True, slots=True, repr=False)
class Snapshot:
    """What is known of one prefix at one revision, fit for outliving the process.

    Raises:
        ValueError: A counter is negative, or a key lies outside the prefix, or an entry outside what an accepted
            snapshot speaks of.
    """

    prefix: bytes
    cluster_id: int  # the cluster it came from; 0 if an operator has made it
    epoch: int  # the operator-visible counter of histories; grows when etcd was restored, rebuilt or replaced
    raft_term: int
    revision: int  # the store revision up to which the entries are complete
    synced_at: Stamp | None  # the newest moment proven in sync with a quorum; None if none was (a member read)
    saved_at: Stamp  # when it was handed to the disk
    entries: Mapping[bytes, Entry]  # by full etcd key; must not change while it is being saved
    history: str = ""  # the random id of that epoch's marker in etcd; empty if none was seen
    endpoints: tuple[str, ...] = ()  # of the cluster, as its writer was given them; empty if unknown
    user: str = ""  # the etcd user that it was read as; empty for none, or if unknown
    accepted: Accepted | None = None  # whose accepted snapshot it is; None for a raw one

    def __post_init__(self) -> None:
        """Reject what cannot have come from etcd."""
        for name in ("cluster_id", "epoch", "raft_term", "revision"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, not {getattr(self, name)}")
        spoken_of = () if self.accepted is None else self.accepted.keys
        for key in chain(self.entries, spoken_of):
            if not key.startswith(self.prefix):
                raise ValueError(f"key {quoted(key)} lies outside the prefix {quoted(self.prefix)}")
        if self.accepted is not None and not all(map(self.speaks_of, self.entries)):
            raise ValueError("an accepted snapshot holds a key that it does not speak of")

    def speaks_of(self, key: bytes) -> bool:
        """Return whether it says what a key of its prefix is, or that there is none."""
        if self.accepted is None or key in self.accepted.keys:
            return True
        head, slash, _ = key.removeprefix(self.prefix).partition(b"/")
        return slash != b"" and self.prefix + head + slash in self.accepted.keys

    def __repr__(self) -> str:
        """Return one line without the values: they may be secret, and there may be many."""
        return (
            f"<Snapshot prefix={self.prefix!r} cluster_id={self.cluster_id:x} epoch={self.epoch} "
            f"revision={self.revision} entries={len(self.entries)}"
            f"{f' accepted by {self.accepted.form}' if self.accepted else ''}>"
        )


def supersedes(ours: Snapshot, theirs: Snapshot) -> bool:
    """Return whether `ours` tells more than `theirs`, which is on disk, so that it may take its place.

    That is so for a higher (epoch, revision), and at the same one for a later proof of being in sync. Revisions of
    different clusters cannot be compared: there only a higher epoch counts. What an operator has made of plain
    values is of no cluster, and gives way to any that is of one.
    """
    if 0 in (ours.cluster_id, theirs.cluster_id) and ours.cluster_id != theirs.cluster_id:
        return ours.cluster_id != 0  # the other is an operator's, and etcd has said something since
    if ours.cluster_id != theirs.cluster_id:
        return ours.epoch > theirs.epoch
    if (ours.epoch, ours.revision) != (theirs.epoch, theirs.revision):
        return (ours.epoch, ours.revision) > (theirs.epoch, theirs.revision)
    return _is_later(ours.synced_at, theirs.synced_at)


def _is_later(ours: Stamp | None, theirs: Stamp | None) -> bool:
    if ours is None or theirs is None:
        return ours is not None
    if ours.boot_id and ours.boot_id == theirs.boot_id:
        return ours.boot > theirs.boot
    return ours.wall > theirs.wall
