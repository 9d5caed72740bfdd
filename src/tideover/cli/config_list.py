"""`tideover config list` and `config tree`: the keys, from etcd or from disk, never their values."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import click

from tideover.cli.common import color_option, end_list, failure, json_option, options_of, with_etcd
from tideover.cli.completion import complete_keys
from tideover.cli.exit_codes import Exit, Failure, exit_of_error
from tideover.cli.from_disk import Disk, disk_options, known_of_config, note_disk
from tideover.cli.key_tree import KeyTree
from tideover.cli.printer import note, print_json
from tideover.cli.tables import Table
from tideover.cli.target import Target, etcd_options
from tideover.config.keys import Keys
from tideover.coordinator.catalog import ListedKey
from tideover.coordinator.coordinator import Coordinator
from tideover.errors import TideoverError, Unavailable
from tideover.shown import shown
from tideover.types import HealthState, Source

# Characters that are shown of a key in a list of keys.
_LONGEST = 900
FROM_DISK = "; --from-disk says what a service on this machine has last known"


# Makes the printer of keys under an etcd prefix.
_Viewed = Callable[[str], "_Lines | KeyTree"]
_prefix = click.argument("prefix", default="", shell_complete=complete_keys)


@click.command("list", short_help="List the keys under PREFIX, without their values.")
@_prefix
@etcd_options
@disk_options
@color_option
@json_option
def list_keys(prefix: str, target: Target, disk: Disk | None, as_json: bool) -> int:
    """List the keys that begin with PREFIX, and the revision that last changed each; no value is read.

    Without a quorum a surviving member is asked; then a line on stderr says so, and `source` in the JSON. With
    --from-disk etcd is not asked.

    Exits with 0 also if there are none, with 3 or 4 if that cannot be said.
    """
    return _show(prefix, partial(_Lines, as_json=as_json), target, disk, as_json=as_json)


@click.command("tree", short_help="Show the keys under PREFIX as a tree.")
@_prefix
@click.option("--depth", type=click.IntRange(min=1), help="Show so many levels, and count the keys below.")
@etcd_options
@disk_options
@color_option
@json_option
def tree(prefix: str, depth: int | None, target: Target, disk: Disk | None, as_json: bool) -> int:
    """Show the keys that begin with PREFIX as a tree, divided by their slashes; no value is read.

    Asks as `config list` does, and exits likewise.
    """
    viewed = partial(KeyTree, prefix=prefix, depth=depth, as_json=as_json)
    return _show(prefix, viewed, target, disk, as_json=as_json)


class _Lines:
    """Prints keys one a line: the revision, which is narrow, and the key."""

    def __init__(self, base: str, *, as_json: bool) -> None:
        self._base = base
        self._table = None if as_json else Table("REVISION", "KEY")

    def add(self, found: ListedKey) -> None:
        if self._table is not None:
            self._table.add(str(found.revision), shown(found.key, _LONGEST))
            return
        record = {
            "key": found.key,
            "etcd_key": self._base + found.key,
            "revision": found.revision,
            "source": found.source,
        }
        print_json(record, whole=["key", "etcd_key"])

    def close(self) -> None:
        if self._table is not None:
            self._table.flush()


def _show(prefix: str, viewed: _Viewed, target: Target, disk: Disk | None, *, as_json: bool) -> int:
    if disk is not None:
        return _from_disk(prefix, viewed, target, disk)
    return with_etcd(partial(_from_etcd, prefix, viewed, as_json=as_json), target=target)


async def _from_etcd(prefix: str, viewed: _Viewed, tide: Coordinator, *, as_json: bool) -> int:
    view, source = viewed(tide.config.full_name("")), None
    try:
        async for found in tide.catalog.config(prefix):
            view.add(found)
            source = found.source
    except Unavailable as exc:
        view.close()
        raise failure(tide, exc, consequence=FROM_DISK) from exc
    view.close()
    return await end_list(
        tide,
        source,
        f"keys that begin with {tide.config.full_name(prefix)!r}",
        below=f"config/{prefix}",
        as_json=as_json,
    )


def _from_disk(prefix: str, viewed: _Viewed, target: Target, disk: Disk) -> int:
    options = options_of(target)
    keys = Keys(options.base, ())
    try:
        keys.check_start("prefix", prefix)
    except TideoverError as exc:
        raise Failure(str(exc), code=exit_of_error(exc, HealthState.UNAVAILABLE)) from exc
    known, view = known_of_config(options, disk), viewed(options.base)
    entries = known.entries((options.base + prefix).encode(errors="surrogateescape"))
    for key, entry in entries.items():
        view.add(ListedKey(keys.short(key), entry.mod_revision, Source.DISK))
    view.close()
    for left in known.snapshots:
        note_disk(left)
    if not entries:
        # The snapshot's word: no definite no.
        note(f"no keys that begin with {options.base + prefix!r} are known")
    return Exit.OK if entries else Exit.UNAVAILABLE
