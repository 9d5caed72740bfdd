"""Snapshots for the tests and for their child processes, each of which imports this: so it is kept small."""

from __future__ import annotations

from pathlib import Path

from tideover.clock import Stamp
from tideover.prefixes.snapshots.snapshot import Snapshot
from tideover.prefixes.snapshots.snapshot_file import SnapshotFile
from tideover.prefixes.snapshots.snapshot_names import SnapshotOwner
from tideover.types import Entry

PREFIX = b"/config/"
SAVED_AT = Stamp(1_700_000_000.0, 10.0, "boot")


def make(
    revision: int,
    *,
    epoch: int = 0,
    cluster_id: int = 1,
    prefix: bytes = PREFIX,
    keys: int = 2,
    repeat: int = 20,
) -> Snapshot:
    """Return a snapshot whose every value names its revision, so that a mixture of two would show."""
    value = b"%d " % revision * repeat
    return Snapshot(
        prefix=prefix,
        cluster_id=cluster_id,
        epoch=epoch,
        raft_term=1,
        revision=revision,
        synced_at=None,
        saved_at=SAVED_AT,
        entries={prefix + b"%d" % number: Entry(value, 1, revision) for number in range(keys)},
    )


def open_file(folder: Path, *, prefix: bytes = PREFIX, lock_timeout: float = 5.0) -> SnapshotFile:
    """Return the file of a prefix in a folder."""
    return SnapshotFile(folder, SnapshotOwner("ns", ["http://a:2379"]), prefix=prefix, lock_timeout=lock_timeout)
