"""The keys of encrypted snapshots, for all commands that read snapshots.

The option's value is a context variable, so that every read of a snapshot for a command, in any thread, uses the
command's keys.
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
from tideover.prefixes.snapshots import snapshot_reading
from tideover.prefixes.snapshots.snapshot import Snapshot

F = TypeVar("F", bound=Callable[..., Any])

_given: ContextVar[Encryption | None] = ContextVar("tideover.cli.keys", default=None)


def keys_option(command: F) -> F:
    """Add `--keys-file` to a command that reads snapshots; sets the context variable, adds no argument."""
    return click.option(
        "--keys-file",
        metavar="FILE",
        type=click.Path(path_type=Path),
        callback=_set_keys,
        expose_value=False,
        help=f"The keys of encrypted snapshots. Without: {SNAPSHOT_KEYS_FILE}, or {SNAPSHOT_KEYS} with the keys.",
    )(command)


def _set_keys(ctx: click.Context, param: click.Parameter, file: Path | None) -> None:
    try:
        # A file that is given as an option wins over one in the environment.
        _given.set(Encryption(file) if file is not None else find_encryption(os.environ))
    except ModuleNotFoundError as exc:
        raise Failure(str(exc), code=Exit.USAGE) from exc
    except ValueError as exc:
        raise click.UsageError(str(exc)) from exc


def keys() -> Encryption | None:
    """Return the command's keys; None without any."""
    return _given.get()


def read(path: Path) -> Snapshot:
    """Return the snapshot in a file, opened with the command's keys.

    Raises:
        SnapshotSealed: It is encrypted with another key.
        SnapshotCorrupt: It is damaged.
        OSError: It cannot be read.
    """
    return snapshot_reading.read(path, keys())
