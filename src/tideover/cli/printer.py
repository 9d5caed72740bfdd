"""The only way from a command to standard output, standard error and the terminal.

What a command prints may have been written by anybody: keys and values in etcd, names of files, errors of servers
and of click, which repeats arguments. So all of it passes through here, a line at a time, and is escaped and cut:
no text gives orders to the terminal, and none begins a line of its own. JSON has the text as it is, in JSON's own
escapes. `print_raw` alone prints bytes as they are, for `config get`, whose output is the value; what only we have
written, such as a script, is printed as it is, too.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import traceback
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from types import TracebackType
from typing import IO

import click

from tideover.cli.exit_codes import OutputGone
from tideover.shown import cut, shown_line

# Characters of a text in JSON that nobody has asked for; a path in the file system has no more.
LONGEST_TEXT = 4096
# Take a terminal to its upper left corner, and empty the rest of a line, or of all: what stays does not flicker.
_HOME, _END_OF_LINE, _END_OF_ALL = "\x1b[H", "\x1b[K\n", "\x1b[J"


@dataclass(frozen=True, slots=True)
class Styled:
    """A part of a line with a colour or weight of our own, where the output is a terminal."""

    text: str
    colour: str | None = None
    bold: bool = False


def print_line(*parts: str | Styled, to: IO[str] | None = None) -> None:
    """Print a line: its parts, escaped and cut.

    Args:
        parts: What it is made of.
        to: Where to, if not standard output.

    Raises:
        OutputGone: Nobody reads it any more, or it cannot be written.
    """
    coloured = has_colour(to)
    _write("".join(_rendered(part, coloured) for part in parts), to)


def has_colour(to: IO[str] | None = None) -> bool:
    """Whether colours are printed: as `--color` says, else to a terminal that can, unless NO_COLOR forbids it.

    Args:
        to: Where to, if not standard output.
    """
    ctx = click.get_current_context(silent=True)
    if ctx is not None and ctx.color is not None:
        return ctx.color
    return not os.environ.get("NO_COLOR") and is_terminal(to)


def is_terminal(to: IO[str] | None = None) -> bool:
    """Whether a stream is a terminal that does more than print lines.

    Args:
        to: The stream, if not standard output.
    """
    stream = sys.stdout if to is None else to
    return stream is not None and stream.isatty() and os.environ.get("TERM") != "dumb"


def print_screen(lines: Iterable[Sequence[str | Styled]]) -> None:
    """Show lines in place of all that a terminal has shown: as many as there is room for, each cut to its width.

    Args:
        lines: The lines, each with its parts.

    Raises:
        OutputGone: As `print_line`.
    """
    width, height = shutil.get_terminal_size()
    text, coloured = _HOME, has_colour()
    for parts in islice(lines, height - 1):
        left = width
        for part in parts:
            plain = shown_line(_plain(part))[:left]
            left -= len(plain)
            text += _rendered(plain if isinstance(part, str) else replace(part, text=plain), coloured)
        text += _END_OF_LINE
    _write(text + _END_OF_ALL, newline=False)


def print_raw(value: bytes) -> None:
    """Print bytes as they are, and a newline: orders to a terminal that are among them are carried out.

    Raises:
        OutputGone: As `print_line`.
    """
    _write(value)


def print_json(record: Mapping[str, object], *, whole: Collection[str] = (), to: IO[str] | None = None) -> None:
    """Print an object as a line of JSON, in ASCII; texts in it are cut at `LONGEST_TEXT` characters.

    Args:
        record: The object.
        whole: The members whose texts are not cut, because they are what was asked for.
        to: Where to, if not standard output.

    Raises:
        OutputGone: As `print_line`.
    """
    _write(json.dumps({name: held if name in whole else _bounded(held) for name, held in record.items()}), to)


def print_script(text: str) -> None:
    """Print several lines that only we have written.

    Raises:
        OutputGone: As `print_line`.
    """
    _write(text)


def note(text: str) -> None:
    """Tell people something that is not the output, in one line on standard error; no matter if nobody hears."""
    with suppress(OSError):
        click.echo(f"tideover: {shown_line(text)}", err=True)


class Notes(logging.Handler):
    """Notes what libraries log that nobody else takes: it goes to standard error as it is otherwise."""

    def emit(self, record: logging.LogRecord) -> None:
        """Note the line, without a traceback."""
        note(f"{record.name}: {record.getMessage()}")


def print_crash(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print a traceback, as `sys.excepthook` does, each line escaped: an error may quote anything."""
    for part in traceback.format_exception(kind, error, trace):
        # Where something was has lines of its own; what was said of it is one.
        for line in part.splitlines() if part.lstrip(" |").startswith("File ") else [part.rstrip("\n")]:
            click.echo(shown_line(line), err=True)


def print_help(ctx: click.Context) -> None:
    """Print what click says of a command; only we have written in it.

    Raises:
        OutputGone: As `print_line`.
    """
    _write(ctx.get_help())


def ask(question: str) -> bool:
    """Ask a person at the terminal, on standard error."""
    return click.confirm(shown_line(question), default=False, err=True)


def ask_password(question: str) -> str:
    """Ask a person at the terminal for what is not shown while it is typed."""
    asked: str = click.prompt(shown_line(question), hide_input=True, err=True, default="", show_default=False)
    return asked


def flush() -> None:
    """Write what is still held back."""
    if sys.stdout is not None:  # closed by the process that started this
        sys.stdout.flush()


def drop_output() -> None:
    """Let the interpreter flush what is left into nothing, or it would complain at exit."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, sys.stdout.fileno())


def _rendered(part: str | Styled, coloured: bool) -> str:
    text = shown_line(_plain(part))
    if isinstance(part, str) or not coloured:
        return text
    return click.style(text, fg=part.colour, bold=part.bold or None)


def _plain(part: str | Styled) -> str:
    return part if isinstance(part, str) else part.text


def _bounded(value: object) -> object:
    if isinstance(value, str):
        return cut(value, LONGEST_TEXT)
    if isinstance(value, dict):
        return {_bounded(name): _bounded(held) for name, held in value.items()}
    if isinstance(value, list | tuple):
        return [_bounded(each) for each in value]
    return value


def _write(line: str | bytes, to: IO[str] | None = None, *, newline: bool = True) -> None:
    try:
        # As bytes, whatever the locale is; a stream that was handed in takes text.
        click.echo(line.encode() if isinstance(line, str) and to is None else line, file=to, nl=newline)
    except BrokenPipeError as exc:
        raise OutputGone from exc
    except OSError as exc:
        raise OutputGone(f"the output cannot be written: {exc.strerror}") from exc
