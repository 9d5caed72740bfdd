"""`tideover namespaces`: the namespaces in etcd, found without reading all keys."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from functools import partial

import click

from tideover.cli.common import json_option, with_etcd
from tideover.cli.exit_codes import Exit
from tideover.cli.printer import note, print_json, print_line
from tideover.cli.target import Target, etcd_options
from tideover.client.namespaces import Passed, Tree
from tideover.client.rules.namespaces import TREES
from tideover.coordinator.coordinator import Coordinator
from tideover.errors import PermissionDenied
from tideover.shown import shown

# How many folders that were passed over are named.
_MOST_NAMED = 5


@click.command("namespaces", short_help="List the namespaces that are in etcd.")
@click.argument("prefix", default="")
@etcd_options
@json_option
def command(prefix: str, target: Target, as_json: bool) -> int:
    """List the namespaces that are in etcd, and what each has there: config, elections, locks, services, and
    tideover's own.

    Asks for one key of each, never for all keys. Folders of others' keys are passed over, and named on stderr;
    PREFIX looks into one of them. A user who may not read all keys is shown what -n NAMESPACE has, in both
    spellings, with a slash at its start and without; what may not be read is named on stderr.

    Exits with 5 if nothing may be read, with 3 or 4 if etcd is away.
    """
    return with_etcd(partial(_list, prefix, as_json=as_json), target=target)


async def _list(prefix: str, tide: Coordinator, *, as_json: bool) -> int:
    found: dict[str, list[str]] = {}
    passed: list[Passed] = []
    refused: list[str] = []
    async for each in _walk(tide, prefix, refused):
        if isinstance(each, Passed):
            passed.append(each)
        elif each.name not in found.setdefault(each.namespace, []):
            found[each.namespace].append(each.name)
    for namespace, trees in found.items():
        if as_json:
            print_json({"namespace": namespace, "trees": trees})
        else:
            print_line(shown(f"{namespace or '(none)'}  {', '.join(trees)}"))
    _note_missing(passed, refused)
    for name in found:
        if name and f"/{name}" in found:
            note(f"{name!r} and '/{name}' are two namespaces")
    if not found and refused:
        if not (prefix or tide.namespace):
            note("-n NAMESPACE shows one that this user may read")
        return Exit.REFUSED
    if not found and not as_json:
        print_line("no namespaces")
    return Exit.OK


async def _walk(tide: Coordinator, prefix: str, refused: list[str]) -> AsyncIterator[Tree | Passed]:
    """Go through all keys; if that is refused, through both spellings of the namespace, and then their trees."""
    own, other = tide.namespaces.own, tide.namespaces.other
    whole = [f"{name}/" for name in (own, other) if name is not None]
    narrower = {"": whole, **{start: [start + tree for tree in TREES] for start in whole}}
    waiting = [prefix]
    while waiting:
        start = waiting.pop(0)
        try:
            async for each in tide.namespaces.walk(start):
                yield each
        except PermissionDenied:
            refused.append(start)
            waiting += narrower.get(start, [])
    for start in whole:
        # Either the whole is worth a word, or those of its parts that are refused.
        parts = set(narrower[start])
        drop = parts if parts <= set(refused) else {start}
        refused[:] = [each for each in refused if each not in drop]


def _note_missing(passed: Sequence[Passed], refused: Sequence[str]) -> None:
    """Report the parts that were not searched, and why."""
    if refused:
        names = ", ".join(f"what begins with {start!r}" if start else "all keys" for start in refused)
        note(f"this user may not read {names}")
    folders = [repr(each.prefix) for each in passed if not each.rest]
    if folders:
        more = f" and {len(folders) - _MOST_NAMED} more" if len(folders) > _MOST_NAMED else ""
        names = ", ".join(folders[:_MOST_NAMED])
        note(f"passed over, for a key there is not tideover's: {names}{more}; PREFIX looks into one")
    for each in passed:
        if each.rest:
            note(f"stopped at {each.prefix!r}: too many keys are not tideover's; give a PREFIX")
