"""What all commands share: running with a coordinator, and printing."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from typing import Any, TypeVar

import anyio
import click

from tideover.cli.exit_codes import Exit, Failure, OutputGone, exit_of_error
from tideover.cli.target import Target
from tideover.cluster.rules.health import sentence
from tideover.coordinator.coordinator import Coordinator
from tideover.errors import TideoverError, Unavailable
from tideover.options import Options
from tideover.policies import Failsafe
from tideover.types import Diagnosis, HealthState

F = TypeVar("F", bound=Callable[..., Any])

# Seconds in which the first answer must come; members that refuse connections are recognised at once.
_START_TIMEOUT = 3.0


def json_option(command: F) -> F:
    """Add `--json` to a command."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, one object a line.")(command)


def with_etcd(
    body: Callable[[Coordinator], Awaitable[int]],
    *,
    target: Target,
    follow: Sequence[str],
    failsafe: Failsafe | None = None,
) -> int:
    """Connect, run `body`, and close; configuration is never written to this user's disk.

    Args:
        body: Gets the coordinator, returns the exit code.
        target: Which etcd, and as whom.
        follow: The prefixes to follow.
        failsafe: How leaders are confirmed by other candidates; None if they are not.

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
            target.endpoints,
            target.namespace,
            follow,
            cache_dir=False,
            start_timeout=_START_TIMEOUT,
            tls=target.tls,
            username=target.username,
            password=target.password,
            failsafe=failsafe,
            bookkeeping=False,
        )
    except ValueError as exc:
        raise click.UsageError(str(exc)) from exc
    return anyio.run(partial(_run, Coordinator(options), body))


async def _run(tide: Coordinator, body: Callable[[Coordinator], Awaitable[int]]) -> int:
    async with AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(tide)
        except ValueError as exc:
            # Files that are there, but of no use.
            raise click.UsageError(str(exc)) from exc
        except OSError as exc:
            # Of what is opened here only a port to listen at can be refused.
            raise Failure(exc.strerror or str(exc), code=Exit.FAILED) from exc
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
    text = _why_away(tide) if away else str(error)
    return Failure(text + consequence, code=exit_of_error(error, state))


def _why_away(tide: Coordinator) -> str:
    """Return why etcd is away; if nobody answers, also what stands in the way, which may be an option of ours."""
    text = sentence(tide.health.diagnosis)
    errors = dict.fromkeys(member.error for member in tide.status().members if member.error)
    cut_off = tide.health.diagnosis is Diagnosis.CUT_OFF
    return f"{text} ({'; '.join(errors)})" if cut_off and errors else text


def print_json(record: object) -> None:
    """Print one line of JSON."""
    print_line(json.dumps(record))


def print_line(text: str | bytes) -> None:
    """Print a line.

    Args:
        text: The line; bytes which are no text may be in it as surrogate escapes.

    Raises:
        OutputGone: Nobody reads it any more, or it cannot be written.
    """
    try:
        click.echo(text.encode(errors="surrogateescape") if isinstance(text, str) else text)
    except BrokenPipeError as exc:
        raise OutputGone from exc
    except OSError as exc:
        raise OutputGone(f"the output cannot be written: {exc.strerror}") from exc


def note(text: str) -> None:
    """Tell people something that is not the output."""
    click.echo(f"tideover: {text}", err=True)
