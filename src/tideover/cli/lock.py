"""`tideover lock`: run a command while holding a lock, or look at locks.

`lock list` and `lock show NAME` are commands of their own, unless there is a `--`: then the word is the name of a
lock, and what follows is run.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import anyio
import click

from tideover.cli.common import WAITED, note_misspelled, reporting, with_etcd
from tideover.cli.exit_codes import Exit, usage_errors
from tideover.cli.lock_show import list_locks, show
from tideover.cli.printer import note
from tideover.cli.run_command import CommandRun, if_killed_option, on_outage_option, timeout_option
from tideover.cli.target import Target, etcd_options
from tideover.coordinator.coordinator import Coordinator, life_of
from tideover.coordinator.survey import survey
from tideover.errors import LockConflict, LockLost, TideoverError
from tideover.locks.lock import Held
from tideover.shown import shown
from tideover.types import LockMode

# Seconds a command has to end by itself when the lock is lost.
_GRACE = 5.0
# How many foreign keys in the line are named.
_MOST_FOREIGN = 3


class _Lock(click.Command):
    """Runs a command, unless the first word is `list` or `show`."""

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        """Parse the arguments of this command, or of `list` or `show`."""
        looks = _LOOKS.get(args[0]) if args and "--" not in args else None
        if looks is None:
            return super().make_context(info_name, args, parent, **extra)
        return looks.make_context(f"{info_name} {args[0]}", args[1:], parent, **extra)


_LOOKS = {"list": list_locks, "show": show}


@click.command("lock", cls=_Lock, context_settings={"ignore_unknown_options": True})
@etcd_options
@click.option("--ttl", type=click.IntRange(min=5), default=15, show_default=True, help="Seconds after a crash.")
@timeout_option
@on_outage_option("fail", "wait", "local", text="What to do while etcd is away.")
@if_killed_option
@click.argument(
    "name", shell_complete=lambda ctx, param, typed: [word for word in _LOOKS if word.startswith(typed)]
)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def command(target: Target, name: str, command: tuple[str, ...], if_killed: str, **options: Any) -> int:
    """Run COMMAND while holding the lock NAME: tideover lock deploy -- ./deploy.sh

    To look instead: tideover lock list, tideover lock show NAME.

    The command finds TIDEOVER_LOCK_TOKEN and TIDEOVER_LOCK_EPOCH in its environment; both are empty for a LOCAL
    lock. If the lock is lost it gets SIGTERM, and 5 s later SIGKILL. Signals that would end tideover are passed on
    to it.

    Says on stderr what it waits for, if it must. Exits with the command's own code; 1 if the lock was lost or not
    obtained in time, 3 or 4 if etcd is away, 127 if there is no such command, 126 if it cannot be run.
    """
    run = CommandRun(command, grace=_GRACE, if_killed=if_killed)
    return with_etcd(partial(_hold, name=name, run=run, **options), target=target)


async def _hold(tide: Coordinator, *, name: str, run: CommandRun, **options: Any) -> int:
    with usage_errors():
        lock = tide.lock(name, **options)
    line = f"locks/{name}/"
    what = f"the lock {name!r}, {tide.namespace}/{line} in etcd"
    then = partial(_report_foreign, tide, line, lambda: lock.held_by)
    try:
        with run:
            await note_misspelled(tide, line)
            waiting = reporting(tide, what, after=WAITED, held_by=lambda: lock.held_by, then=then)
            async with waiting as obtained, lock as held:
                obtained()
                await run.run(_environment(held))
    except (LockLost, LockConflict) as exc:
        note(str(exc))
        return Exit.FAILED
    return run.code


async def _report_foreign(tide: Coordinator, line: str, held_by: Callable[[], str]) -> None:
    """Report foreign keys in the lock's queue: once, as no key comes before a waiter afterwards.

    The waiter itself reports the first key of the queue, and the key right before its own.
    """
    while True:
        with suppress(TideoverError):
            found = await survey(life_of(tide).parts.client, line)
            break
        await anyio.sleep(WAITED)
    prefix = f"{tide.namespace}/{line}"
    foreign = [each for each in found.named if "/" not in each.key.removeprefix(prefix)]
    for each in foreign[:_MOST_FOREIGN]:
        if shown(each.key) not in held_by():
            note(f"foreign key {shown(each.key)}, at revision {each.revision}: {each.reason}")
    more = len(foreign) - _MOST_FOREIGN + found.more
    if more > 0:
        note(f"and {more} more: see `tideover doctor`")


def _environment(held: Held) -> dict[str, str]:
    """Return the command's environment variables; report a lock that is LOCAL."""
    distributed = held.mode is LockMode.DISTRIBUTED
    if not distributed:
        note(f"lock {held.name!r} is held LOCAL, because etcd is away")
    return {
        "TIDEOVER_LOCK_TOKEN": str(held.token) if distributed else "",
        "TIDEOVER_LOCK_EPOCH": str(held.epoch) if distributed else "",
    }
