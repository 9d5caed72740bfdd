"""`tideover config`: read, write and watch configuration."""

from __future__ import annotations

import base64
import math
import os
from contextlib import suppress
from functools import partial

import click

from tideover.cli.common import (
    failure,
    json_option,
    note,
    note_misspelled,
    print_json,
    print_line,
    telling,
    with_etcd,
)
from tideover.cli.exit_codes import Exit
from tideover.cli.target import Target, etcd_options
from tideover.cluster.rules.health import sentence
from tideover.coordinator.coordinator import Coordinator
from tideover.errors import TideoverError, Unavailable
from tideover.shown import shown
from tideover.status import duration
from tideover.types import HealthState, Reading, Source

# Seconds before a write in which etcd must say whether the key is there already.
_LOOK_TIMEOUT = 1.0


@click.group("config")
def command() -> None:
    """Read, write and watch configuration.

    Keys are named as services name them: with -n /shop, KEY is /shop/config/KEY in etcd.
    """


@command.command("get")
@click.argument("key")
@etcd_options
@json_option
def get(key: str, target: Target, as_json: bool) -> int:
    """Print the value of KEY, asking etcd now.

    Without a quorum a surviving member is asked; then a line on stderr says so, and `source` in the JSON.
    Exits with 5 if there is no such key, with 3 or 4 if that cannot be said.
    """
    return with_etcd(partial(_get, key, as_json=as_json), target=target, follow=())


async def _get(key: str, tide: Coordinator, *, as_json: bool) -> int:
    reading = await tide.config.fetch(key, bytes)
    full = tide.options.base + key
    if as_json:
        print_json(_reading_record(reading, full))
    elif reading.value is not None:
        print_line(reading.value)
    if reading.source is Source.QUORUM:
        if not reading.present:
            note(f"no such key: {full!r}")
            await note_misspelled(tide, "config/")
        return Exit.OK if reading.present else Exit.REFUSED
    away = sentence(tide.health.diagnosis)
    if not reading.present:
        # One member may have missed it: no definite no.
        note(f"{away}, and {full!r} is unknown to the surviving member")
        return Exit.DEGRADED
    age = f"{duration(reading.age)} old" if math.isfinite(reading.age) else "of unknown age"
    note(f"{away}; the answer is a surviving member's, {age}")
    return Exit.OK


def _reading_record(reading: Reading[bytes | None], full: str) -> dict[str, object]:
    return {
        "key": reading.key,
        "etcd_key": full,
        "value": None if reading.value is None else _spell(reading.value),
        "present": reading.present,
        "source": reading.source,
        "revision": reading.revision,
        "age": reading.age if math.isfinite(reading.age) else None,
        "stale": reading.stale,
    }


def _spell(value: bytes) -> object:
    """Return a value as JSON: text, or base64 marked as such."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode()}


@command.command("put", short_help="Write VALUE to KEY.")
@click.argument("key")
@click.argument("value")
@etcd_options
@json_option
def put(key: str, value: str, target: Target, as_json: bool) -> int:
    """Write VALUE to KEY; before a VALUE that begins with a dash, write `--`.

    Writes never degrade. Exits with 3 or 4 if etcd is away and nothing was written, with 6 if the answer was lost
    and the write may or may not have been applied.
    """
    return with_etcd(partial(_put, key, value, as_json=as_json), target=target, follow=())


async def _put(key: str, value: str, tide: Coordinator, *, as_json: bool) -> int:
    full, is_new = tide.options.base + key, await _is_absent(tide, key)
    # Arguments may be bytes that are no text.
    try:
        written = await tide.config.put(key, os.fsencode(value))
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
    """Whether a quorum says that there is no such key; who may only write is not told."""
    if tide.namespaces.other is None or tide.health.state is not HealthState.AVAILABLE:
        return False
    with suppress(TideoverError):
        reading = await tide.config.fetch(key, bytes, timeout=_LOOK_TIMEOUT)
        return reading.source is Source.QUORUM and not reading.present
    return False


@command.command("watch", short_help="Print changes under PREFIX, from now on.")
@click.argument("prefix", default="")
@etcd_options
@json_option
def watch(prefix: str, target: Target, as_json: bool) -> int:
    """Print changes of the keys under PREFIX, from now on, until Ctrl-C.

    Says on stderr what it waits for. In an outage it waits, says so, and goes on with what changed meanwhile.
    """
    return with_etcd(partial(_watch, prefix, as_json=as_json), target=target, follow=(prefix,))


async def _watch(prefix: str, tide: Coordinator, *, as_json: bool) -> int:
    changes = tide.config.changes(prefix)
    async with telling(tide, f"changes of keys that begin with {tide.options.base + prefix!r}"):
        (followed,) = tide.status().config
        if followed.error and tide.health.state is HealthState.AVAILABLE:
            note(followed.error)
        if followed.source is Source.LIVE and not followed.keys:
            await note_misspelled(tide, f"config/{prefix}")
        async for change in changes:
            if as_json:
                print_json({"key": change.key, "value": change.value, "revision": change.revision})
            elif change.value is None:
                print_line(f"{shown(change.key)} deleted")
            else:
                print_line(f"{shown(change.key)} = {shown(change.value)}")
    return Exit.OK
