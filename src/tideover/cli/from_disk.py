"""The configuration in the snapshots of services on this machine, for use while etcd is away.

By default only snapshots of services with the same endpoints, namespace and user are used; a person may choose
another.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cmp_to_key
from pathlib import Path
from typing import Any, TypeVar

import click

from tideover.cli.exit_codes import Exit, Failure
from tideover.cli.keys import keys_option
from tideover.cli.printer import note
from tideover.cli.snapshots import (
    Left,
    cache_dir_option,
    folder_of,
    left_in,
    note_unused,
    old,
    origin,
    own_of,
    read_chosen,
    snapshot_option,
)
from tideover.options import Options
from tideover.prefixes.snapshots.snapshot import supersedes
from tideover.shown import shown
from tideover.types import Entry

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Disk:
    """Where to look instead of asking etcd.

    Attributes:
        file: The one to use, whosever it is; None means those of these endpoints, this namespace and this user.
    """

    cache_dir: Path | None
    file: Path | None


def disk_options(command: F) -> F:
    """Add the options for answers from disk; the command gets them as `disk`, which is None to ask etcd."""

    @functools.wraps(command)
    def run(*args: Any, from_disk: bool, cache_dir: Path | None, file: Path | None, **options: Any) -> Any:
        if cache_dir is not None and (file is not None or not from_disk):
            raise click.UsageError("--cache-dir says where --from-disk looks")
        looks = from_disk or file is not None
        return command(*args, disk=Disk(cache_dir, file) if looks else None, **options)

    for option in (keys_option, *reversed(_OPTIONS)):
        run = option(run)
    return run  # type: ignore[return-value] # click's decorators know nothing of F


_OPTIONS = (
    click.option(
        "--from-disk",
        is_flag=True,
        help="Do not ask etcd: print what a service with the same endpoints, namespace and user has left.",
    ),
    cache_dir_option("Where --from-disk looks: that service's cache_dir; else this user's."),
    snapshot_option,
)


@dataclass(frozen=True, slots=True)
class Known:
    """The configuration in snapshots."""

    snapshots: Sequence[Left]

    def authority(self, key: bytes) -> Left | None:
        """Return the snapshot that decides whether a key exists; None without one."""
        return next((left for left in reversed(self.snapshots) if key.startswith(left.prefix)), None)

    def entries(self, prefix: bytes) -> dict[bytes, Entry]:
        """Return the entries under a prefix, in the order of their keys."""
        found: dict[bytes, Entry] = {}
        for left in self.snapshots:
            # The newest snapshot of a prefix decides, also that a key is gone.
            found = {key: entry for key, entry in found.items() if not key.startswith(left.prefix)}
            found |= {key: entry for key, entry in left.snapshot.entries.items() if key.startswith(prefix)}
        return dict(sorted(found.items()))


def known_of_config(options: Options, disk: Disk) -> Known:
    """Return the configuration on disk, and report unused snapshots on stderr.

    Raises:
        Failure: No snapshot can be used.
    """
    base = options.base.encode()
    if disk.file is not None:
        return Known([_chosen(disk.file, base)])
    folder = folder_of(disk.cache_dir)
    refused: dict[str, None] = {}
    left_here = [left for left in left_in(folder, refused=refused.setdefault) if left.prefix.startswith(base)]
    own = own_of(left_here, options, refused=refused.setdefault)
    for why in refused:
        note(why)
    used = {left.path for left in own}
    note_unused([left for left in left_here if left.path not in used], folder)
    if not own:
        missing = f"there is no snapshot of {options.base!r} for these endpoints, this namespace and user"
        raise Failure(f"{missing} in {folder}", code=Exit.UNAVAILABLE)
    return Known(sorted(own, key=cmp_to_key(_compare)))


def _chosen(file: Path, base: bytes) -> Left:
    left = Left(file, read_chosen(file))
    if (accepted := left.snapshot.accepted) is not None:
        raise Failure(f"{file} is what {shown(accepted.form)} has accepted, not the newest state", code=Exit.USAGE)
    if not left.prefix.startswith(base):
        raise Failure(f"{file} is of '{shown(left.prefix)}', not of '{shown(base)}'", code=Exit.USAGE)
    return left


def _compare(one: Left, other: Left) -> int:
    return int(supersedes(one.snapshot, other.snapshot)) - int(supersedes(other.snapshot, one.snapshot))


def note_disk(left: Left) -> None:
    """Report that an answer is not live, its source and its age."""
    note(f"from disk, not live: {left.path}, {old(left.snapshot)}, {origin(left.snapshot)}")
