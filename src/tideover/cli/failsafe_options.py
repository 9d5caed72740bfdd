"""The options for confirming a leader by the other candidates, and their `Failsafe`.

The secret comes from a file. It is no option and in no environment variable: all users of a machine can read
command lines, and whatever runs under the leadership inherits the environment.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from tideover.cli.target import warn_if_open
from tideover.policies import Failsafe
from tideover.secret_files import read_secret

F = TypeVar("F", bound=Callable[..., Any])

# The most bytes of a file of secrets.
_LARGEST = 65_536
_OPTIONS = (
    click.option(
        "--secret-file",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        envvar="TIDEOVER_SECRET_FILE",
        help="With peers: what all candidates share, at least 16 bytes. Of several lines the first signs, and all "
        "are accepted.",
    ),
    click.option(
        "--listen",
        metavar="HOST:PORT",
        help="With peers: where the others ask this process; 0.0.0.0:0, where port 0 is any that is free.",
    ),
    click.option(
        "--advertise",
        metavar="HOST[:PORT]",
        help="With peers: where they reach it; this machine's address on its way to etcd.",
    ),
    click.option(
        "--confirm-limit",
        type=float,
        metavar="SECONDS",
        help="With peers: how long it goes on without etcd; 3600; the same for all candidates.",
    ),
    click.option(
        "--alone",
        type=click.Choice(["step_down", "stay"]),
        help="With peers: what it does where there is no other candidate to ask; step_down.",
    ),
)


def failsafe_options(command: F) -> F:
    """Add the options of `Failsafe`; the command gets them as one, or None, named `failsafe`."""

    @functools.wraps(command)
    def run(*args: Any, **options: Any) -> Any:
        names = ("secret_file", "listen", "advertise", "confirm_limit", "alone")
        given = {name: value for name in names if (value := options.pop(name)) is not None}
        return command(*args, failsafe=_failsafe(options["on_outage"], **given), **options)

    for option in reversed(_OPTIONS):
        run = option(run)
    return run  # type: ignore[return-value] # click's decorators know nothing of F


def _failsafe(on_outage: str, *, secret_file: Path | None = None, **given: Any) -> Failsafe | None:
    if on_outage != "peers":
        # The file may come from the environment, where it is for those that need it.
        if given or _is_on_command_line("secret_file"):
            name = next(iter(given), "secret_file").replace("_", "-")
            raise click.UsageError(
                f"--{name} says how the other candidates confirm the leader, and --on-outage {on_outage} asks "
                "none of them: add --on-outage peers, or leave it out"
            )
        return None
    if secret_file is None:
        raise click.UsageError(
            "--on-outage peers asks the other candidates when etcd is away: give --secret-file FILE, with the "
            "same secret in all of them"
        )
    try:
        failsafe = Failsafe(_secrets(secret_file), **given)
    except ValueError as exc:
        raise click.UsageError(f"{secret_file}: {exc}" if "secret" in str(exc) else str(exc)) from exc
    warn_if_open(secret_file)
    return failsafe


def _is_on_command_line(name: str) -> bool:
    return click.get_current_context().get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE


def _secrets(file: Path) -> bytes | list[bytes]:
    try:
        lines = [line.strip() for line in read_secret(file, most=_LARGEST).splitlines()]
    except OSError as exc:
        raise click.UsageError(f"{file}: {exc.strerror}") from exc
    found = [line for line in lines if line]
    if not found:
        raise click.UsageError(f"{file}: there is no secret in it")
    return found[0] if len(found) == 1 else found
