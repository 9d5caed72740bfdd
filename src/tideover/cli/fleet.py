"""`tideover fleet`: the states of all instances of a service, side by side, and what disagrees."""

from __future__ import annotations

import re
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import anyio
import click

from tideover.cli.common import failure, json_option, with_etcd
from tideover.cli.completion import complete_services
from tideover.cli.exit_codes import Exit, Failure, exit_of_state, usage_errors
from tideover.cli.fleet_asking import Asker
from tideover.cli.fleet_rules import Row, disagreements, table
from tideover.cli.keys import keys_option
from tideover.cli.printer import note, print_json, print_line
from tideover.cli.resolve import describe_source
from tideover.cli.resolve_from_disk import find_on_disk
from tideover.cli.snapshots import cache_dir_option
from tideover.cli.target import Target, etcd_options
from tideover.coordinator.coordinator import Coordinator
from tideover.discovery.endpoint import Endpoint, check_name
from tideover.errors import Unreachable
from tideover.policies import Tls
from tideover.registration.registration import check_url
from tideover.shown import shown
from tideover.types import HealthState, Source

# Seconds in which etcd, or a surviving member, must have told the endpoints; and between two looks.
_TIMEOUT = 3.0
_INTERVAL = 2.0
_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+): ?([\t\x20-\x7e]*)")


def _headers(ctx: click.Context, param: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    found = [_HEADER.fullmatch(text) for text in given]
    if None in found:
        # Not the text: it may be a secret.
        raise click.BadParameter("a field is written as 'Name: value', in printable ASCII")
    return {match[1]: match[2].strip() for match in found if match is not None}


def _path(ctx: click.Context, param: click.Parameter, given: str) -> str:
    if not re.fullmatch(r"/[\x21-\x7e]*", given):
        raise click.BadParameter(f"a path begins with a slash and has no spaces: {given!r}")
    return given


def _urls(ctx: click.Context, param: click.Parameter, given: tuple[str, ...]) -> tuple[str, ...]:
    for url in given:
        try:
            check_url(url)
        except ValueError as exc:
            raise click.BadParameter(str(exc)) from exc
    return given


@click.command("fleet")
@click.argument("name", metavar="SERVICE", shell_complete=complete_services)
@etcd_options
@click.option(
    "--path",
    default="/_tideover/health",
    show_default=True,
    callback=_path,
    help="Where the instances answer.",
)
@click.option(
    "--header",
    "headers",
    metavar="'NAME: VALUE'",
    multiple=True,
    callback=_headers,
    help="A field of each request.",
)
@cache_dir_option("Where to look for the endpoints if no member answers: a service's cache_dir; else this user's.")
@keys_option
@click.option(
    "--url",
    "urls",
    metavar="URL",
    multiple=True,
    callback=_urls,
    help="One more to ask, such as one that is cut off: its registration has ended.",
)
@click.option("--watch", is_flag=True, help="Look again every 2 s, until Ctrl-C.")
@json_option
def command(
    name: str,
    target: Target,
    path: str,
    headers: dict[str, str],
    cache_dir: Path | None,
    urls: Sequence[str],
    watch: bool,
    as_json: bool,
) -> int:
    """Show how all instances of SERVICE are, side by side, and what disagrees.

    Takes the endpoints of the service from etcd, a surviving member, or the snapshot that `resolve` takes, and
    asks each of them for its health, 2 s at the most. The last line says what does not go together: two leaders
    of one election, another cluster or epoch, one that is cut off while others are well, one that does not answer.
    --cacert, --cert and --key are for instances with https as well.

    Exits with 0 if all is well, 1 if something disagrees or does not answer, 3 or 4 if only etcd is away, 5 if the
    service has no endpoint.
    """
    with usage_errors():
        check_name(name)
    asker = Asker(path, headers, _context(target.tls))
    extra = [Endpoint(url, service=name) for url in urls]
    body = partial(_compare, name, asker, extra=extra, cache_dir=cache_dir, watch=watch, as_json=as_json)
    return with_etcd(body, target=target)


def _context(tls: Tls | None) -> ssl.SSLContext:
    """Return the TLS context for instances with https: the system's CAs, and those for etcd."""
    context = ssl.create_default_context()
    if tls is not None and tls.ca is not None:
        context.load_verify_locations(tls.ca)
    if tls is not None and tls.cert is not None:
        context.load_cert_chain(tls.cert, tls.key)
    return context


async def _compare(
    name: str,
    asker: Asker,
    tide: Coordinator,
    *,
    cache_dir: Path | None,
    watch: bool,
    as_json: bool,
    extra: Sequence[Endpoint] = (),
) -> int:
    while True:
        try:
            listed = await _endpoints(tide, name, cache_dir)
        except Failure as exc:
            if not extra:
                raise
            listed = _Listed((), Source.DEFAULT, str(exc))
        if listed.label:
            note(listed.label)
        rows = await _ask_all(asker, _with_extra(listed.endpoints, extra))
        wrong = disagreements(rows, here=tide.health.state)
        _show(name, rows, wrong, listed.source, as_json=as_json)
        if not watch:
            if not rows:
                return Exit.REFUSED if listed.source is Source.LIVE else exit_of_state(tide.health.state)
            return Exit.FAILED if wrong else exit_of_state(tide.health.state)
        await anyio.sleep(_INTERVAL)


def _with_extra(listed: Sequence[Endpoint], extra: Sequence[Endpoint]) -> list[Endpoint]:
    known = {endpoint.url.rstrip("/") for endpoint in listed}
    return [*listed, *(endpoint for endpoint in extra if endpoint.url.rstrip("/") not in known)]


@dataclass(frozen=True, slots=True)
class _Listed:
    """The endpoints of a service, and their source."""

    endpoints: Sequence[Endpoint]
    source: Source
    label: str = ""


async def _endpoints(tide: Coordinator, name: str, cache_dir: Path | None) -> _Listed:
    view = tide.discover(name)
    if not view.synced:
        if tide.health.state is HealthState.UNAVAILABLE:
            endpoints, label = find_on_disk(tide, name, cache_dir)
            return _Listed(endpoints, Source.DISK, label)
        try:
            await view.wait_for(0, timeout=_TIMEOUT)
        except TimeoutError:
            raise failure(tide, Unreachable(f"no member could name the endpoints of {name!r}")) from None
    source = view.source or Source.DEFAULT
    label = "" if source is Source.LIVE else describe_source(tide, source, view.age)
    return _Listed(view.endpoints, source, label)


async def _ask_all(asker: Asker, endpoints: Sequence[Endpoint]) -> list[Row]:
    rows: dict[int, Row] = {}

    async def ask(number: int, endpoint: Endpoint) -> None:
        rows[number] = await asker.ask(endpoint)

    async with anyio.create_task_group() as tasks:
        for number, endpoint in enumerate(endpoints):
            tasks.start_soon(ask, number, endpoint)
    return sorted((rows[number] for number in range(len(endpoints))), key=lambda row: row.instance)


def _show(name: str, rows: Sequence[Row], wrong: Sequence[str], source: Source, *, as_json: bool) -> None:
    if as_json:
        for row in rows:
            print_json(row.to_dict())
        print_json({"service": name, "source": source, "disagreements": list(wrong)})
        return
    if not rows:
        print_line(f"{shown(name)!r} has no endpoints")
        return
    for line in table(rows):
        print_line(line)
    print_line("; ".join(wrong) if wrong else f"nothing disagrees among {len(rows)}")
