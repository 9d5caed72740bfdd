"""`tideover lead`: run a command while leading."""

from __future__ import annotations

import math
from functools import partial

import anyio
import click

from tideover.cli.common import note, with_etcd
from tideover.cli.exit_codes import Exit
from tideover.cli.failsafe_options import failsafe_options
from tideover.cli.run_command import CommandRun, if_killed_option
from tideover.cli.target import Target, etcd_options
from tideover.coordinator.coordinator import Coordinator
from tideover.elections.rules.candidate import margin_of
from tideover.errors import LeadershipLost
from tideover.policies import Failsafe


@click.command("lead", context_settings={"ignore_unknown_options": True})
@etcd_options
@click.option(
    "--ttl", type=click.FloatRange(min=4.5, min_open=True), default=15, show_default=True, help="Seconds."
)
@click.option("--timeout", type=click.FloatRange(min=0), default=None, help="Seconds to wait; without: for ever.")
@click.option(
    "--on-outage",
    type=click.Choice(["step_down", "stay", "peers"]),
    default="step_down",
    show_default=True,
    help="What to do while etcd is away; the same for all candidates.",
)
@failsafe_options
@if_killed_option
@click.option("--address", default="", help="Where this process can be reached, for others to see.")
@click.option("--value", default="", help="What else others are to see.")
@click.argument("name")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def command(
    target: Target,
    name: str,
    command: tuple[str, ...],
    ttl: float,
    timeout: float | None,
    on_outage: str,
    if_killed: str,
    address: str,
    value: str,
    failsafe: Failsafe | None,
) -> int:
    """Wait until elected, then run COMMAND: tideover lead reaper -- ./reap.sh

    The command finds TIDEOVER_TERM_TOKEN and TIDEOVER_TERM_EPOCH in its environment. If the leadership is lost it
    gets SIGTERM, and SIGKILL before another one leads. Signals that would end tideover are passed on to it. When
    it has ended the office is given up.

    With --on-outage peers a leader that cannot renew goes on as long as all other candidates confirm it. They
    share a secret, and each listens at a port of its own: --on-outage peers --secret-file /etc/reaper.secret

    Exits with the command's own code; 1 if the leadership was lost, or nobody was elected here in time, 5 if the
    election has another policy.
    """
    # The body is cancelled at the deadline, and two margins later another one may lead.
    run = CommandRun(command, grace=margin_of(ttl), if_killed=if_killed)
    body = partial(
        _lead,
        name=name,
        run=run,
        ttl=ttl,
        timeout=timeout,
        on_outage=on_outage,
        address=address,
        value=value,
    )
    return with_etcd(body, target=target, follow=(), failsafe=failsafe)


async def _lead(
    tide: Coordinator,
    *,
    name: str,
    run: CommandRun,
    ttl: float,
    timeout: float | None,
    on_outage: str,
    address: str,
    value: str,
) -> int:
    try:
        leadership = tide.leader(name, ttl=ttl, on_outage=on_outage, address=address, value=value)  # type: ignore[arg-type]
    except ValueError as exc:
        raise click.UsageError(str(exc)) from exc
    try:
        with run:
            with anyio.move_on_after(timeout) as waiting:
                async with leadership as term:
                    waiting.deadline = math.inf
                    await run.run({"TIDEOVER_TERM_TOKEN": str(term.token), "TIDEOVER_TERM_EPOCH": str(term.epoch)})
            if waiting.cancelled_caught:
                note(f"{name!r}: not elected within {timeout:g} s")
    except LeadershipLost as exc:
        note(str(exc))
        return Exit.FAILED
    return run.code
