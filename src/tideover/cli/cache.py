"""`tideover cache`: lists, checks, imports and exports the snapshots on disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import click

from tideover.cli.cache_transfer import export, import_file
from tideover.cli.common import json_option
from tideover.cli.exit_codes import Exit, Failure
from tideover.cli.keys import keys, keys_option
from tideover.cli.printer import print_json, print_line
from tideover.cli.snapshots import age_of, folder_of
from tideover.cli.words import counted, json_age
from tideover.errors import SnapshotCorrupt, SnapshotSealed
from tideover.foreign_bytes import Malformed
from tideover.paths import aside_paths, snapshot_paths
from tideover.prefixes.snapshots.sealing import Envelope, is_sealed, read_envelope
from tideover.prefixes.snapshots.snapshot_format import MOST_BYTES
from tideover.prefixes.snapshots.snapshot_reading import understand
from tideover.regular_files import read_regular
from tideover.shown import shown
from tideover.status import MOST
from tideover.status.statements import age_in_words


@dataclass(frozen=True, slots=True)
class Found:
    """One snapshot file.

    Attributes:
        whole: Whether it is complete and unaltered, as far as the keys tell.
        generation: `"current"`; `"previous"`, used if the current one is damaged; or `"aside"`, an unusable file
            that was renamed.
        endpoints: The endpoints that its writer was given; None if an earlier version has written it.
        user: The etcd user that it was read as; None likewise, empty if there was none.
        age: Seconds since it was last proven in sync; None if that is unknown.
        accepted_by: The class that has accepted it, by its full name; None for the newest state of a prefix.
    """

    file: str
    whole: bool
    generation: str
    sealed: str | None = None
    opened: bool = True
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
    """List and check the snapshots on disk, and bring some in or give some out.

    DIR is a service's `cache_dir`; without it, this user's cache folder. Values are printed by `export --values`
    alone. Encrypted snapshots are opened with the keys of --keys-file.
    """


command.add_command(import_file)
command.add_command(export)


_folder = click.argument(
    "folder",
    metavar="[DIR]",
    required=False,
    type=click.Path(exists=True, file_okay=False, path_type=Path),
)


@command.command("show", short_help="List the snapshots in DIR.")
@_folder
@keys_option
@json_option
def show(folder: Path | None, as_json: bool) -> int:
    """List the snapshots in DIR: prefix, revision, keys, age, cluster, endpoints, user; whole or damaged.

    Of one that no key opens: namespace, revision, cluster and key, as it says itself. Exits with 1 if one is
    damaged.
    """
    where = folder_of(folder)
    found = _examine_all(where)
    for each in found:
        if as_json:
            print_json(asdict(each))
        else:
            print_line(_describe(each))
    if not found and not as_json:
        print_line(f"no snapshots in {where}")
    return Exit.FAILED if any(not each.whole and each.opened for each in found) else Exit.OK


@command.command("verify", short_help="Check that all snapshots in DIR are whole.")
@_folder
@keys_option
@json_option
def verify(folder: Path | None, as_json: bool) -> int:
    """Check that all snapshots in DIR are whole; print one line, and the damaged ones.

    Those that were put aside do not count. Exits with 1 if one is damaged, or no key opens it.
    """
    where = folder_of(folder)
    found = [each for each in _examine_all(where) if each.generation != "aside"]
    damaged = [each for each in found if not each.whole and each.opened]
    sealed = [each for each in found if not each.opened]
    whole = len(found) - len(damaged) - len(sealed)
    code = Exit.FAILED if damaged or sealed else Exit.OK
    if as_json:
        print_json(
            {
                "folder": str(where),
                "whole": whole,
                "damaged": [asdict(each) for each in damaged],
                "sealed": [asdict(each) for each in sealed],
            }
        )
        return code
    for each in (*damaged, *sealed):
        print_line(_describe(each))
    without = f", {len(sealed)} that no key opens" if sealed else ""
    print_line(f"{whole} whole, {len(damaged)} damaged{without} in {where}")
    return code


def _examine_all(folder: Path) -> list[Found]:
    try:
        return [_examine(path) for path in (*snapshot_paths(folder), *aside_paths(folder))]
    except OSError as exc:
        raise Failure(f"{folder}: {exc.strerror}", code=Exit.FAILED) from exc


def _examine(path: Path) -> Found:
    name = path.name
    generation = "previous" if name.endswith(".prev.json") else "current" if name.endswith(".json") else "aside"
    found = Found(str(path), whole=False, generation=generation)
    try:
        data = read_regular(path, most=MOST_BYTES)
        envelope = read_envelope(data, most=MOST_BYTES) if is_sealed(data) else None
        found = replace(found, sealed=envelope.key if envelope else None)
        snapshot = understand(data, keys(), path=str(path))
    except OSError as exc:
        return replace(found, problem=f"cannot be read: {exc.strerror}")
    except SnapshotSealed as exc:
        problem = str(exc).removeprefix(f"snapshot {path} cannot be opened: ")
        return replace(_with_origin(found, envelope), opened=False, problem=problem)
    except (SnapshotCorrupt, Malformed) as exc:
        return replace(found, problem=str(exc).removeprefix(f"snapshot {path} is damaged: "))
    return replace(
        found,
        whole=True,
        prefix=snapshot.prefix.decode(errors="backslashreplace"),
        revision=snapshot.revision,
        keys=len(snapshot.entries),
        cluster=f"{snapshot.cluster_id:x}",
        endpoints=snapshot.endpoints[:MOST] or None,
        user=snapshot.user if snapshot.endpoints else None,
        age=json_age(age_of(snapshot)),
        accepted_by=snapshot.accepted.form if snapshot.accepted else None,
    )


def _with_origin(found: Found, envelope: Envelope | None) -> Found:
    if envelope is None:
        return found
    origin = envelope.origin
    return replace(found, prefix=f"{origin.namespace}/", revision=origin.revision, cluster=origin.cluster)


def _describe(found: Found) -> str:
    name = Path(found.file).name
    if not found.opened:
        stands = f"{found.prefix}  revision {found.revision}  cluster {found.cluster}"
        return shown(f"SEALED   {found.generation:<8}  {stands}  {found.problem}", 500) + f"  {name}"
    if not found.whole:
        return f"DAMAGED  {found.generation:<8}  {found.problem}  {name}"
    age = "unknown age" if found.age is None else age_in_words(found.age)
    count = counted(found.keys or 0)
    origin = f"cluster {found.cluster}"
    if found.endpoints:
        origin += f" at {','.join(found.endpoints)}" + (f" as {found.user}" if found.user else "")
    what = found.prefix if found.accepted_by is None else f"{found.prefix} as accepted by {found.accepted_by}"
    text = f"whole    {found.generation:<8}  {what}  revision {found.revision}  {count}  {age}  {origin}"
    if found.sealed:
        text += f"  key {found.sealed}"
    return f"{shown(text)}  {name}"
