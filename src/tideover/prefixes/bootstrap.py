"""The bootstrap file: configuration for a start at which neither etcd nor the disk has any.

It is a snapshot, sealed or not, of this cluster or another one, or a JSON object by key::

    {"payments/timeout": 0.1, "payments/mode": "on", "payments/limits": {"day": 100}}

Keys are named as `get` names them, and a value is what `put` would write of it. So an object is one value, not a
folder of keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tideover.codecs import encode
from tideover.encryption import Encryption
from tideover.errors import SnapshotCorrupt
from tideover.foreign_bytes import Malformed, load_json
from tideover.options import below
from tideover.prefixes.snapshots.sealing import is_sealed
from tideover.prefixes.snapshots.snapshot import Snapshot
from tideover.prefixes.snapshots.snapshot_reading import understand
from tideover.regular_files import read_named
from tideover.shown import quoted, shown
from tideover.types import Entry

# Bytes of a file, and values in it: as much as can be followed.
_MOST_BYTES = 64 * 1024 * 1024
_MOST_VALUES = 1_000_000


def read_bootstrap(path: Path, *, base: str, encryption: Encryption | None = None) -> dict[bytes, Entry]:
    """Return the configuration in a file, by full key in etcd; the revisions are 0, because they may be another's.

    Links are followed; `encryption` opens a sealed snapshot. Raises `ValueError` if there is no such file, or the
    file is of no use; the message names the file and shows no value.
    """
    try:
        found = read_plain_or_snapshot(path, base=base, encryption=encryption)
    except OSError as exc:
        raise ValueError(shown(f"bootstrap: {str(path)!r} cannot be read: {exc.strerror}", 500)) from None
    except (ValueError, SnapshotCorrupt) as exc:
        problem = str(exc)
    else:
        if not isinstance(found, Snapshot):
            return {key: Entry(value, 0, 0) for key, value in found.items()}
        start = base.encode()
        if found.prefix.startswith(start) or start.startswith(found.prefix):
            return {key: Entry(e.value, 0, 0) for key, e in found.entries.items() if key.startswith(start)}
        problem = f"it is a snapshot of {quoted(found.prefix.decode(errors='backslashreplace'))}, not of {base!r}"
    # Raised outside the handler: a chained error would keep the file's content, secrets included, alive.
    raise ValueError(shown(f"bootstrap: {str(path)!r} is of no use: {problem}", 500))


def read_plain_or_snapshot(
    path: Path, *, base: str, encryption: Encryption | None = None
) -> Snapshot | Mapping[bytes, bytes]:
    """Return what an operator's file holds: a snapshot, sealed or not, or values by full key. Links are followed.

    Raises:
        OSError: The file cannot be read.
        SnapshotCorrupt: The file is a damaged snapshot, or one that cannot be opened.
        Malformed: The file is something else; the message shows no value.
    """
    data = read_named(path, most=_MOST_BYTES)
    if is_sealed(data):
        return understand(data, encryption, path=str(path))
    document = load_json(data, size=_MOST_BYTES, values=_MOST_VALUES)
    if not isinstance(document, dict):
        raise Malformed("it is neither a snapshot nor a JSON object by key")
    if document.keys() == {"header", "entries"} and isinstance(document["header"], dict):
        return understand(data, encryption, path=str(path))
    return {_full(base, key): _encoded(key, value) for key, value in document.items()}


def _full(base: str, key: str) -> bytes:
    if not key or "\0" in key:
        raise Malformed(f"a key must be non-empty text without NUL, not {quoted(key)}")
    if key.startswith("/"):
        raise Malformed(f"a key begins behind {quoted(base)}: {quoted(below(base, key))}, not {quoted(key)}")
    return (base + key).encode()


def _encoded(key: str, value: object) -> bytes:
    try:
        return encode(value)
    except ValueError:
        # Its message might show the value.
        raise Malformed(f"the value of {quoted(key)} cannot be stored") from None
