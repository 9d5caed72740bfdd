"""The snapshots that services on this machine have left, and those of them for given endpoints.

A snapshot's file is named after the service's namespace, prefix, endpoints and user. A snapshot with another name
may be of another cluster, and is used only if a person chooses it.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from tideover.cli.exit_codes import Exit, Failure
from tideover.cli.keys import keys, read
from tideover.cli.printer import note
from tideover.clock import Clock
from tideover.errors import SnapshotCorrupt
from tideover.options import Options
from tideover.paths import default_folder, snapshot_paths
from tideover.prefixes.snapshots.snapshot import Snapshot
from tideover.prefixes.snapshots.snapshot_file import SnapshotFile
from tideover.prefixes.snapshots.snapshot_names import SnapshotOwner
from tideover.shown import shown
from tideover.status.statements import age_in_words

F = TypeVar("F", bound=Callable[..., Any])

_PREVIOUS = ".prev.json"
# The most unused snapshots that are named.
_MOST_UNUSED = 5


def cache_dir_option(text: str) -> Callable[[F], F]:
    """Add `--cache-dir` to a command, with a help text."""
    return click.option("--cache-dir", metavar="DIR", type=click.Path(path_type=Path), help=text)


def snapshot_option(command: F) -> F:
    """Add `--from FILE` to a command, which gets it as `file`."""
    return click.option(
        "--from",
        "file",
        metavar="FILE",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help="Do not ask etcd, but answer from this snapshot.",
    )(command)


def folder_of(cache_dir: Path | None) -> Path:
    """Return the given folder of snapshots, or this user's.

    Raises:
        Failure: This user has none.
    """
    try:
        return cache_dir or default_folder()
    except RuntimeError as exc:
        raise Failure(str(exc), code=Exit.USAGE) from exc


@dataclass(frozen=True, slots=True)
class Left:
    """A snapshot that was left on disk."""

    path: Path
    snapshot: Snapshot

    @property
    def prefix(self) -> bytes:
        """What its keys begin with."""
        return self.snapshot.prefix


def left_in(folder: Path, *, refused: Callable[[str], object], most: float = math.inf) -> Iterator[Left]:
    """Yield the usable raw snapshots in a folder, the newest generation of each.

    Raises:
        Failure: The folder cannot be read.
    """
    usable: set[str] = set()
    for path in _newest_first(folder):
        if _stem(path) in usable:
            continue
        try:
            if path.stat().st_size > most:
                continue
            left = Left(path, read(path))
        except SnapshotCorrupt as exc:
            refused(str(exc))
        except OSError as exc:
            refused(f"snapshot {path} cannot be read: {exc.strerror}")
        else:
            usable.add(_stem(path))
            if left.snapshot.accepted is None:
                yield left


def read_chosen(path: Path) -> Snapshot:
    """Return the snapshot in a file that a person has chosen.

    Raises:
        Failure: It cannot be used.
    """
    try:
        return read(path)
    except (OSError, SnapshotCorrupt) as exc:
        raise Failure(f"{path} cannot be used: {exc}", code=Exit.FAILED) from exc


def own_of(left: Iterable[Left], options: Options, *, refused: Callable[[str], object]) -> list[Left]:
    """Return those that a service with the same endpoints, namespace and user starts with."""
    own = []
    for each in left:
        file = SnapshotFile(
            each.path.parent,
            SnapshotOwner.of(options),
            prefix=each.prefix,
            component="discovery" if each.path.name.startswith("discovery-") else "config",
            encryption=keys(),
        )
        if _stem(file.path) != _stem(each.path):
            continue
        # A service looks closer than a list does: a copy from elsewhere may bear the name.
        loaded = file.load()
        for damage in loaded.rejected if loaded else ():
            refused(str(damage))
        if loaded is not None and loaded.snapshot is not None and loaded.path is not None:
            own.append(Left(loaded.path, loaded.snapshot))
    return own


def load(file: SnapshotFile) -> Snapshot | None:
    """Return a service's snapshot; None without a usable one. Reports damaged generations on stderr."""
    loaded = file.load()
    for damage in loaded.rejected if loaded else ():
        note(str(damage))
    return loaded.snapshot if loaded else None


def note_unused(left: Sequence[Left], folder: Path, service: str = "") -> None:
    """Report snapshots on stderr that are of other endpoints or users, and how to choose one."""
    for each in left[:_MOST_UNUSED]:
        of = repr(service) if service else f"'{shown(each.prefix)}'"
        what = f"a snapshot of {of}, {origin(each.snapshot)}, {old(each.snapshot)}"
        note(f"not used: {what}: --from {shlex.quote(str(each.path))}")
    if len(left) > _MOST_UNUSED:
        note(f"and {len(left) - _MOST_UNUSED} more: see `tideover cache show {shlex.quote(str(folder))}`")


def _newest_first(folder: Path) -> list[Path]:
    try:
        raw = [path for path in snapshot_paths(folder) if not path.name.startswith("accepted-")]
        return sorted(raw, key=lambda path: (_stem(path), path.name.endswith(_PREVIOUS)))
    except OSError as exc:
        raise Failure(f"{folder}: {exc.strerror}", code=Exit.FAILED) from exc


def _stem(path: Path) -> str:
    return path.name.removesuffix(".json").removesuffix(".prev")


def origin(snapshot: Snapshot) -> str:
    """Return of which cluster a snapshot is, where that was, and who has read it."""
    where = ",".join(snapshot.endpoints) or "unknown endpoints"
    return f"cluster {snapshot.cluster_id:x} at {where}" + (f" as {snapshot.user}" if snapshot.user else "")


def age_of(snapshot: Snapshot) -> float:
    """Return the seconds since a snapshot was last proven in sync; infinite if that is unknown."""
    return math.inf if snapshot.synced_at is None else Clock().elapsed(snapshot.synced_at)


def old(snapshot: Snapshot) -> str:
    """Return how old a snapshot is, in words."""
    return age_in_words(age_of(snapshot))
