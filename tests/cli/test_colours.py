"""Colours and tables: coloured only where a person looks, and aligned whatever is coloured."""

from __future__ import annotations

import io
import re
import sys

import click
import pytest

from tideover.cli.app import run
from tideover.cli.printer import Styled, has_colour, is_terminal, print_line
from tideover.cli.tables import Table


class Terminal(io.StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        """Say that it is one."""
        return True


def test_a_terminal_is_coloured_unless_it_should_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """NO_COLOR forbids it, unless it is empty (no-color.org); TERM=dumb does, and is no screen either."""
    out = Terminal()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert (has_colour(out), is_terminal(out)) == (True, True)
    monkeypatch.setenv("NO_COLOR", "")
    assert has_colour(out)
    monkeypatch.setenv("NO_COLOR", "1")
    assert (has_colour(out), is_terminal(out)) == (False, True)
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert (has_colour(out), is_terminal(out)) == (False, False)
    assert not has_colour(io.StringIO())
    monkeypatch.setattr(sys, "stdout", None)
    assert not has_colour()


def test_the_option_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the command's name `always` colours a pipe in spite of NO_COLOR, and `never` nothing."""
    seen = []

    @click.command("probe")
    def probe() -> None:
        seen.append(has_colour())

    monkeypatch.setattr("tideover.cli.app.Commands.get_command", lambda self, ctx, name: probe)
    monkeypatch.setenv("NO_COLOR", "1")
    assert run(["--color", "never", "status"]) == 0
    assert run(["--color", "always", "status"]) == 0
    assert run(["status"]) == 0
    assert seen == [False, True, False]
    assert run(["--color", "blue", "status"]) == 2


@pytest.mark.parametrize(("color", "coloured"), [("always", True), ("never", False), ("auto", False)])
def test_a_command_takes_it_too(color: str, coloured: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """Behind its own name; and JSON is never coloured."""
    assert run(["doctor", "-e", "127.0.0.1:1", "--color", color]) == 4
    assert ("\x1b[" in capsys.readouterr().out) == coloured
    assert run(["doctor", "-e", "127.0.0.1:1", "--color", color, "--json"]) == 4
    assert "\x1b" not in capsys.readouterr().out


def test_only_our_own_words_are_coloured() -> None:
    """What others wrote is escaped within a colour, too."""
    out = Terminal()
    with click.Context(click.Command("x")) as ctx:
        ctx.color = True
        print_line(Styled("\x1b[2J", "red"), " \x1b[2J", to=out)
    assert out.getvalue() == "\x1b[31m\\x1b[2J\x1b[0m \\x1b[2J\n"


def test_a_table_is_aligned(capsys: pytest.CaptureFixture[str]) -> None:
    """By what is seen of a cell; a very long one does not make all others wide; no line has blanks at its end."""
    table = Table("NAME", "STATE", "WHO")
    table.add("a", Styled("held", "green"), "host:1")
    table.add("n" * 100, "free", "-")
    table.flush()
    table.flush()
    lines = capsys.readouterr().out.splitlines()
    assert [re.split(" {2,}", line) for line in lines] == [
        ["NAME", "STATE", "WHO"],
        ["a", "held", "host:1"],
        ["n" * 100, "free", "-"],
    ]
    assert lines[0].index("STATE") == lines[1].index("held") == 62
    assert not [line for line in lines if line.endswith(" ")]


def test_a_table_without_a_line_has_no_headings(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is printed."""
    Table("NAME").flush()
    assert capsys.readouterr().out == ""
