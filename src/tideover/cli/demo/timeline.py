"""What the demo prints: a line for everything that happens, when it happens."""

from __future__ import annotations

import json
import os
import textwrap
import time
from typing import IO

import click

from tideover.cli.exit_codes import OutputGone

_COLOURS = {"live": "green", "member": "yellow", "memory": "yellow", "disk": "magenta", "default": "red"}


# The width of a terminal that was never made wider.
_COLUMNS = 80


class NotHeld(Exception):
    """Raised when the demo does not go as promised; the message says what did not hold."""


class Timeline:
    """Prints what happens: text for people, or one JSON object a line.

    Args:
        out: Where to.
        as_json: Whether JSON.
    """

    def __init__(self, out: IO[str], *, as_json: bool) -> None:
        self._out = out
        self._as_json = as_json
        self._began = time.monotonic()
        terminal = out.isatty() and os.environ.get("TERM") != "dumb"
        self._coloured = terminal and not os.environ.get("NO_COLOR")

    def __repr__(self) -> str:
        """Show for how long it has been running."""
        return f"<Timeline {self.seconds:.1f} s>"

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._began

    def happened(self, event: str, text: str, **fields: object) -> None:
        """Print an event.

        Args:
            event: Its name, for programs.
            text: What happened, for people; may have several lines.
            fields: More, for programs.
        """
        seconds = round(self.seconds, 3)
        if self._as_json:
            self._write(json.dumps({"event": event, "seconds": seconds, "text": " ".join(text.split()), **fields}))
            return
        width = _COLUMNS - len(self._time()) - 2
        first, *rest = [part for line in text.splitlines() for part in _wrap(line, width)]
        self._write(f"{self._time()}  {self._style(first, bold=True)}")
        for line in rest:
            self._write(f"{'':7}  {line}")

    def answers(
        self, *, phase: str, etcd: str, source: str, age: float | None, price: float, per_second: int, failed: int
    ) -> None:
        """Print what the answers are like now."""
        if self._as_json:
            fields = {"etcd": etcd, "source": source, "age": age, "price": price}
            counts = {"requests_per_second": per_second, "failed": failed}
            seconds = round(self.seconds, 3)
            self._write(json.dumps({"event": "answers", "seconds": seconds, "phase": phase, **fields, **counts}))
            return
        synced = "never synced" if age is None else f"synced {age:4.1f} s ago"
        failures = self._style(f"{failed} failed", fg="red" if failed else None)
        self._write(
            f"{self._time()}  etcd {etcd:<11}  {self._style(f'{source:<6}', fg=_COLOURS.get(source))}  {synced}"
            f"  tea {price:.2f}  {per_second:>3}/s  {failures}"
        )

    def say(self, text: str = "") -> None:
        """Print a line that is for people only."""
        if not self._as_json:
            self._write("\n".join(part for line in text.split("\n") for part in _wrap(line, _COLUMNS)))

    def record(self, event: str, **fields: object) -> None:
        """Print a line that is for programs only."""
        if self._as_json:
            self._write(json.dumps({"event": event, **fields}))

    def _time(self) -> str:
        return f"{self.seconds:5.1f} s"

    def _style(self, text: str, *, fg: str | None = None, bold: bool = False) -> str:
        return click.style(text, fg=fg, bold=bold) if self._coloured else text

    def _write(self, line: str) -> None:
        try:
            self._out.write(line + "\n")
            self._out.flush()
        except OSError as exc:
            raise OutputGone(str(exc)) from exc


def _wrap(line: str, width: int) -> list[str]:
    """Break a line between words; an address or a command to copy stays whole, and an indented one is one."""
    if line.startswith("    "):
        return [line]
    indent = line[: len(line) - len(line.lstrip())]
    return textwrap.wrap(
        line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    ) or [line]
