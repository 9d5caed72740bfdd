"""What all commands share: the options that say which etcd, running with a coordinator, and printing."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import anyio
import click

from tideover.cli.exits import Failure, OutputGone, exit_of_error
from tideover.coordinator import Coordinator
from tideover.errors import TideoverError, Unavailable
from tideover.etcd.endpoints import parse_endpoints
from tideover.options import Options
from tideover.records import HealthState
from tideover.resilience.health import sentence

F = TypeVar("F", bound=Callable[..., Any])

# Seconds in which the first answer must come; members that refuse connections are recognised at once.
_START_TIMEOUT = 3.0
_ENVIRONMENT = "TIDEOVER_ENDPOINTS"
_DEFAULT = "127.0.0.1:2379"


def _check_endpoints(ctx: click.Context, param: click.Parameter, given: tuple[str, ...]) -> tuple[str, ...]:
    """Return the endpoints given, or those of the environment, or etcd's usual one on this machine."""
    texts = given or (os.environ.get(_ENVIRONMENT) or _DEFAULT,)
    try:
        return parse_endpoints(endpoint for text in texts for endpoint in text.split(","))
    except ValueError as exc:
        where = None if given else [_ENVIRONMENT]
        raise click.BadParameter(str(exc), ctx=ctx, param=param, param_hint=where) from exc


def etcd_options(command: F) -> F:
    """Add `--endpoint`, `--namespace` and `--json` to a command."""
    command = json_option(command)
    command = click.option("--namespace", "-n", default="", help="The services' namespace in etcd.")(command)
    return click.option(
        "--endpoint",
        "-e",
        "endpoints",
        metavar="HOST:PORT",
        multiple=True,
        callback=_check_endpoints,
        help=f"A member; give all of them. Without: {_ENVIRONMENT}, separated by commas, else {_DEFAULT}.",
    )(command)


def json_option(command: F) -> F:
    """Add `--json` to a command."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, one object a line.")(command)


def with_etcd(
    body: Callable[[Coordinator], Awaitable[int]],
    *,
    endpoints: Sequence[str],
    namespace: str,
    follow: Sequence[str],
) -> int:
    """Connect, run `body`, and close; configuration is never written to this user's disk.

    Args:
        body: Gets the coordinator, returns the exit code.
        endpoints: The members.
        namespace: The namespace.
        follow: The prefixes to follow.

    Returns:
        The exit code.

    Raises:
        Failure: `body` raised one of tideover's errors.
        click.UsageError: An option makes no sense.
    """
    # Every command says in its own words what it found.
    logging.getLogger("tideover").addHandler(logging.NullHandler())
    try:
        options = Options(
            endpoints, namespace, follow, cache_dir=False, start_timeout=_START_TIMEOUT, bookkeeping=False
        )
    except ValueError as exc:
        raise click.UsageError(str(exc)) from exc
    return anyio.run(partial(_run, Coordinator(options), body))


async def _run(tide: Coordinator, body: Callable[[Coordinator], Awaitable[int]]) -> int:
    async with tide:
        try:
            return await body(tide)
        except TideoverError as exc:
            raise failure(tide, exc) from exc
        except ExceptionGroup as group:
            # A task group of the body's: what matters is the one thing that went wrong in it.
            if len(group.exceptions) > 1:
                raise
            raise group.exceptions[0] from None


def failure(tide: Coordinator, error: TideoverError, *, consequence: str = "") -> Failure:
    """Return an error of tideover's as one line and an exit code.

    Args:
        tide: The coordinator that raised it.
        error: The error.
        consequence: What follows from it.
    """
    state = tide.health.state
    away = isinstance(error, Unavailable) and state is not HealthState.AVAILABLE
    text = sentence(tide.health.diagnosis) if away else str(error)
    return Failure(text + consequence, code=exit_of_error(error, state))


def print_json(record: object) -> None:
    """Print one line of JSON."""
    print_line(json.dumps(record))


def print_line(text: str | bytes) -> None:
    """Print a line.

    Args:
        text: The line; bytes which are no text may be in it as surrogate escapes.

    Raises:
        OutputGone: Nobody reads it any more.
    """
    try:
        click.echo(text.encode(errors="surrogateescape") if isinstance(text, str) else text)
    except BrokenPipeError as exc:
        raise OutputGone from exc


def note(text: str) -> None:
    """Tell people something that is not the output."""
    click.echo(f"tideover: {text}", err=True)
