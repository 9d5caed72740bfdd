"""`tideover status`: how etcd is, as a client sees it."""

from __future__ import annotations

from functools import partial

import click

from tideover.cli.common import color_option, json_option, note_misspelled, with_etcd
from tideover.cli.exit_codes import Exit, Failure, exit_of_state
from tideover.cli.printer import print_json, print_line
from tideover.cli.status_lines import Asked, ask
from tideover.cli.target import Target, etcd_options
from tideover.coordinator.coordinator import Coordinator, life_of
from tideover.extras import lacking
from tideover.types import Diagnosis, HealthState, Source

# Seconds to wait for the cluster's member list.
_LIST_TIMEOUT = 1.5


@click.command("status")
@etcd_options
@color_option
@json_option
@click.option(
    "--serve",
    metavar="[HOST:]PORT",
    help="Show it as a page in a browser until Ctrl-C, at this port of 127.0.0.1 or of HOST; the page is open to "
    "all who reach it.",
)
@click.option("--watch", is_flag=True, help="Go on until Ctrl-C, and show what changes.")
def command(target: Target, as_json: bool, serve: str | None, watch: bool) -> int:
    """Say how etcd is, as a client sees it.

    Connects, looks once, and prints what it has found: the members and which of them answers, how many keys of
    configuration there are, the services that are registered, and locks that two have held at once. What a service
    itself holds, leads and serves from memory is in its own `tide.status()`.

    With --watch it goes on until Ctrl-C. A terminal shows it as it is now; a pipe gets a line for each change,
    with the time, and with --json the whole as an object for each change.

    With --serve HOST:PORT it goes on looking, and shows what it sees as a page; a browser that asks for it by
    another name than HOST, or one of this machine's own, is refused.

    Exits with 0 if etcd is available, 3 if it is degraded (no usable quorum, but a member answers), 4 if it is
    unavailable (no member answers), 5 if etcd refuses the credentials.
    """
    if serve is not None:
        if watch:
            raise click.UsageError("--serve goes on looking by itself: leave out --watch")
        return _serve(target, serve, as_json=as_json)
    if watch:
        from tideover.cli.status_watch import show_changes

        return with_etcd(partial(show_changes, as_json=as_json), target=target, follow=("",))
    return with_etcd(partial(_show, as_json=as_json), target=target, follow=("",))


def _serve(target: Target, where: str, *, as_json: bool) -> int:
    if as_json:
        raise click.UsageError("--serve has no --json: the page has a status.json of its own")
    install = "'tideover[cli,status]' uvicorn"
    if needs := lacking("--serve", "jinja2", "sse_starlette", "uvicorn", install=install):
        raise Failure(needs, code=Exit.USAGE)
    from tideover.cli.serve_status import serve, split_address

    host, port = split_address(where)
    return with_etcd(partial(serve, host=host, port=port), target=target, follow=("",))


async def _show(tide: Coordinator, *, as_json: bool) -> int:
    if tide.health.state is HealthState.AVAILABLE:
        await life_of(tide).know_members(_LIST_TIMEOUT)
    report = tide.status()
    asked = await ask(tide, Asked())
    if as_json:
        print_json(asked.to_dict(report))
    else:
        for line in asked.lines(report):
            print_line(*line)
    if all(prefix.source is Source.LIVE and not prefix.keys for prefix in report.config):
        await note_misspelled(tide, "config/")
    # That is a no, and no outage.
    refused = report.diagnosis is Diagnosis.UNAUTHORIZED
    return Exit.REFUSED if refused else exit_of_state(report.state)
