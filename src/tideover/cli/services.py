"""`tideover services`: which services are registered."""

from __future__ import annotations

from functools import partial

import click

from tideover.cli.common import json_option, note_misspelled, with_etcd
from tideover.cli.exit_codes import Exit
from tideover.cli.printer import print_json, print_line
from tideover.cli.target import Target, etcd_options
from tideover.coordinator.coordinator import Coordinator
from tideover.shown import shown


@click.command("services")
@etcd_options
@json_option
def command(target: Target, as_json: bool) -> int:
    """List the services that are registered, and how many registrations each has.

    Asks the quorum, which alone knows all of them. Exits with 3 or 4 if etcd is away; `resolve` prints the last
    known endpoints of one service.
    """
    return with_etcd(partial(_show, as_json=as_json), target=target)


async def _show(tide: Coordinator, *, as_json: bool) -> int:
    counts = await tide.services()
    for name, count in counts.items():
        if as_json:
            print_json({"service": name, "registrations": count})
        else:
            print_line(f"{shown(name)}  {count} registered")
    if not counts:
        if not as_json:
            print_line("no services")
        await note_misspelled(tide, "services/")
    return Exit.OK
