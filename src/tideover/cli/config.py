"""`tideover config`: read, list, write, delete and watch configuration."""

from __future__ import annotations

import base64
import os
import sys
from contextlib import suppress
from functools import partial

import click

from tideover.cli.common import failure, json_option, note_misspelled, options_of, reporting, with_etcd
from tideover.cli.completion import complete_keys
from tideover.cli.config_list import FROM_DISK, list_keys, tree
from tideover.cli.exit_codes import Exit, Failure
from tideover.cli.from_disk import Disk, disk_options, known_of_config, note_disk
from tideover.cli.printer import note, print_json, print_line, print_raw
from tideover.cli.snapshots import age_of
from tideover.cli.target import Target, etcd_options
from tideover.cli.words import json_age
from tideover.cluster.rules.health import sentence
from tideover.config.keys import Keys
from tideover.coordinator.coordinator import Coordinator
from tideover.errors import InvalidRequest, TideoverError, Unavailable
from tideover.shown import shown
from tideover.status.statements import age_in_words
from tideover.types import HealthState, Reading, Source

# Seconds before a write in which etcd must say whether the key is there already.
_LOOK_TIMEOUT = 1.0
# Bytes of a value: etcd takes 1.5 MiB unless it is told otherwise, and advises against more than 10 MiB.
_LARGEST = 10 * 1024 * 1024


@click.group("config")
def command() -> None:
    """Read, list, write, delete and watch configuration.

    Keys are named as services name them: with -n /shop, KEY is /shop/config/KEY in etcd.
    """


command.add_command(list_keys)
command.add_command(tree)

_key = click.argument("key", shell_complete=complete_keys)


@command.command("get")
@_key
@etcd_options
@disk_options
@json_option
def get(key: str, target: Target, disk: Disk | None, as_json: bool) -> int:
    """Print the value of KEY as it is, asking etcd now. Of all commands this alone escapes nothing.

    Without a quorum a surviving member is asked; then a line on stderr says so, and `source` in the JSON. With
    --from-disk etcd is not asked, and the line says how old the answer is.

    Exits with 5 if there is no such key, with 3 or 4 if that cannot be said.
    """
    if disk is not None:
        return _get_from_disk(key, target, disk, as_json=as_json)
    return with_etcd(partial(_get, key, as_json=as_json), target=target)


async def _get(key: str, tide: Coordinator, *, as_json: bool) -> int:
    try:
        reading = await tide.config.fetch(key, bytes)
    except Unavailable as exc:
        raise failure(tide, exc, consequence=FROM_DISK) from exc
    full = tide.config.full_name(key)
    _print_reading(reading, full, as_json=as_json)
    if reading.source is Source.QUORUM:
        if not reading.present:
            note(f"no such key: {full!r}")
            await note_misspelled(tide, "config/")
        return Exit.OK if reading.present else Exit.REFUSED
    away = sentence(tide.health.diagnosis)
    if not reading.present:
        # One member may lag: no definite no.
        note(f"{away}, and {full!r} is unknown to the surviving member")
        return Exit.DEGRADED
    note(f"{away}; the answer is a surviving member's, {age_in_words(reading.age)}")
    return Exit.OK


def _get_from_disk(key: str, target: Target, disk: Disk, *, as_json: bool) -> int:
    options = options_of(target)
    try:
        full = Keys(options.base, ()).full(key)
    except InvalidRequest as exc:
        raise Failure(str(exc), code=Exit.REFUSED) from exc
    left = known_of_config(options, disk).authority(full)
    if left is None:
        raise Failure(f"no snapshot there has keys that begin like {options.base + key!r}", code=Exit.UNAVAILABLE)
    entry, age = left.snapshot.entries.get(full), age_of(left.snapshot)
    value, revision = (None, 0) if entry is None else (entry.value, entry.mod_revision)
    reading = Reading(key, value, entry is not None, Source.DISK, revision, age, stale=True)
    _print_reading(reading, options.base + key, as_json=as_json)
    note_disk(left)
    if entry is not None:
        return Exit.OK
    # The snapshot's word: no definite no.
    note(f"{options.base + key!r} is not known there: it did not exist, or its service keeps it off the disk")
    return Exit.UNAVAILABLE


def _print_reading(reading: Reading[bytes | None], full: str, *, as_json: bool) -> None:
    if as_json:
        print_json(_reading_record(reading, full), whole=["value"])
    elif reading.value is not None:
        print_raw(reading.value)


def _reading_record(reading: Reading[bytes | None], full: str) -> dict[str, object]:
    return {
        "key": reading.key,
        "etcd_key": full,
        "value": None if reading.value is None else _spell(reading.value),
        "present": reading.present,
        "source": reading.source,
        "revision": reading.revision,
        "age": json_age(reading.age),
        "stale": reading.stale,
    }


def _spell(value: bytes) -> object:
    """Return a value as JSON: text, or base64 marked as such."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode()}


@command.command("put", short_help="Write VALUE to KEY.")
@_key
@click.argument("value")
@etcd_options
@json_option
def put(key: str, value: str, target: Target, as_json: bool) -> int:
    """Write VALUE to KEY; before a VALUE that begins with a dash, write `--`.

    A VALUE of `-` is read from standard input, as it is and up to its end: so it stands in no list of processes.

    Writes never degrade. Exits with 3 or 4 if etcd is away and nothing was written, with 6 if the answer was lost
    and the write may or may not have been applied.
    """
    # Arguments may be bytes that are no text.
    raw = _standard_input() if value == "-" else os.fsencode(value)
    return with_etcd(partial(_put, key, raw, as_json=as_json), target=target)


def _standard_input() -> bytes:
    if sys.stdin is None:  # closed by the process that started this
        raise click.UsageError("VALUE is -, and standard input is closed")
    try:
        value = sys.stdin.buffer.read(_LARGEST + 1)
    except OSError as exc:
        raise click.UsageError(f"standard input cannot be read: {exc.strerror}") from exc
    if len(value) > _LARGEST:
        raise click.UsageError(f"standard input has more than {_LARGEST:,} bytes, which etcd would not take")
    return value


async def _put(key: str, value: bytes, tide: Coordinator, *, as_json: bool) -> int:
    full, is_new = tide.config.full_name(key), await _is_absent(tide, key)
    try:
        written = await tide.config.put(key, value)
    except Unavailable as exc:
        raise failure(tide, exc, consequence="; nothing was written") from exc
    if as_json:
        print_json({"key": key, "etcd_key": full, "revision": written.revision})
    else:
        print_line(f"{full} written at revision {written.revision}")
    if is_new:
        await note_misspelled(tide, "config/")
    return Exit.OK


async def _is_absent(tide: Coordinator, key: str) -> bool:
    """Whether a quorum says that there is no such key; False for a user who may only write."""
    if tide.namespaces.other is None or tide.health.state is not HealthState.AVAILABLE:
        return False
    with suppress(TideoverError):
        reading = await tide.config.fetch(key, bytes, timeout=_LOOK_TIMEOUT)
        return reading.source is Source.QUORUM and not reading.present
    return False


@command.command("delete", short_help="Delete KEY.")
@_key
@etcd_options
@json_option
def delete(key: str, target: Target, as_json: bool) -> int:
    """Delete KEY, without asking, as `config put` writes it.

    Writes never degrade. Exits with 5 if there was no such key, with 3 or 4 if etcd is away and nothing was
    deleted, with 6 if the answer was lost and the key may or may not be deleted.
    """
    return with_etcd(partial(_delete, key, as_json=as_json), target=target)


async def _delete(key: str, tide: Coordinator, *, as_json: bool) -> int:
    full = tide.config.full_name(key)
    try:
        written = await tide.config.delete(key)
    except Unavailable as exc:
        raise failure(tide, exc, consequence="; nothing was deleted") from exc
    if as_json:
        record = {"key": key, "etcd_key": full, "deleted": not written.absent, "revision": written.revision}
        print_json(record, whole=["key", "etcd_key"])
    elif not written.absent:
        print_line(f"{full} deleted at revision {written.revision}")
    if written.absent:
        note(f"no such key: {full!r}; nothing was deleted")
        await note_misspelled(tide, "config/")
        return Exit.REFUSED
    return Exit.OK


@command.command("watch", short_help="Print changes under PREFIX, from now on.")
@click.argument("prefix", default="", shell_complete=complete_keys)
@etcd_options
@json_option
def watch(prefix: str, target: Target, as_json: bool) -> int:
    """Print changes of the keys under PREFIX, from now on, until Ctrl-C.

    Says on stderr what it waits for. In an outage it waits, says so, and goes on with what changed meanwhile.
    """
    return with_etcd(partial(_watch, prefix, as_json=as_json), target=target, follow=(prefix,))


async def _watch(prefix: str, tide: Coordinator, *, as_json: bool) -> int:
    changes = tide.config.changes(prefix)
    async with reporting(tide, f"changes of keys that begin with {tide.config.full_name(prefix)!r}"):
        (followed,) = tide.status().config
        if followed.error and tide.health.state is HealthState.AVAILABLE:
            note(followed.error)
        if followed.source is Source.LIVE and not followed.keys:
            await note_misspelled(tide, f"config/{prefix}")
        async for change in changes:
            if as_json:
                record = {"key": change.key, "value": change.value, "revision": change.revision}
                print_json(record, whole=["key", "value"])
            elif change.value is None:
                print_line(f"{shown(change.key)} deleted")
            else:
                print_line(f"{shown(change.key)} = {shown(change.value)}")
    return Exit.OK
