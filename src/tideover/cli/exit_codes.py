"""Exit codes, and the error that carries one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

import click

from tideover.errors import (
    AuthenticationFailed,
    ConfigKeyError,
    DataCorrupt,
    ElectionMismatch,
    InvalidRequest,
    LockTimeout,
    NoQuorum,
    OutcomeUnknown,
    PermissionDenied,
    RecordCorrupt,
    SpaceExhausted,
    TideoverError,
    Unavailable,
)
from tideover.types import HealthState


class Exit(IntEnum):
    """The exit codes that scripts may rely on.

    Attributes:
        FAILED: Something did not hold: a damaged snapshot, a demo that did not show what it promised.
        UNAVAILABLE: No etcd member answers.
        REFUSED: A definite no: no such key, no permission, wrong credentials, a malformed request, no space; an
            election of another policy, or with a record that cannot be read.
        UNKNOWN: A write was sent and may have been applied.
        PIPE: The reader of the output has gone.
    """

    OK = 0
    FAILED = 1
    USAGE = 2
    DEGRADED = 3
    UNAVAILABLE = 4
    REFUSED = 5
    UNKNOWN = 6
    NOT_EXECUTABLE = 126
    NOT_FOUND = 127
    INTERRUPTED = 130
    PIPE = 141


HELP = (
    "Exit codes: 0 done (status: etcd available), 1 something did not hold, 2 wrong usage or something is not "
    "installed, 3 etcd degraded, 4 etcd unavailable, 5 refused (no such key, no permission, ...), 6 a write may "
    "or may not have been applied, 126 and 127 the command of lock or lead cannot be run or found, 130 Ctrl-C."
)


class Failure(Exception):
    """Raised when a command cannot do its work: one line for people, and the exit code."""

    def __init__(self, message: str, *, code: Exit) -> None:
        super().__init__(message)
        self.code = code


@contextmanager
def usage_errors() -> Iterator[None]:
    """Turn a ValueError of the body into wrong usage, with its message."""
    try:
        yield
    except ValueError as exc:
        raise click.UsageError(str(exc)) from exc


class OutputGone(Exception):
    """Raised when the reader of the output has gone or, with a message, when it cannot be written."""


def exit_of_state(state: HealthState) -> Exit:
    """Return the exit code of a health state."""
    by_state = {HealthState.AVAILABLE: Exit.OK, HealthState.DEGRADED: Exit.DEGRADED}
    return by_state.get(state, Exit.UNAVAILABLE)


def exit_of_error(error: TideoverError, state: HealthState) -> Exit:
    """Return the exit code of an error."""
    if isinstance(error, Unavailable):
        degraded = isinstance(error, NoQuorum) or state is HealthState.DEGRADED
        return Exit.DEGRADED if degraded else Exit.UNAVAILABLE
    if isinstance(error, LockTimeout) and state is not HealthState.AVAILABLE:
        return exit_of_state(state)  # no definite no
    if isinstance(error, OutcomeUnknown):
        return Exit.UNKNOWN
    no = (
        AuthenticationFailed,
        ConfigKeyError,
        DataCorrupt,
        ElectionMismatch,
        InvalidRequest,
        PermissionDenied,
        RecordCorrupt,
        SpaceExhausted,
    )
    return Exit.REFUSED if isinstance(error, no) else Exit.FAILED
