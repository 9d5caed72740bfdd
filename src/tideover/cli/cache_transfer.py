"""`tideover cache import` and `export`: move snapshots from one machine or cluster to another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click

from tideover.cli.common import json_option
from tideover.cli.exit_codes import Exit, Failure
from tideover.cli.keys import keys, keys_option
from tideover.cli.printer import note, print_json, print_line
from tideover.cli.snapshots import age_of, folder_of, load, old, origin, read_chosen
from tideover.cli.target import Owner, owner_options
from tideover.cli.words import counted, json_age
from tideover.clock import Clock
from tideover.discovery.endpoint import service_prefix
from tideover.encryption import KeysUnusable
from tideover.errors import SnapshotCorrupt, SnapshotSealed
from tideover.foreign_bytes import load_json
from tideover.options import Options
from tideover.prefixes.bootstrap import read_plain_or_snapshot
from tideover.prefixes.snapshots.snapshot import Accepted, Snapshot
from tideover.prefixes.snapshots.snapshot_file import SnapshotFile
from tideover.prefixes.snapshots.snapshot_format import MOST_BYTES, encode
from tideover.shown import shown
from tideover.types import Component, Entry

_cache_dir = click.option(
    "--cache-dir",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="A service's cache_dir; else this user's.",
)


@dataclass(frozen=True, slots=True)
class _Part:
    """The contents of one snapshot of a service."""

    component: Component
    prefix: bytes
    entries: Mapping[bytes, Entry]
    accepted: Accepted | None = None


@click.command("import", short_help="Put a snapshot, or JSON by key, into the cache folder.")
@click.argument("file", metavar="FILE", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@owner_options
@click.option(
    "--follow",
    metavar="PREFIX",
    multiple=True,
    help="What the service follows, if it is not all of its configuration; repeat it as the service does.",
)
@_cache_dir
@click.option("--overwrite", is_flag=True, help="Replace what is there, also if that is newer.")
@keys_option
@json_option
def import_file(
    file: Path, owner: Owner, follow: Sequence[str], cache_dir: Path | None, overwrite: bool, as_json: bool
) -> int:
    """Put FILE into the cache folder, for a service with these endpoints, this namespace and user.

    FILE is a snapshot, encrypted or not, what `cache export --values --json` has printed, or a JSON object by key,
    such as {"payments/timeout": 0.1}. Cluster, revision and age are kept if it was written for the same endpoints,
    or if what is there is of the same cluster; else the values alone, of unknown age. For the service FILE is all
    there is: a key that is not in it is absent. With keys it is encrypted.

    A newer snapshot is not replaced unless --overwrite is given; what is replaced is the generation before. Exits
    with 1 if nothing was imported.
    """
    parts = list(_parts(file, owner, follow))
    done = [
        _write(file, part, found, owner, folder_of(cache_dir), overwrite=overwrite, as_json=as_json)
        for part, found in parts
    ]
    return Exit.OK if all(done) else Exit.FAILED


def _parts(file: Path, owner: Owner, follow: Sequence[str]) -> Iterator[tuple[_Part, Snapshot | None]]:
    """Return a file's contents for each prefix that the service follows, and the snapshot if the file is one."""
    base = owner.options.base
    try:
        followed = Options(owner.options.endpoints, owner.options.namespace, follow or ("",)).follow
        found = read_plain_or_snapshot(file, base=base, encryption=keys())
    except OSError as exc:
        raise Failure(f"{file} cannot be read: {exc.strerror}", code=Exit.FAILED) from exc
    except (ValueError, SnapshotCorrupt) as exc:
        raise Failure(f"{file} cannot be used: {exc}", code=Exit.FAILED) from exc
    if isinstance(found, Snapshot):
        of_services = f"{owner.options.namespace}/{service_prefix('')}".removesuffix("/").encode()
        component: Component = "discovery" if found.prefix.startswith(of_services) else "config"
        if component == "discovery" or (found.accepted and found.prefix.startswith(base.encode())):
            yield _Part(component, found.prefix, found.entries, found.accepted), found
            return
        entries, whole = found.entries, found.prefix
    else:
        entries, whole = {key: Entry(value, 0, 0) for key, value in found.items()}, base.encode()
    for name in followed:
        prefix = (base + name).encode()
        if not prefix.startswith(whole):
            is_of = shown(whole)
            raise Failure(f"{file} is of {is_of!r}, which is not all of {shown(prefix)!r}", code=Exit.USAGE)
        below = {key: entry for key, entry in entries.items() if key.startswith(prefix)}
        yield _Part("config", prefix, below), found if isinstance(found, Snapshot) else None


def _write(
    file: Path, part: _Part, found: Snapshot | None, owner: Owner, folder: Path, *, overwrite: bool, as_json: bool
) -> bool:
    """Write one snapshot, report the result, and return whether it was written."""
    target = owner.file(folder, part.prefix, part.component, part.accepted)
    there = load(target)
    snapshot = _snapshot(part, found, target, there)
    if found is not None and not snapshot.cluster_id:
        note(f"{file} was written for {', '.join(found.endpoints) or 'unknown endpoints'}: its age does not count")
    try:
        written = target.save(snapshot, unasked=not overwrite)
    except SnapshotSealed as exc:
        remedy = "give its keys with --keys-file, or take the file away"
        raise Failure(f"{exc}: {remedy}", code=Exit.FAILED) from exc
    except KeysUnusable as exc:
        raise Failure(str(exc), code=Exit.FAILED) from exc
    except OSError as exc:
        raise Failure(f"{target.path} cannot be written: {exc.strerror}", code=Exit.FAILED) from exc
    for each in target.aside:
        note(f"{each.why.path} is kept as {each.path}")
    _report(part, snapshot if written else there or snapshot, target, written=written, as_json=as_json)
    return written


def _snapshot(part: _Part, found: Snapshot | None, target: SnapshotFile, there: Snapshot | None) -> Snapshot:
    """Return the snapshot to write: with its history if of the service's cluster, else the values alone."""
    now = Clock().stamp()
    if found is not None and _is_of_same_cluster(found, target, there):
        found = replace(found, prefix=part.prefix, entries=part.entries)
        return replace(found, saved_at=now, endpoints=tuple(target.owner.endpoints), user=target.owner.user)
    return Snapshot(
        prefix=part.prefix,
        cluster_id=0,
        epoch=0,
        raft_term=0,
        revision=0,
        synced_at=None,
        saved_at=now,
        entries={key: Entry(entry.value, 0, 0) for key, entry in part.entries.items()},
        endpoints=tuple(target.owner.endpoints),
        user=target.owner.user,
        accepted=part.accepted,
    )


def _is_of_same_cluster(found: Snapshot, target: SnapshotFile, there: Snapshot | None) -> bool:
    same = there is not None and there.cluster_id == found.cluster_id
    return bool(found.cluster_id) and (same or found.endpoints == tuple(target.owner.endpoints))


def _report(part: _Part, snapshot: Snapshot, target: SnapshotFile, *, written: bool, as_json: bool) -> None:
    prefix = part.prefix.decode(errors="backslashreplace")
    if as_json:
        print_json(
            {
                "file": str(target.path),
                "prefix": prefix,
                "written": written,
                "keys": len(snapshot.entries),
                "revision": snapshot.revision,
                "cluster": f"{snapshot.cluster_id:x}" if snapshot.cluster_id else None,
                "age": json_age(age_of(snapshot)),
            }
        )
        return
    what = f"{counted(len(snapshot.entries))} of {shown(prefix)}, {_dated(snapshot)}"
    for_whom = ", ".join(target.owner.endpoints)
    if written:
        print_line(f"imported for {for_whom}: {what}: {target.path}")
    else:
        print_line(f"not imported, {target.path} has {what}: --overwrite replaces it")


@click.command("export", short_help="Print a snapshot: its keys, and with --values their values.")
@click.argument(
    "file", metavar="[FILE]", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@owner_options
@click.option("--follow", metavar="PREFIX", default="", help="What the service follows, if it is not everything.")
@_cache_dir
@click.option("--values", "with_values", is_flag=True, help="Print the values as well, which may be secret.")
@keys_option
@json_option
def export(
    file: Path | None, owner: Owner, follow: str, cache_dir: Path | None, with_values: bool, as_json: bool
) -> int:
    """Print the snapshot in FILE, or that of a service with these endpoints, this namespace and user.

    A line for the snapshot, with revision and age, and one for each key with its revision. Lines are cut; with
    --values and --json everything is printed, in the clear, as one JSON document, which `cache import` takes, and
    `bootstrap=` too.
    """
    snapshot = read_chosen(file) if file is not None else _load(owner, follow, folder_of(cache_dir))
    if as_json:
        _print_document(snapshot, with_values=with_values)
        return Exit.OK
    keys_there = counted(len(snapshot.entries))
    print_line(f"{shown(snapshot.prefix)}  {_dated(snapshot)}  {keys_there}  {shown(origin(snapshot))}")
    for key, entry in sorted(snapshot.entries.items()):
        value = f" = {shown(entry.value)}" if with_values else ""
        print_line(f"{shown(key)}  revision {entry.mod_revision}{value}")
    return Exit.OK


def _load(owner: Owner, follow: str, folder: Path) -> Snapshot:
    prefix = f"{owner.options.base}{follow}"
    snapshot = load(owner.file(folder, prefix.encode(errors="surrogateescape"), "config"))
    if snapshot is None:
        text = f"{folder} has no snapshot of {shown(prefix)!r} for these endpoints, this namespace and user"
        raise Failure(f"{text} that can be used", code=Exit.FAILED)
    return snapshot


def _print_document(snapshot: Snapshot, *, with_values: bool) -> None:
    if with_values:
        document = load_json(encode(snapshot), size=MOST_BYTES, values=None)
        assert isinstance(document, dict)
        print_json(document, whole=document.keys())
        return
    print_json(
        {
            "prefix": snapshot.prefix.decode(errors="backslashreplace"),
            "revision": snapshot.revision,
            "age": json_age(age_of(snapshot)),
            "cluster": f"{snapshot.cluster_id:x}",
            "endpoints": snapshot.endpoints,
            "user": snapshot.user,
            "keys": [
                {
                    "key": key.decode(errors="backslashreplace"),
                    "revision": entry.mod_revision,
                    "create_revision": entry.create_revision,
                    "bytes": len(entry.value),
                }
                for key, entry in sorted(snapshot.entries.items())
            ],
        },
        whole=("keys",),
    )


def _dated(snapshot: Snapshot) -> str:
    return f"revision {snapshot.revision}, {old(snapshot)}" if snapshot.cluster_id else old(snapshot)
