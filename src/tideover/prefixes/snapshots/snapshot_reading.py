"""A snapshot out of the bytes of a file, whether they are sealed or not."""

from __future__ import annotations

from pathlib import Path

from tideover.encryption import Encryption
from tideover.errors import SnapshotCorrupt, SnapshotSealed
from tideover.foreign_bytes import Malformed
from tideover.prefixes.snapshots.sealing import Sealed, is_sealed, unseal
from tideover.prefixes.snapshots.snapshot import Snapshot
from tideover.prefixes.snapshots.snapshot_format import MOST_BYTES, decode
from tideover.regular_files import read_regular
from tideover.shown import quoted


def read(path: Path, encryption: Encryption | None = None, *, namespace: str | None = None) -> Snapshot:
    """Return the snapshot in a file; a sealed one must be of `namespace`, where None means any.

    Raises:
        SnapshotSealed: It cannot be opened.
        SnapshotCorrupt: It is damaged.
        OSError: It cannot be read; an `OddFile` is none.
    """
    return read_either(path, encryption, namespace)[0]


def understand(
    data: bytes, encryption: Encryption | None = None, *, path: str, namespace: str | None = None
) -> Snapshot:
    """Return the snapshot in the bytes of a file; see `read`."""
    if not is_sealed(data):
        return decode(data, path=path)
    try:
        opened, origin = unseal(data, encryption, most=MOST_BYTES)
    except Sealed as exc:
        raise SnapshotSealed(f"snapshot {path} cannot be opened: {exc}", path=path) from None
    except Malformed as exc:
        problem = str(exc)
    else:
        if namespace not in (None, origin.namespace):
            of = f"{quoted(origin.namespace)}, not of {quoted(namespace)}"
            raise SnapshotCorrupt(f"snapshot {path} is of the namespace {of}", path=path)
        snapshot = decode(opened, path=path)
        if (f"{snapshot.cluster_id:x}", snapshot.revision) == (origin.cluster, origin.revision):
            return snapshot
        problem = "it is of another cluster or revision than it says"
    # Raised outside the handler, as in `decode`.
    raise SnapshotCorrupt(f"snapshot {path} is damaged: {problem}", path=path)


def read_either(path: Path, encryption: Encryption | None, namespace: str | None) -> tuple[Snapshot, bool]:
    """Return a snapshot, and whether it was sealed."""
    data = read_regular(path, most=MOST_BYTES)
    return understand(data, encryption, path=str(path), namespace=namespace), is_sealed(data)
