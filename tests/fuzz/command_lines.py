"""Arguments of the command line, up to the moment at which a command would begin."""

from __future__ import annotations

import math
import shlex
from contextlib import nullcontext, redirect_stderr, redirect_stdout
from io import StringIO

import click

from tests.fuzz.reader import Reader
from tideover.cli.app import cli

SEEDS = (
    "status -e 10.0.0.7:2379 -n /shop --json",
    "doctor -e https://a:1,b:2",
    "lock --ttl 15 --timeout 1.5 --on-outage wait orders -- true",
    "lead --ttl 15 --on-outage peers --listen 0.0.0.0:0 --advertise h:1 --confirm-limit 3600 reaper true",
    "lock --timeout nan orders true",
    "lead --timeout nan --ttl nan reaper true",
    "config put rate -- -1",
    "config get rate --user root",
    "config watch rates/",
    "election show reaper",
    "services --json",
    "resolve api",
    "cache list",
    "namespaces --password-file /nowhere",
)


def _words(raw: bytes) -> list[str]:
    text = raw.decode(errors="surrogateescape")
    try:
        return shlex.split(text)
    except ValueError:
        return text.split()


def parse(raw: bytes) -> object:
    """Find the command and check its arguments, without running it."""
    words = _words(raw)
    command: click.Command = cli
    context = click.Context(command, info_name="tideover")
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        while isinstance(command, click.Group) and words:
            name, found, words = command.resolve_command(context, words)
            assert found is not None
            command = found
            context = click.Context(command, info_name=name, parent=context)
        params = command.make_context(context.info_name, words, parent=context.parent).params
    assert not any(isinstance(params.get(name), float) and math.isnan(params[name]) for name in ("ttl", "timeout"))
    return params


def _checked(raw: bytes) -> object:
    try:
        return parse(raw)
    except click.exceptions.Exit:
        return None
    except click.ClickException as exc:
        # It is told to people.
        return exc.format_message().encode(errors="surrogateescape")


COMMAND_LINES = (
    Reader("command line", lambda: nullcontext(_checked), (), tuple(seed.encode() for seed in SEEDS), cost=3),
)
