"""The endpoints of a service in a snapshot, and the choice of the snapshot.

Revisions of different clusters cannot be compared, and a folder may have snapshots of several: staging and
production, with one namespace, on one machine. So by default only the snapshot of a service with the same
endpoints, namespace and user counts. A person may choose another.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from tideover.cli.common import failure
from tideover.cli.endpoint_lines import print_endpoints
from tideover.cli.exit_codes import Exit, Failure
from tideover.cli.keys import keys, read
from tideover.cli.printer import note
from tideover.cli.snapshots import Left, age_of, folder_of, load, note_unused, old, origin, read_chosen
from tideover.cluster.rules.health import sentence
from tideover.coordinator.coordinator import Coordinator, life_of
from tideover.discovery.endpoint import Endpoint, decode, service_prefix
from tideover.discovery.service import newest
from tideover.errors import SnapshotCorrupt, Unreachable
from tideover.paths import snapshot_paths
from tideover.prefixes.snapshots.snapshot import Snapshot
from tideover.prefixes.snapshots.snapshot_file import SnapshotFile
from tideover.prefixes.snapshots.snapshot_names import SnapshotOwner
from tideover.shown import shown
from tideover.types import Source


def answer_from_disk(tide: Coordinator, name: str, folder: Path | None, *, as_json: bool) -> int:
    """Print the endpoints in the snapshot of the same endpoints, namespace and user; return the exit code."""
    return _print(_load(tide, name, folder), name, _from_disk(tide), as_json=as_json)


def find_on_disk(tide: Coordinator, name: str, folder: Path | None) -> tuple[list[Endpoint], str]:
    """Return the endpoints that `answer_from_disk` prints, and the remark on them."""
    snapshot = _load(tide, name, folder)
    return _endpoints(snapshot, name), f"{_from_disk(tide)}, {old(snapshot)}"


def _from_disk(tide: Coordinator) -> str:
    return f"{sentence(tide.health.diagnosis)}; the answer is from disk"


def _load(tide: Coordinator, name: str, folder: Path | None) -> Snapshot:
    folder = folder_of(folder)
    options, prefix = life_of(tide).parts.options, f"{tide.namespace}/{service_prefix(name)}".encode()
    file = SnapshotFile(
        folder,
        SnapshotOwner.of(options),
        prefix=prefix,
        component="discovery",
        encryption=keys(),
    )
    snapshot = load(file)
    note_unused(list(_others(folder, prefix, file)), folder, name)
    if snapshot is None:
        consequence = f"; there is no snapshot of {name!r} for these endpoints, this namespace and user"
        raise failure(tide, Unreachable(""), consequence=consequence)
    return snapshot


def answer_from_file(path: Path, name: str, namespace: str, *, as_json: bool) -> int:
    """Print the endpoints in one snapshot, without asking etcd; return the exit code.

    Raises:
        Failure: The snapshot cannot be used, or is of another prefix.
    """
    snapshot = read_chosen(path)
    prefix = f"{namespace}/{service_prefix(name)}"
    if snapshot.prefix != prefix.encode():
        found = snapshot.prefix.decode(errors="backslashreplace")
        raise Failure(shown(f"{path} is of {found!r}, not of {prefix!r}"), code=Exit.USAGE)
    return _print(snapshot, name, f"the answer is from {path}, {origin(snapshot)}", as_json=as_json)


def _endpoints(snapshot: Snapshot, name: str) -> list[Endpoint]:
    base = snapshot.prefix.removesuffix(service_prefix(name).encode())
    known = []
    for key, entry in snapshot.entries.items():
        try:
            endpoint = decode(key.removeprefix(base).decode(), entry.value)
        except ValueError as exc:
            note(str(exc))
        else:
            known.append((entry.create_revision, endpoint))
    return [endpoint for _, endpoint in sorted(newest(known).items())]


def _print(snapshot: Snapshot, name: str, where: str, *, as_json: bool) -> int:
    found = _endpoints(snapshot, name)
    print_endpoints(found, Source.DISK, age_of(snapshot), as_json=as_json)
    nothing = "" if found else f", which has no endpoints of {name!r}"
    note(f"{where}, {old(snapshot)}{nothing}")
    return Exit.OK if found else Exit.UNAVAILABLE


def _others(folder: Path, prefix: bytes, own: SnapshotFile) -> Iterator[Left]:
    """Yield snapshots of the same service for other endpoints or users."""
    identity = own.path.stem.partition("-")[2]
    for path in snapshot_paths(folder):
        if identity in path.name or path.name.endswith(".prev.json"):
            continue
        try:
            snapshot = read(path)
        except (OSError, SnapshotCorrupt):
            continue
        if snapshot.prefix == prefix:
            yield Left(path, snapshot)
