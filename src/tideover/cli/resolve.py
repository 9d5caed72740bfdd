"""`tideover resolve`: the endpoints of a service, from etcd, a surviving member, or a service's snapshots."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from functools import partial
from pathlib import Path

import click

from tideover.cli.common import failure, json_option, note, print_json, print_line, printable, with_etcd
from tideover.cli.exit_codes import Exit, Failure
from tideover.cli.target import Target, etcd_options
from tideover.clock import Clock
from tideover.cluster.rules.health import sentence
from tideover.coordinator.coordinator import Coordinator
from tideover.discovery.endpoint import Endpoint, check_name, decode, service_prefix
from tideover.discovery.service import newest
from tideover.discovery.service_view import ServiceView
from tideover.errors import SnapshotCorrupt, Unreachable
from tideover.paths import default_folder, snapshot_paths
from tideover.prefixes.snapshot_file import read
from tideover.prefixes.snapshot_format import Snapshot
from tideover.status import duration
from tideover.types import HealthState, Source

# Seconds in which etcd, or a surviving member, must have answered.
_TIMEOUT = 3.0


@click.command("resolve")
@click.argument("name")
@etcd_options
@click.option(
    "--cache-dir",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Where to look if no member answers: a service's cache_dir; else this user's.",
)
@click.option("--watch", is_flag=True, help="Go on, and print what is added (+), removed (-) and changed (~).")
@json_option
def command(name: str, target: Target, cache_dir: Path | None, watch: bool, as_json: bool) -> int:
    """Print the endpoints of the service NAME.

    Asks etcd; without a quorum a surviving member; and if no member answers, the snapshots that services on this
    machine have left. Then a line on stderr says so, and `source` and `age` in the JSON.

    Exits with 5 if the service has no endpoint, with 3 or 4 if that cannot be said.
    """
    try:
        check_name(name)
    except ValueError as exc:
        raise click.UsageError(str(exc)) from exc
    body = partial(_resolve, name, cache_dir=cache_dir, watch=watch, as_json=as_json)
    return with_etcd(body, target=target, follow=())


async def _resolve(name: str, tide: Coordinator, *, cache_dir: Path | None, watch: bool, as_json: bool) -> int:
    view = tide.discover(name)
    if tide.health.state is HealthState.UNAVAILABLE and not watch:
        return _from_disk(tide, name, cache_dir, as_json=as_json)
    try:
        changes = view.changes()
        endpoints = await view.wait_for(0, timeout=None if watch else _TIMEOUT)
    except TimeoutError:
        raise failure(tide, Unreachable(f"nobody could tell the endpoints of {name!r}")) from None
    source, age = view.source or Source.DEFAULT, view.age
    for status in tide.status().services:
        for why in status.refused:
            note(why)
    _print(endpoints, source, age, as_json=as_json)
    if source is not Source.LIVE:
        _note_source(tide, source, age)
    if watch:
        before = endpoints
        async for endpoints in changes:
            _print_changes(before, endpoints, view, as_json=as_json)
            before = endpoints
    if endpoints:
        return Exit.OK
    if source is not Source.LIVE:
        # One member may have missed them: no definite no.
        return Exit.DEGRADED
    note(f"{name!r} has no endpoints")
    return Exit.REFUSED


def _note_source(tide: Coordinator, source: Source, age: float) -> None:
    old = f"{duration(age)} old" if math.isfinite(age) else "of unknown age"
    who = "a surviving member's" if source is Source.MEMBER else f"from {source}"
    note(f"{sentence(tide.health.diagnosis)}; the answer is {who}, {old}")


def _print(endpoints: Iterable[Endpoint], source: Source, age: float, *, as_json: bool) -> None:
    for endpoint in endpoints:
        if as_json:
            print_json({**_record(endpoint), "source": source, "age": age if math.isfinite(age) else None})
        else:
            print_line(_describe(endpoint))


def _record(endpoint: Endpoint) -> dict[str, object]:
    return {
        "service": endpoint.service,
        "url": endpoint.url,
        "weight": endpoint.weight,
        "metadata": dict(endpoint.metadata),
        "instance": endpoint.instance,
        "incarnation": endpoint.incarnation,
    }


def _describe(endpoint: Endpoint) -> str:
    metadata = "".join(f"  {name}={value}" for name, value in endpoint.metadata.items())
    return printable(f"{endpoint.url}  weight {endpoint.weight:g}{metadata}")


def _print_changes(
    before: Collection[Endpoint], after: Collection[Endpoint], view: ServiceView, *, as_json: bool
) -> None:
    old, new = ({e.instance: e for e in endpoints} for endpoints in (before, after))
    changed = [(_sign(old.get(i), new.get(i)), new.get(i) or old[i]) for i in sorted(old.keys() | new.keys())]
    for sign, endpoint in changed:
        if sign and as_json:
            print_json({"change": _WORDS[sign], **_record(endpoint), "source": view.source})
        elif sign:
            print_line(f"{sign} {_describe(endpoint)}")


_WORDS = {"+": "added", "-": "removed", "~": "changed"}


def _sign(old: Endpoint | None, new: Endpoint | None) -> str:
    if old == new:
        return ""
    return "+" if old is None else "-" if new is None else "~"


# From disk -----------------------------------------------------------------------------------------------------


def _from_disk(tide: Coordinator, name: str, folder: Path | None, *, as_json: bool) -> int:
    """Print what a service on this machine has last known."""
    base = f"{tide.namespace}/"
    snapshot = _newest(folder, (base + service_prefix(name)).encode())
    if snapshot is None:
        raise failure(tide, Unreachable(""), consequence=f"; there is no snapshot of {name!r}")
    known = []
    for key, entry in snapshot.entries.items():
        try:
            endpoint = decode(key.removeprefix(base.encode()).decode(), entry.value)
        except ValueError as exc:
            note(str(exc))
        else:
            known.append((entry.create_revision, endpoint))
    found = [endpoint for _, endpoint in sorted(newest(known).items())]
    age = math.inf if snapshot.synced_at is None else Clock().elapsed(snapshot.synced_at)
    _print(found, Source.DISK, age, as_json=as_json)
    _note_source(tide, Source.DISK, age)
    return Exit.OK if found else Exit.UNAVAILABLE


def _newest(folder: Path | None, prefix: bytes) -> Snapshot | None:
    """Return the newest whole snapshot of a prefix; services with other endpoints or users have others."""
    try:
        paths = snapshot_paths(folder or default_folder())
    except RuntimeError as exc:
        raise Failure(str(exc), code=Exit.USAGE) from exc
    found = []
    for path in paths:
        try:
            snapshot = read(path)
        except (OSError, SnapshotCorrupt) as exc:
            note(f"{path} cannot be used: {exc}")
            continue
        if snapshot.prefix == prefix:
            found.append(snapshot)
    return max(found, key=lambda one: (one.epoch, one.revision, one.saved_at.wall), default=None)
