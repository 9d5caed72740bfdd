"""`tideover election`: list elections, look at a record, and take it away."""

from __future__ import annotations

import sys
from functools import partial

import anyio.to_thread
import click

from tideover.cli.common import color_option, end_list, json_option, note_misspelled, with_etcd
from tideover.cli.exit_codes import Exit, Failure, usage_errors
from tideover.cli.printer import Styled, ask, note, print_json, print_line
from tideover.cli.tables import Cell, Table
from tideover.cli.target import Target, etcd_options
from tideover.coordinator.coordinator import Coordinator
from tideover.elections.admin import ElectionAdmin, RecordSnapshot
from tideover.elections.record_document import RecordDocument
from tideover.elections.rules.candidate import margin_of
from tideover.errors import ElectionMismatch
from tideover.shown import shown
from tideover.types import Source

# A leader renews every third of its ttl; an attempt takes a second at the most.
_RENEWS_EVERY = 3.0
_SLACK = 1.5
# The ttl of a record that cannot be read.
_USUAL_TTL = 15.0
_COLOURS = {"led": "green", "vacant": "yellow", "corrupt": "red"}


@click.group("election", short_help="List elections, look at one, or take its record away.")
def command() -> None:
    """List elections, look at one, or take its record away."""


@command.command("list", short_help="List the elections that have a record.")
@etcd_options
@color_option
@json_option
def list_elections(target: Target, as_json: bool) -> int:
    """List the elections that have a record: who leads each, since when, by which policy, with which token.

    A leader that has died is still named for a while. Without a quorum a surviving member is asked; then a line on
    stderr says so, and `source` in the JSON.

    Exits with 0 also if there are none, 1 if a record cannot be read, 3 or 4 if etcd is away.
    """
    return with_etcd(partial(_list, as_json=as_json), target=target)


@command.command("show", short_help="Say who leads.")
@click.argument("name")
@etcd_options
@json_option
def show(name: str, target: Target, as_json: bool) -> int:
    """Say what the record of the election NAME says: who leads, by which policy, and the fencing token.

    A leader that has died is still named for a while. Without a quorum a surviving member is asked.

    Exits with 0 if there is a record, 1 if it cannot be read, 5 if there is none, 3 or 4 if etcd is away.
    """
    return with_etcd(partial(_show, name, as_json=as_json), target=target)


@command.command("reset", short_help="Take its record away.")
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--force", is_flag=True, help="Also if a leader evidently renews it.")
@etcd_options
def reset(name: str, yes: bool, force: bool, target: Target) -> int:
    """Take the record of the election NAME away: to change its policy, or because it cannot be read.

    First waits for a renewal by a leader, which is a refusal. Afterwards the next leader is elected when the ttl
    and its margin have passed, with a larger token.

    Exits with 0 if it is done, 1 if there is a leader, or the record has changed meanwhile, or the answer was no,
    5 if there is no record, 3 or 4 if etcd is away, 6 if it may or may not be done.
    """
    return with_etcd(partial(_reset, name, yes=yes, force=force), target=target)


def _admin(tide: Coordinator, name: str) -> ElectionAdmin:
    with usage_errors():
        return tide.election(name).admin()


async def _list(tide: Coordinator, *, as_json: bool) -> int:
    table, source, corrupt = Table("ELECTION", "STATE", "HELD BY", "SINCE", "POLICY", "TOKEN"), None, False
    async for name, seen in tide.catalog.elections():
        source, corrupt = seen.source, corrupt or seen.corrupt is not None
        if as_json:
            print_json({"election": name, **_as_record(seen)}, whole=["election", "value"])
        else:
            table.add(*_as_row(name, seen))
    table.flush()
    ended = await end_list(tide, source, "elections", below="elections/", as_json=as_json)
    return Exit.FAILED if corrupt else ended


def _as_row(name: str, seen: RecordSnapshot) -> list[Cell]:
    found = seen.document
    state = Styled(seen.state, _COLOURS.get(seen.state))
    token = str(seen.token or "-")
    if found is None:
        return [shown(name), state, "-", "-", "-", token]
    holder = shown(found.held_by.name or found.holder) or "-"
    return [shown(name), state, holder, shown(found.held_by.since) or "-", shown(found.policy), token]


async def _show(name: str, tide: Coordinator, *, as_json: bool) -> int:
    seen = await _admin(tide, name).look()
    if as_json:
        print_json({"election": name, **_as_record(seen)}, whole=["value"])
    else:
        for line in _as_lines(name, seen):
            print_line(line)
    if seen.source is Source.MEMBER:
        note("etcd has no quorum; the answer is a surviving member's, and may be old")
    if seen.state == "none":
        # A member may have missed it: that is no definite no.
        if seen.source is Source.MEMBER:
            return Exit.DEGRADED
        await note_misspelled(tide, f"elections/{name}")
        return Exit.REFUSED
    return Exit.FAILED if seen.corrupt else Exit.OK


def _as_record(seen: RecordSnapshot) -> dict[str, object]:
    found = seen.document
    return {
        "state": seen.state,
        "holder": found.holder or None if found else None,
        "name": found.held_by.name or None if found else None,
        "since": found.held_by.since or None if found else None,
        "term": found.term if found else None,
        "token": seen.token or None,
        "policy": found.policy if found else None,
        "ttl": found.ttl if found else None,
        "vacant": seen.state == "vacant",
        "entered": found.entered if found else None,
        "confirm_limit": found.limit or None if found else None,
        "candidates": list(found.candidates) if found else [],
        "address": found.address if found else "",
        "value": found.value if found else "",
        "revision": seen.revision or None,
        "source": seen.source.value,
        "error": str(seen.corrupt) if seen.corrupt else None,
    }


def _as_lines(name: str, seen: RecordSnapshot) -> list[str]:
    found = seen.document
    lines = [f"election   {name}", f"state      {seen.state}"]
    if seen.corrupt is not None:
        lines.append(f"error      {seen.corrupt}")
    if found is not None:
        lines += [
            f"holder     {shown(found.holder) or '-'}" + _standing(found),
            f"held by    {str(found.held_by) or '-'}",
            f"term       {found.term}",
            f"policy     {shown(found.policy)}",
            f"ttl        {found.ttl:g} s",
            f"candidates {shown(', '.join(found.candidates)) or '-'}",
            f"address    {shown(found.address) or '-'}",
            f"value      {shown(found.value) or '-'}",
        ]
    return [*lines, f"token      {seen.token or '-'}"] if seen.state != "none" else lines


def _standing(found: RecordDocument) -> str:
    if found.vacant:
        return " (has resigned)"
    return "" if found.entered or not found.holder else " (does not lead yet)"


async def _reset(name: str, tide: Coordinator, *, yes: bool, force: bool) -> int:
    if not yes and not sys.stdin.isatty():
        raise click.UsageError("there is no terminal to ask: say --yes")
    admin = _admin(tide, name)
    seen = await admin.look()
    if seen.state == "none":
        note(f"there is no election {name!r}: etcd has no {tide.namespace}/elections/{name}")
        await note_misspelled(tide, f"elections/{name}")
        return Exit.REFUSED
    for line in _as_lines(name, seen):
        note(line)
    if seen.document is not None and seen.document.policy == "peers":
        note("warning: a leader that is cut off from etcd may be confirmed by its peers, and does not renew then")
    if seen.state in ("led", "corrupt"):
        await _observe(name, admin, seen, force=force)
    if not yes and not await anyio.to_thread.run_sync(_confirm, name):
        note("left alone")
        return Exit.FAILED
    try:
        # A leader renews again in a while, but hardly within these milliseconds.
        revision = await admin.clear(await admin.look() if force else seen)
    except ElectionMismatch as exc:
        raise Failure(str(exc), code=Exit.FAILED) from exc
    note(f"{name!r} is reset at revision {revision}; {_next_leader(seen.document)}")
    return Exit.OK


def _next_leader(found: RecordDocument | None) -> str:
    ttl, limit = (found.ttl, found.limit) if found else (_USUAL_TTL, 0.0)
    text = f"with the same ttl the next leader comes after {ttl + margin_of(ttl):g} s"
    if limit and found and found.holder and not found.vacant:
        # An unlisted candidate waits this long, see `Candidate.ripe_at`.
        after = limit + 2 * margin_of(limit)
        text += f", but with the same policy after {after:g} s: its peers may confirm the last one"
    return text


async def _observe(name: str, admin: ElectionAdmin, seen: RecordSnapshot, *, force: bool) -> None:
    """Wait as long as a living leader needs for a renewal; refuse if one comes."""
    ttl = seen.document.ttl if seen.document else _USUAL_TTL
    wait = ttl / _RENEWS_EVERY + _SLACK
    note(f"looking for {wait:.1f} s whether a leader renews it")
    renewed = await admin.renewed(seen, wait)
    if renewed is None:
        return
    holder = renewed.document.holder_shown if renewed.document else "another process"
    if not force:
        text = f"{name!r} is led by {holder}, which has just renewed it: stop its candidates first, or say --force"
        raise Failure(text, code=Exit.FAILED)
    note(f"warning: {name!r} is led by {holder}, which loses it now")


def _confirm(name: str) -> bool:
    return ask(f"Take the record of {name!r} away?")
