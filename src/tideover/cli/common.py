"""What all commands share: running with a coordinator, and reporting what a command waits for."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any, TypeVar

import anyio
import anyio.lowlevel
import click

from tideover.cli.exit_codes import Exit, Failure, exit_of_error, usage_errors
from tideover.cli.printer import note, print_line
from tideover.cli.target import Target
from tideover.cluster.rules.health import sentence
from tideover.coordinator.coordinator import Coordinator
from tideover.errors import TideoverError, Unavailable
from tideover.etcd import raw_lines
from tideover.options import Options
from tideover.policies import Failsafe
from tideover.shown import quoted, shown
from tideover.types import Diagnosis, HealthState, Source

F = TypeVar("F", bound=Callable[..., Any])

# Seconds of waiting after which a command says what it waits for.
WAITED = 1.0
# Seconds for the first answer; members that refuse connections are recognised at once.
_START_TIMEOUT = 3.0


def json_option(command: F) -> F:
    """Add `--json` to a command."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, one object a line.")(command)


def color_option(command: F) -> F:
    """Add `--color` to a command; applies to everything printed while the command runs."""
    return click.option(
        "--color",
        type=click.Choice(["auto", "always", "never"]),
        default="auto",
        expose_value=False,
        is_eager=True,
        callback=_choose_color,
        help="Print colours: auto, to a terminal unless NO_COLOR is set.",
    )(command)


def _choose_color(ctx: click.Context, param: click.Parameter, given: str) -> None:
    # A value before the command's name applies unless there is one behind the name.
    if given != "auto":
        ctx.color = given == "always"


def options_of(target: Target, *, follow: Sequence[str] = (), failsafe: Failsafe | None = None) -> Options:
    """Return the options of a command's own coordinator, which never writes configuration to disk.

    Raises:
        click.UsageError: An option makes no sense.
    """
    with usage_errors():
        return Options(
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


def with_etcd(
    body: Callable[[Coordinator], Awaitable[int]],
    *,
    target: Target,
    follow: Sequence[str] = (),
    failsafe: Failsafe | None = None,
) -> int:
    """Connect, run `body`, close, and return the exit code."""
    # Every command reports its findings in its own words.
    raw_lines.silence()
    logging.getLogger("tideover").addHandler(logging.NullHandler())
    options = options_of(target, follow=follow, failsafe=failsafe)
    return anyio.run(partial(_run, Coordinator(options), body))


async def _run(tide: Coordinator, body: Callable[[Coordinator], Awaitable[int]]) -> int:
    async with AsyncExitStack() as stack:
        try:
            with usage_errors():  # files that exist but cannot be used
                await stack.enter_async_context(tide)
        except OSError as exc:
            # Only the port to listen at can be refused here.
            raise Failure(exc.strerror or str(exc), code=Exit.FAILED) from exc
        try:
            return await body(tide)
        except TideoverError as exc:
            raise failure(tide, exc) from exc


def failure(tide: Coordinator, error: TideoverError, *, consequence: str = "") -> Failure:
    """Return an error of tideover's as one line and an exit code."""
    state = tide.health.state
    away = isinstance(error, Unavailable) and state is not HealthState.AVAILABLE
    text = _why_away(tide) if away else str(error)
    return Failure(text + consequence, code=exit_of_error(error, state))


def _why_away(tide: Coordinator) -> str:
    """Return why etcd is away; if no member answers, also the errors, which may come from an option."""
    text = sentence(tide.health.diagnosis)
    errors = dict.fromkeys(member.error for member in tide.status().members if member.error)
    cut_off = tide.health.diagnosis is Diagnosis.CUT_OFF
    return f"{text} ({'; '.join(errors)})" if cut_off and errors else text


@asynccontextmanager
async def reporting(
    tide: Coordinator,
    what: str,
    *,
    after: float = 0.0,
    held_by: Callable[[], str] = str,
    then: Callable[[], Coroutine[Any, Any, object]] = anyio.lowlevel.checkpoint,
) -> AsyncIterator[Callable[[], None]]:
    """Report on stderr what a command waits for, and etcd's state, also each time that this changes.

    Args:
        after: Seconds of waiting before the first line.
        held_by: Returns the present holder, for people; empty if unknown.
        then: Reports more, after the first line and while waiting.

    Yields:
        A function that ends the reports.
    """
    scope = anyio.CancelScope()

    async def report() -> None:
        with scope:
            await anyio.sleep(after)
            holder = held_by()
            held = f"; held by {holder}" if holder else ""
            note(f"{sentence(tide.health.diagnosis)}; waiting for {shown(what)}{held}")
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(then)
                await _report_health(tide)

    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(report)
            try:
                yield scope.cancel
            finally:
                scope.cancel()
    except BaseExceptionGroup as group:
        # The body's own error, unwrapped.
        if len(group.exceptions) > 1:
            raise
        raise group.exceptions[0] from group.exceptions[0].__cause__


async def _report_health(tide: Coordinator) -> None:
    while True:
        state = tide.health.state
        async with anyio.create_task_group() as others:
            for other in set(HealthState) - {state}:
                others.start_soon(_until, tide, other, others.cancel_scope)
        note(sentence(tide.health.diagnosis))


async def _until(tide: Coordinator, state: HealthState, scope: anyio.CancelScope) -> None:
    await tide.health.wait_for(state)
    scope.cancel()


async def note_misspelled(tide: Coordinator, below: str) -> None:
    """Report if missing keys exist under the namespace's other spelling: `shop` and `/shop` are two."""
    found = await tide.namespaces.find_misspelled(below)
    if found is not None:
        own, other = tide.namespaces.own, tide.namespaces.other
        note(f"{own!r} and {other!r} are two namespaces, and etcd has {quoted(found)}: is -n {other} meant?")


async def end_list(tide: Coordinator, source: Source | None, what: str, *, below: str, as_json: bool) -> Exit:
    """Report the source of a printed list of keys below a prefix, such as `"locks/"`; return the exit code.

    That is `DEGRADED` if a surviving member knows no entries, which is no definite no.
    """
    if source is Source.QUORUM:
        return Exit.OK
    away = sentence(tide.health.diagnosis)
    if source is Source.MEMBER:
        note(f"{away}; the list is a surviving member's, and may be old")
        return Exit.OK
    if tide.health.state is not HealthState.AVAILABLE:
        note(f"{away}, and the surviving member knows no {what}")
        return Exit.DEGRADED
    if not as_json:
        print_line(f"no {what}")
    await note_misspelled(tide, below)
    return Exit.OK
