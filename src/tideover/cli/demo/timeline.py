"""What the demo prints: a line for everything that happens, when it happens."""

from __future__ import annotations

import textwrap
import time
from typing import IO

from tideover.cli.printer import Styled, print_json, print_line

_COLOURS = {"live": "green", "member": "yellow", "memory": "yellow", "disk": "magenta", "default": "red"}


# The width of a terminal that was never made wider.
_COLUMNS = 80


class NotHeld(Exception):
    """Raised when the demo does not go as promised; the message says what did not hold."""


class Timeline:
    """Prints what happens: text for people, or one JSON object a line."""

    def __init__(self, out: IO[str], *, as_json: bool) -> None:
        self._out = out
        self._as_json = as_json
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._began

    def happened(self, event: str, text: str, **fields: object) -> None:
        """Print an event."""
        seconds = round(self.seconds, 3)
        if self._as_json:
            self._record({"event": event, "seconds": seconds, "text": " ".join(text.split()), **fields})
            return
        width = _COLUMNS - len(self._time()) - 2
        first, *rest = [part for line in text.splitlines() for part in _wrap(line, width)]
        print_line(f"{self._time()}  ", Styled(first, bold=True), to=self._out)
        for line in rest:
            print_line(f"{'':7}  {line}", to=self._out)

    def answers(
        self, *, phase: str, etcd: str, source: str, age: float | None, price: float, per_second: int, failed: int
    ) -> None:
        """Print what the answers are like now."""
        if self._as_json:
            fields = {"etcd": etcd, "source": source, "age": age, "price": price}
            counts = {"requests_per_second": per_second, "failed": failed}
            seconds = round(self.seconds, 3)
            self._record({"event": "answers", "seconds": seconds, "phase": phase, **fields, **counts})
            return
        synced = "never synced" if age is None else f"synced {age:4.1f} s ago"
        print_line(
            f"{self._time()}  etcd {etcd:<11}  ",
            Styled(f"{source:<6}", colour=_COLOURS.get(source)),
            f"  {synced}  tea {price:.2f}  {per_second:>3}/s  ",
            Styled(f"{failed} failed", colour="red" if failed else None),
            to=self._out,
        )

    def print_text(self, text: str = "") -> None:
        """Print a line that is for people only."""
        if not self._as_json:
            for line in [part for each in text.split("\n") for part in _wrap(each, _COLUMNS)]:
                print_line(line, to=self._out)

    def record(self, event: str, **fields: object) -> None:
        """Print a line that is for programs only."""
        if self._as_json:
            self._record({"event": event, **fields})

    def _time(self) -> str:
        return f"{self.seconds:5.1f} s"

    def _record(self, record: dict[str, object]) -> None:
        print_json(record, to=self._out)


def _wrap(line: str, width: int) -> list[str]:
    """Break a line between words; an address or a command to copy stays whole, and an indented one is one."""
    if line.startswith("    "):
        return [line]
    indent = line[: len(line) - len(line.lstrip())]
    return textwrap.wrap(
        line, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    ) or [line]
