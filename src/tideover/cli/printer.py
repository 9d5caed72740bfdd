"""The only way from a command to standard output, standard error and the terminal.

Much of a command's output is foreign text: keys and values in etcd, names of files, errors of servers and of
click, which repeats arguments. So all output passes through here, a line at a time, and is escaped and cut: no
text gives orders to the terminal, and none begins a line of its own. JSON has the whole text, in JSON's own
escapes. `print_raw` alone escapes nothing: for `config get`, whose output is the value, and for text of our own,
such as a script. Each function that prints to standard output raises `OutputGone` when the reader has gone, or the
output cannot be written.
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

# Characters of a text in JSON, unless the command asks for all; no path in the file system is longer.
LONGEST_TEXT = 4096
# Move to the upper left corner, and clear the rest of a line, or of the screen: the rest does not flicker.
_HOME, _END_OF_LINE, _END_OF_ALL = "\x1b[H", "\x1b[K\n", "\x1b[J"


@dataclass(frozen=True, slots=True)
class Styled:
    """A part of a line with a colour or weight of our own, where the output is a terminal."""

    text: str
    colour: str | None = None
    bold: bool = False


def print_line(*parts: str | Styled, to: IO[str] | None = None) -> None:
    """Print a line of parts, escaped and cut, to standard output if `to` is None."""
    coloured = has_colour(to)
    _write("".join(_rendered(part, coloured) for part in parts), to)


def has_colour(to: IO[str] | None = None) -> bool:
    """Whether to print colours: as `--color` says, else to a capable terminal, unless NO_COLOR is set."""
    ctx = click.get_current_context(silent=True)
    if ctx is not None and ctx.color is not None:
        return ctx.color
    return not os.environ.get("NO_COLOR") and is_terminal(to)


def is_terminal(to: IO[str] | None = None) -> bool:
    """Whether a stream, standard output if None, is a terminal with more than plain lines."""
    stream = sys.stdout if to is None else to
    return stream is not None and stream.isatty() and os.environ.get("TERM") != "dumb"


def print_screen(lines: Iterable[Sequence[str | Styled]]) -> None:
    """Show lines on a cleared terminal: as many as fit, each cut to its width."""
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


def print_raw(value: str | bytes) -> None:
    """Print our own text, or raw bytes, and a newline: a terminal obeys control characters among them."""
    _write(value)


def print_json(record: Mapping[str, object], *, whole: Collection[str] = (), to: IO[str] | None = None) -> None:
    """Print an object as a line of JSON, in ASCII; texts in it are cut at `LONGEST_TEXT` characters."""
    _write(json.dumps({name: held if name in whole else _bounded(held) for name, held in record.items()}), to)


def note(text: str) -> None:
    """Print a line for people on standard error; a closed one is ignored."""
    with suppress(OSError):
        click.echo(f"tideover: {shown_line(text)}", err=True)


class Notes(logging.Handler):
    """Prints log lines of libraries without a handler of their own, escaped, on standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        """Note the line, without a traceback."""
        note(f"{record.name}: {record.getMessage()}")


def print_crash(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print a traceback, as `sys.excepthook` does, each line escaped: an error may quote anything."""
    for part in traceback.format_exception(kind, error, trace):
        # The place of a frame has lines of its own; the message is one line.
        for line in part.splitlines() if part.lstrip(" |").startswith("File ") else [part.rstrip("\n")]:
            click.echo(shown_line(line), err=True)


def ask(question: str) -> bool:
    """Ask a person at the terminal, on standard error."""
    return click.confirm(shown_line(question), default=False, err=True)


def ask_password(question: str) -> str:
    """Ask a person at the terminal for a hidden input."""
    asked: str = click.prompt(shown_line(question), hide_input=True, err=True, default="", show_default=False)
    return asked


def flush() -> None:
    """Flush standard output."""
    if sys.stdout is not None:  # closed by the process that started this
        sys.stdout.flush()


def drop_output() -> None:
    """Discard unflushed output, about which the interpreter would complain at exit."""
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
        # As bytes, independent of the locale; a given stream takes text.
        click.echo(line.encode() if isinstance(line, str) and to is None else line, file=to, nl=newline)
    except BrokenPipeError as exc:
        raise OutputGone from exc
    except OSError as exc:
        raise OutputGone(f"the output cannot be written: {exc.strerror}") from exc
