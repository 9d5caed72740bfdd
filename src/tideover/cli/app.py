"""The group of all commands; turns every error into one line and an exit code."""

from __future__ import annotations

import errno
import importlib
import os
import re
from collections.abc import Sequence
from typing import Any, NoReturn, cast

import click
from click.shell_completion import CompletionItem

from tideover.cli.common import color_option
from tideover.cli.exit_codes import HELP, Exit, Failure, OutputGone
from tideover.cli.printer import drop_output, flush, note, print_raw

# Command to its module and one line about it, so that `--help` imports no command.
_COMMANDS = {
    "demo": ("tideover.cli.demo.command", "See it work: a real cluster, a service under load, and an outage."),
    "status": ("tideover.cli.status", "Say how etcd is, as a client sees it."),
    "doctor": (
        "tideover.cli.doctor",
        "Check members, cluster, epoch, clocks, snapshots: can a service restart?",
    ),
    "lock": ("tideover.cli.lock", "Run a command while holding a lock; list locks, show one."),
    "lead": ("tideover.cli.lead", "Run a command while leading."),
    "election": ("tideover.cli.election", "List elections, look at one, or take its record away."),
    "config": ("tideover.cli.config", "Read, list, write, delete and watch configuration."),
    "namespaces": ("tideover.cli.namespaces", "List the namespaces that are in etcd."),
    "services": ("tideover.cli.services", "List the services that are registered."),
    "resolve": ("tideover.cli.resolve", "Print the endpoints of a service."),
    "fleet": ("tideover.cli.fleet", "Show how all instances of a service are, and what disagrees."),
    "assets": ("tideover.cli.assets", "Write the dashboard and alerts that come with tideover."),
    "cache": ("tideover.cli.cache", "List and check the snapshots on disk, import and export them."),
    "completion": ("tideover.cli.completion_script", "Print what lets bash, zsh or fish complete command lines."),
}
# Set by a shell that wants a command line completed.
VARIABLE = "_TIDEOVER_COMPLETE"
# What a group of commands raises when none of them is named; before click 8.2 it prints its help by itself.
_NO_COMMAND: Any = getattr(click.exceptions, "NoArgsIsHelpError", ())
# A user and a password before an endpoint's host, which click repeats in errors of other arguments.
_USER = re.compile(r"""(?:(\w+://)\S*|[^\s'"(=,]*(?::|%3A)\S*)(?:@|%40)""", re.IGNORECASE)


class Commands(click.Group):
    """A group that imports a command when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names, in the order of the help."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command; None if there is no such name."""
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(_COMMANDS[cmd_name][0])
        return cast("click.Command", module.command)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return the commands that begin so, without importing them, and the options."""
        named = ((name, line) for name, (_, line) in _COMMANDS.items() if name.startswith(incomplete))
        found = [CompletionItem(name, help=line) for name, line in named]
        return found + click.Command.shell_complete(self, ctx, incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in _COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or fail naming those there are."""
        if args and args[0] not in _COMMANDS and not args[0].startswith("-"):
            self._fail(ctx, args[0])
        return super().resolve_command(ctx, args)

    @staticmethod
    def _fail(ctx: click.Context, name: str) -> NoReturn:
        ctx.fail(f"no such command: {name!r}; there are {', '.join(_COMMANDS)}")


@click.group(cls=Commands, epilog=HELP, context_settings={"help_option_names": ["-h", "--help"]})
@color_option
@click.version_option(package_name="tideover", message="%(prog)s %(version)s")
def cli() -> None:
    """tideover keeps a service running while etcd is away; this looks at it from outside.

    Try `tideover demo` first.
    """


def run(args: Sequence[str] | None = None) -> int:
    """Run a command line, the process's own if None; return the exit code."""
    if VARIABLE in os.environ:
        importlib.import_module("tideover.cli.completion_script").prepare()
    try:
        try:
            code = cli.main(args, prog_name="tideover", standalone_mode=False)
        except _NO_COMMAND as exc:
            print_raw(exc.ctx.get_help())
            code = Exit.OK
        except OSError as exc:
            # Help and version are printed by click itself; all other output comes from `printer`.
            if exc.errno != errno.ENOSPC:
                raise
            raise OutputGone(f"the output cannot be written: {exc.strerror}") from exc
        flush()
    except (click.Abort, KeyboardInterrupt):
        return Exit.INTERRUPTED
    except click.UsageError as exc:
        path = exc.ctx.command_path if exc.ctx else "tideover"
        _complain(f"{exc.format_message().rstrip('.')}; see `{path} --help`")
        return Exit.USAGE
    except click.ClickException as exc:
        _complain(exc.format_message())
        return exc.exit_code
    except Failure as exc:
        _complain(str(exc))
        return exc.code
    except (OutputGone, BrokenPipeError) as exc:
        drop_output()
        if isinstance(exc, OutputGone) and exc.args:
            _complain(str(exc))
            return Exit.FAILED
        return Exit.PIPE
    return code if isinstance(code, int) else Exit.OK


def _complain(message: str) -> None:
    # Click repeats an endpoint given in the wrong place, with its password.
    note(_USER.sub(lambda found: f"{found[1] or ''}...@", message))
