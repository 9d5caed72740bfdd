"""`tideover lock list` and `lock show`: the holder and the waiters of each lock, of any client."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import click

from tideover.cli.common import color_option, end_list, json_option, note_misspelled, with_etcd
from tideover.cli.exit_codes import Exit, usage_errors
from tideover.cli.printer import Styled, note, print_json, print_line
from tideover.cli.tables import Cell, Table
from tideover.cli.target import Target, etcd_options
from tideover.cluster.rules.health import sentence
from tideover.coordinator.coordinator import Coordinator
from tideover.fencing.token import fencing_token
from tideover.locks.lines import LinePlace, LockLine
from tideover.locks.queue.keys import NO_PLACE
from tideover.shown import shown
from tideover.types import Source

_COLOURS = {"held": "green", "blocked": "red"}


@click.command("list", short_help="List the locks that are held or waited for.")
@etcd_options
@color_option
@json_option
def list_locks(target: Target, as_json: bool) -> int:
    """List the locks that are held or waited for: holder, since when, the token, how many wait.

    Clients of Go and etcdctl stand in the same lines; they leave no name, and are known by their leases. Without a
    quorum a surviving member is asked; then a line on stderr says so, and `source` in the JSON.

    Exits with 0 also if there are none, 3 or 4 if etcd is away.
    """
    return with_etcd(partial(_list, as_json=as_json), target=target)


@click.command("show", short_help="Show a lock's holder and who waits for it.")
@click.argument("name")
@etcd_options
@color_option
@json_option
def show(name: str, target: Target, as_json: bool) -> int:
    """Show the holder of the lock NAME and since when, its token, how long its lease lasts, and who waits for it.

    Clients of Go and etcdctl stand in the same line; they leave no name, and are known by their leases. Without a
    quorum a surviving member is asked.

    Exits with 0 if it is held, 1 if a foreign key blocks its line, 5 if it is free, 3 or 4 if etcd is away.
    """
    return with_etcd(partial(_show, name, as_json=as_json), target=target)


async def _list(tide: Coordinator, *, as_json: bool) -> int:
    table, source = Table("LOCK", "STATE", "HELD BY", "SINCE", "TOKEN", "WAITING"), None
    async for line in tide.catalog.locks():
        source = line.source
        if as_json:
            print_json({**_as_record(line), "waiting": line.waiting}, whole=["lock"])
            continue
        state, first = Styled(line.state, _COLOURS.get(line.state)), line.first
        held = ("-", "-", "-") if first is None else (_who(first), first.held_by.since or "-", _token(first))
        table.add(shown(line.lock), state, *held, str(line.waiting))
    table.flush()
    return await end_list(tide, source, "locks", below="locks/", as_json=as_json)


async def _show(name: str, tide: Coordinator, *, as_json: bool) -> int:
    with usage_errors():
        line = await tide.catalog.lock(name)
    if as_json:
        queue = [_as_place(each) for each in line.behind]
        print_json({**_as_record(line), "waiting": line.waiting, "queue": queue}, whole=["lock"])
    else:
        for text in _lines(line):
            print_line(*text)
        _print_queue(line)
    if line.source is Source.MEMBER:
        note(f"{sentence(tide.health.diagnosis)}; the answer is a surviving member's, and may be old")
    if line.first is None:
        # A member may lag: no definite no.
        if line.source is Source.MEMBER:
            return Exit.DEGRADED
        await note_misspelled(tide, f"locks/{name}/")
        return Exit.REFUSED
    return Exit.FAILED if line.first.foreign else Exit.OK


def _as_record(line: LockLine) -> dict[str, object]:
    held = _as_place(line.first) if line.first is not None else dict.fromkeys(_as_place(_NO_PLACE))
    return {"lock": line.lock, "state": line.state, **held, "source": line.source.value}


_NO_PLACE = LinePlace(b"", 1)


def _as_place(place: LinePlace) -> dict[str, object]:
    return {
        "holder": place.held_by.name or None,
        "since": place.held_by.since or None,
        "token": None if place.foreign else fencing_token(place.revision, 0),
        "revision": place.revision,
        "lease": None if place.foreign else place.name.decode(),
        "ttl": place.ttl,
        "granted": place.granted,
        "foreign": shown(place.name) if place.foreign else None,
    }


def _lines(line: LockLine) -> Iterator[tuple[Cell, ...]]:
    yield ("lock     ", line.lock)
    yield ("state    ", Styled(line.state, _COLOURS.get(line.state)))
    first = line.first
    if first is None:
        return
    if first.foreign:
        yield ("held by  ", f"no holder: the oldest key of the line is '{shown(first.name)}', {NO_PLACE}")
    else:
        yield ("held by  ", _who(first))
        yield ("since    ", first.held_by.since or f"revision {first.revision}")
        yield ("token    ", _token(first))
        yield ("lease    ", first.name.decode(), f", {_left(first)}" if first.ttl is not None else "")
    yield ("revision ", str(first.revision))
    yield ("waiting  ", str(line.waiting))


def _print_queue(line: LockLine) -> None:
    if not line.behind:
        return
    print_line()
    table = Table("PLACE", "WAITS", "SINCE", "REVISION", "LEASE", "LEFT")
    for number, each in enumerate(line.behind, 1):
        lease = "-" if each.foreign else each.name.decode()
        left = _left(each) if each.ttl is not None else "-"
        table.add(str(number), _who(each), each.held_by.since or "-", str(each.revision), lease, left)
    table.flush()


def _who(place: LinePlace) -> str:
    if place.foreign:
        return f"no holder: key '{shown(place.name)}'"
    return shown(place.held_by.name) or f"another client, lease {place.name.decode()}"


def _token(place: LinePlace) -> str:
    return "-" if place.foreign else str(fencing_token(place.revision, 0))


def _left(place: LinePlace) -> str:
    if place.ttl == 0:
        return "gone"
    return f"{place.ttl} s left" + (f" of {place.granted} s" if place.granted else "")
