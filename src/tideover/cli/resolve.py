"""`tideover resolve`: the endpoints of a service, from etcd, a surviving member, or a service's snapshots."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from tideover.cli.common import WAITED, failure, json_option, note_misspelled, reporting, with_etcd
from tideover.cli.completion import complete_services
from tideover.cli.endpoint_lines import print_changes, print_endpoints
from tideover.cli.exit_codes import Exit, usage_errors
from tideover.cli.keys import keys_option
from tideover.cli.printer import note
from tideover.cli.resolve_from_disk import answer_from_disk, answer_from_file
from tideover.cli.snapshots import cache_dir_option, snapshot_option
from tideover.cli.target import Target, etcd_options
from tideover.cluster.rules.health import sentence
from tideover.coordinator.coordinator import Coordinator
from tideover.discovery.endpoint import check_name, service_prefix
from tideover.errors import Unreachable
from tideover.status.statements import age_in_words
from tideover.types import HealthState, Source

# Seconds in which etcd, or a surviving member, must have answered.
_TIMEOUT = 3.0


@click.command("resolve")
@click.argument("name", shell_complete=complete_services)
@etcd_options
@cache_dir_option("Where to look if no member answers: a service's cache_dir; else this user's.")
@snapshot_option
@keys_option
@click.option("--watch", is_flag=True, help="Go on, and print what is added (+), removed (-) and changed (~).")
@json_option
def command(
    name: str, target: Target, cache_dir: Path | None, file: Path | None, watch: bool, as_json: bool
) -> int:
    """Print the endpoints of the service NAME.

    Asks etcd; without a quorum a surviving member; and if no member answers, the snapshot that a service on this
    machine with the same endpoints, namespace and user has left. Then a line on stderr says so, and `source` and
    `age` in the JSON. Snapshots of other endpoints or users, which may be of another cluster, are named on stderr;
    --from takes one.

    Exits with 5 if the service has no endpoint, with 3 or 4 if that cannot be said.
    """
    with usage_errors():
        check_name(name)
    if file is not None:
        if watch:
            raise click.UsageError("--from answers from a file, which does not change: leave out --watch")
        return answer_from_file(file, name, target.namespace, as_json=as_json)
    body = partial(_resolve, name, cache_dir=cache_dir, watch=watch, as_json=as_json)
    return with_etcd(body, target=target)


async def _resolve(name: str, tide: Coordinator, *, cache_dir: Path | None, watch: bool, as_json: bool) -> int:
    view = tide.discover(name)
    if tide.health.state is HealthState.UNAVAILABLE and not watch:
        return answer_from_disk(tide, name, cache_dir, as_json=as_json)
    try:
        changes = view.changes()
        async with reporting(tide, f"the endpoints of {name!r}", after=WAITED):
            endpoints = await view.wait_for(0, timeout=None if watch else _TIMEOUT)
    except TimeoutError:
        raise failure(tide, Unreachable(f"no member could name the endpoints of {name!r}")) from None
    source, age = view.source or Source.DEFAULT, view.age
    for status in tide.status().services:
        for why in status.refused:
            note(why)
    print_endpoints(endpoints, source, age, as_json=as_json)
    if source is not Source.LIVE:
        note(describe_source(tide, source, age))
    if watch:
        before = endpoints
        async for endpoints in changes:
            print_changes(before, endpoints, view, as_json=as_json)
            before = endpoints
    if endpoints:
        return Exit.OK
    if source is not Source.LIVE:
        # One member may have missed them: no definite no.
        return Exit.DEGRADED
    note(f"{name!r} has no endpoints")
    await note_misspelled(tide, service_prefix(name))
    return Exit.REFUSED


def describe_source(tide: Coordinator, source: Source, age: float) -> str:
    """Return why an answer is not etcd's, its source and its age, in words."""
    who = "a surviving member's" if source is Source.MEMBER else f"from {source}"
    return f"{sentence(tide.health.diagnosis)}; the answer is {who}, {age_in_words(age)}"
