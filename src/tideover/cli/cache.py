"""`tideover cache`: the snapshots on disk, never the values in them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click

from tideover.cli.common import json_option
from tideover.cli.exit_codes import Exit, Failure
from tideover.cli.printer import print_json, print_line
from tideover.clock import Clock
from tideover.errors import SnapshotCorrupt
from tideover.paths import default_folder, snapshot_paths
from tideover.prefixes.snapshot_file import read
from tideover.shown import shown
from tideover.status import MOST, duration


@dataclass(frozen=True, slots=True)
class Found:
    """One snapshot file.

    Attributes:
        file: Its path.
        whole: Whether it is complete and unaltered.
        generation: `"current"`, or `"previous"`: used if the current one is damaged.
        prefix: The full etcd prefix; None if it is damaged.
        revision: The revision up to which it is complete.
        keys: How many keys it holds.
        cluster: The id of the cluster it came from, in hexadecimal.
        endpoints: The endpoints that its writer was given; None if an earlier version has written it.
        user: The etcd user that it was read as; None likewise, empty if there was none.
        age: Seconds since it was last proven in sync; None if that is unknown.
        accepted_by: The class that has accepted it, by its full name; None for the newest state of a prefix.
        problem: What is wrong with it.
    """

    file: str
    whole: bool
    generation: str
    prefix: str | None = None
    revision: int | None = None
    keys: int | None = None
    cluster: str | None = None
    endpoints: Sequence[str] | None = None
    user: str | None = None
    age: float | None = None
    accepted_by: str | None = None
    problem: str | None = None


@click.group("cache")
def command() -> None:
    """List and check the snapshots on disk.

    DIR is a service's `cache_dir`; without it, this user's cache folder. Values are never printed.
    """


_folder = click.argument(
    "folder",
    metavar="[DIR]",
    required=False,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
)


@command.command("show", short_help="List the snapshots in DIR.")
@_folder
@json_option
def show(folder: Path | None, as_json: bool) -> int:
    """List the snapshots in DIR: prefix, revision, keys, age, cluster, endpoints, user; whole or damaged.

    Exits with 1 if one is damaged.
    """
    where = folder or _default()
    found = _look(where)
    for each in found:
        if as_json:
            print_json(asdict(each))
        else:
            print_line(_describe(each))
    if not found and not as_json:
        print_line(f"no snapshots in {where}")
    return _exit(found)


@command.command("verify", short_help="Check that all snapshots in DIR are whole.")
@_folder
@json_option
def verify(folder: Path | None, as_json: bool) -> int:
    """Check that all snapshots in DIR are whole; print one line, and the damaged ones.

    Exits with 1 if one is damaged.
    """
    where = folder or _default()
    found = _look(where)
    damaged = [each for each in found if not each.whole]
    if as_json:
        print_json(
            {
                "folder": str(where),
                "whole": len(found) - len(damaged),
                "damaged": [asdict(each) for each in damaged],
            }
        )
        return _exit(found)
    for each in damaged:
        print_line(_describe(each))
    print_line(f"{len(found) - len(damaged)} whole, {len(damaged)} damaged in {where}")
    return _exit(found)


def _exit(found: Sequence[Found]) -> Exit:
    return Exit.OK if all(each.whole for each in found) else Exit.FAILED


def _default() -> Path:
    try:
        return default_folder()
    except RuntimeError as exc:
        raise Failure(str(exc), code=Exit.USAGE) from exc


def _look(folder: Path) -> list[Found]:
    try:
        return [_examine(path) for path in snapshot_paths(folder)]
    except OSError as exc:
        raise Failure(f"{folder}: {exc.strerror}", code=Exit.FAILED) from exc


def _examine(path: Path) -> Found:
    generation = "previous" if path.name.endswith(".prev.json") else "current"
    try:
        snapshot = read(path)
    except OSError as exc:
        return Found(str(path), whole=False, generation=generation, problem=f"cannot be read: {exc.strerror}")
    except SnapshotCorrupt as exc:
        problem = str(exc).removeprefix(f"snapshot {path} is damaged: ")
        return Found(str(path), whole=False, generation=generation, problem=problem)
    age = math.inf if snapshot.synced_at is None else Clock().elapsed(snapshot.synced_at)
    return Found(
        str(path),
        whole=True,
        generation=generation,
        prefix=snapshot.prefix.decode(errors="backslashreplace"),
        revision=snapshot.revision,
        keys=len(snapshot.entries),
        cluster=f"{snapshot.cluster_id:x}",
        endpoints=snapshot.endpoints[:MOST] or None,
        user=snapshot.user if snapshot.endpoints else None,
        age=age if math.isfinite(age) else None,
        accepted_by=snapshot.accepted.form if snapshot.accepted else None,
    )


def _describe(found: Found) -> str:
    name = Path(found.file).name
    if not found.whole:
        return f"DAMAGED  {found.generation:<8}  {found.problem}  {name}"
    age = "unknown age" if found.age is None else f"{duration(found.age)} old"
    keys = f"{found.keys} key" if found.keys == 1 else f"{found.keys} keys"
    origin = f"cluster {found.cluster}"
    if found.endpoints:
        origin += f" at {','.join(found.endpoints)}" + (f" as {found.user}" if found.user else "")
    what = found.prefix if found.accepted_by is None else f"{found.prefix} as accepted by {found.accepted_by}"
    text = f"whole    {found.generation:<8}  {what}  revision {found.revision}  {keys}  {age}  {origin}"
    return f"{shown(text)}  {name}"
