"""The keys of encrypted snapshots, for all commands that read some: an option, and what has come of it.

What the option has given is a context variable, so that whatever reads a snapshot on behalf of a command, in
whichever thread, opens it with the command's keys.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from typing import Any, TypeVar

import click

from tideover.cli.exit_codes import Exit, Failure
from tideover.encryption import Encryption
from tideover.environment import SNAPSHOT_KEYS, SNAPSHOT_KEYS_FILE, find_encryption
from tideover.prefixes import snapshot_reading
from tideover.prefixes.snapshot import Snapshot

F = TypeVar("F", bound=Callable[..., Any])

_given: ContextVar[Encryption | None] = ContextVar("tideover.cli.keys", default=None)


def keys_option(command: F) -> F:
    """Add `--keys-file` to a command that reads snapshots; it takes no argument for it."""
    return click.option(
        "--keys-file",
        metavar="FILE",
        type=click.Path(path_type=Path),
        callback=_take,
        expose_value=False,
        help=f"The keys of encrypted snapshots. Without: {SNAPSHOT_KEYS_FILE}, or {SNAPSHOT_KEYS} with the keys.",
    )(command)


def _take(ctx: click.Context, param: click.Parameter, file: Path | None) -> None:
    try:
        # A file that is given as an option wins over one in the environment.
        _given.set(Encryption(file) if file is not None else find_encryption(os.environ))
    except ModuleNotFoundError as exc:
        raise Failure(str(exc), code=Exit.USAGE) from exc
    except ValueError as exc:
        raise click.UsageError(str(exc)) from exc


def keys() -> Encryption | None:
    """Return the keys that the command was given; None if it was given none."""
    return _given.get()


def read(path: Path) -> Snapshot:
    """Return the snapshot in a file, opened with the command's keys.

    Raises:
        SnapshotSealed: It is encrypted with another key.
        SnapshotCorrupt: It is damaged.
        OSError: It cannot be read.
    """
    return snapshot_reading.read(path, keys())
