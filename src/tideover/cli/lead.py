"""`tideover lead`: run a command while leading."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import anyio
import click

from tideover.cli.common import WAITED, note_misspelled, reporting, with_etcd
from tideover.cli.exit_codes import Exit, exit_of_state, usage_errors
from tideover.cli.failsafe_options import failsafe_options
from tideover.cli.printer import note
from tideover.cli.run_command import CommandRun, if_killed_option, on_outage_option, timeout_option
from tideover.cli.seconds import Seconds
from tideover.cli.target import Target, etcd_options
from tideover.cluster.rules.health import sentence
from tideover.coordinator.coordinator import Coordinator
from tideover.elections.rules.candidate import margin_of
from tideover.errors import LeadershipLost
from tideover.policies import Failsafe
from tideover.types import HealthState


@click.command("lead", context_settings={"ignore_unknown_options": True})
@etcd_options
@click.option("--ttl", type=Seconds(min=4.5, min_open=True), default=15, show_default=True, help="Seconds.")
@timeout_option
@on_outage_option("step_down", "stay", "peers", text="What to do while etcd is away; the same for all candidates.")
@failsafe_options
@if_killed_option
@click.option("--address", default="", help="Where this process can be reached, for others to see.")
@click.option("--value", default="", help="A value for others to see.")
@click.argument("name")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def command(
    target: Target,
    name: str,
    command: tuple[str, ...],
    timeout: float | None,
    if_killed: str,
    failsafe: Failsafe | None,
    **options: Any,
) -> int:
    """Wait until elected, then run COMMAND: tideover lead reaper -- ./reap.sh

    The command finds TIDEOVER_TERM_TOKEN and TIDEOVER_TERM_EPOCH in its environment. If the leadership is lost it
    gets SIGTERM, and SIGKILL before another process leads. Signals that would end tideover are passed on to it.
    The process resigns when the command has ended.

    With --on-outage peers a leader that cannot renew goes on as long as all other candidates confirm it. They
    share a secret, and each listens at a port of its own: --on-outage peers --secret-file /etc/reaper.secret

    Says on stderr what it waits for. Exits with the command's own code; 1 if the leadership was lost, or another
    one leads until the timeout, 3 or 4 if etcd is away then, 5 if the election has another policy, 127 if there is
    no such command, 126 if it cannot be run.
    """
    # The body is cancelled at the deadline, and two margins later another one may lead.
    run = CommandRun(command, grace=margin_of(options["ttl"]), if_killed=if_killed)
    body = partial(_lead, name=name, run=run, timeout=timeout, **options)
    return with_etcd(body, target=target, failsafe=failsafe)


async def _lead(tide: Coordinator, *, name: str, run: CommandRun, timeout: float | None, **options: Any) -> int:
    with usage_errors():
        leadership = tide.leader(name, **options)
    what = f"the leadership of {name!r}, {tide.namespace}/elections/{name} in etcd"
    try:
        with run:
            await note_misspelled(tide, f"elections/{name}")
            async with reporting(tide, what, after=WAITED, held_by=lambda: leadership.held_by) as elected:
                with anyio.move_on_after(timeout) as waiting:
                    async with leadership as term:
                        elected()
                        waiting.deadline = math.inf
                        token, epoch = str(term.token), str(term.epoch)
                        await run.run({"TIDEOVER_TERM_TOKEN": token, "TIDEOVER_TERM_EPOCH": epoch})
            if waiting.cancelled_caught:
                return _not_elected(tide, name, timeout, leadership.held_by)
    except LeadershipLost as exc:
        note(str(exc))
        return Exit.FAILED
    return run.code


def _not_elected(tide: Coordinator, name: str, timeout: float | None, leader: str) -> int:
    text = f"{name!r}: not elected within {timeout:g} s"
    if tide.health.state is HealthState.AVAILABLE:
        note(f"{text}: {leader} leads" if leader else text)
        return Exit.FAILED
    # No definite no.
    note(f"{text}, because {sentence(tide.health.diagnosis)}")
    return exit_of_state(tide.health.state)
