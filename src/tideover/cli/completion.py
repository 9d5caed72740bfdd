"""Completions for a shell: names from the snapshots of services on this machine.

The network is never asked, and nothing is printed beside the names. A name is foreign text that a shell puts into
a command line: so only names without a meaning to any shell are offered.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from urllib.parse import unquote

import click

from tideover.cli.snapshots import Left, folder_of, left_in
from tideover.discovery.endpoint import service_prefix

# Letters and digits of all languages, and characters that no shell interprets or divides words at.
_PLAIN = re.compile(r"[\w./@%+][\w./@%+-]*")
# How many keys are offered.
_MOST = 1000
# Bytes of snapshots that are read: a larger one would take longer than people wait for a word.
_LARGEST = 16 * 1024 * 1024


def complete_keys(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Return keys; of many, the folders that they are in."""
    base = f"{_namespace(ctx)}/config/"
    names = (name for left in _left(ctx) for name in _keys(left, base))
    offered = _offered(name for name in names if name.startswith(incomplete))
    while len(offered) > _MOST:
        folders = sorted({_folder(name, incomplete) for name in offered})
        if len(folders) > 1:
            # None of too many: a shell would complete a prefix that only some have in common.
            return folders if len(folders) <= _MOST else []
        # A single one would be taken for the whole word.
        (incomplete,) = folders
    return offered


def complete_services(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Return services."""
    base = f"{_namespace(ctx)}/{service_prefix('')}"
    names = (_text(left.prefix) for left in _left(ctx))
    services = (unquote(name.removeprefix(base).rstrip("/")) for name in names if name.startswith(base))
    return _offered(name for name in services if name.startswith(incomplete))


def complete_namespaces(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Return namespaces."""
    names = (re.split(r"/(?:config|services)/", _text(left.prefix), maxsplit=1) for left in _left(ctx))
    return _offered(found[0] for found in names if len(found) == 2 and found[0].startswith(incomplete))


def _offered(names: Iterable[str]) -> list[str]:
    return sorted({name for name in names if _PLAIN.fullmatch(name)})


def _folder(name: str, incomplete: str) -> str:
    end = name.find("/", len(incomplete))
    return name if end < 0 else name[: end + 1]


def _keys(left: Left, base: str) -> Iterator[str]:
    if left.prefix.startswith(base.encode()):
        for key in left.snapshot.entries:
            yield _text(key).removeprefix(base)


def _left(ctx: click.Context) -> Iterator[Left]:
    folder: Path | None = ctx.params.get("cache_dir")
    try:
        yield from left_in(folder_of(folder), refused=lambda why: None, most=_LARGEST)
    except Exception:  # noqa: BLE001  # a shell could only show an error in place of names
        return


def _namespace(ctx: click.Context) -> str:
    return ctx.params.get("namespace") or ""


def _text(name: bytes) -> str:
    return name.decode(errors="backslashreplace")
