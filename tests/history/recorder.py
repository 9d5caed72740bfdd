"""Recording a history: append-only JSON lines, one file per process, written with one system call each.

Guarantee: what `record` has returned for is in the file, whatever kills the process. A line cut short by a crash
of the process can only be the last of its file, and `read_history` leaves it out. Not guaranteed: anything after
a crash of the machine; nothing is synced.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.history.events import Event


def machine_clock() -> float:
    """Return seconds on CLOCK_MONOTONIC, which all processes of a machine share."""
    return time.clock_gettime(time.CLOCK_MONOTONIC)


class Recorder:
    """Appends the events of this process to its own file in a folder.

    Args:
        folder: Where the histories of all processes are; made if missing.
        process: What to call this process in reports.
        clock: The machine's monotonic clock.
    """

    def __init__(
        self, folder: str | os.PathLike[str], process: str, *, clock: Callable[[], float] = machine_clock
    ) -> None:
        Path(folder).mkdir(parents=True, exist_ok=True)
        self.process = process
        self.pid = os.getpid()
        self.path = Path(folder) / f"{process}-{self.pid}.jsonl"
        self._clock = clock
        # O_EXCL: a process id that came round again must not continue a line that its namesake left torn.
        self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)

    def __repr__(self) -> str:
        """Show where it writes."""
        return f"<Recorder {self.path}>"

    def record(self, kind: str, **fields: Any) -> None:
        """Append an event that happens now.

        Args:
            kind: See `tests.history.events`.
            fields: Anything that JSON can hold.

        Raises:
            OSError: It could not be written whole.
        """
        event = {"at": self._clock(), "pid": self.pid, "process": self.process, "kind": kind, "fields": fields}
        line = json.dumps(event).encode() + b"\n"
        if os.write(self._file, line) != len(line):
            raise OSError(f"{self.path}: an event was written in part only")

    def close(self) -> None:
        """Close the file; again is a no-op."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def read_history(folder: str | os.PathLike[str]) -> list[Event]:
    """Read the histories of all processes as one, in the order of the clock.

    Args:
        folder: Where they are.

    Returns:
        The events; of equal times, a process's own in the order it recorded them.

    Raises:
        ValueError: A line other than a torn last one is no event; the message names it.
    """
    events = [event for path in sorted(Path(folder).glob("*.jsonl")) for event in read_file(path)]
    return sorted(events, key=lambda event: event.at)


def read_file(path: Path) -> list[Event]:
    """Read the history of one process, without a torn last line.

    Args:
        path: The file.

    Returns:
        The events as recorded.

    Raises:
        ValueError: A whole line is no event; the message names it.
    """
    *lines, _torn = path.read_bytes().split(b"\n")
    events = []
    for number, line in enumerate(lines, start=1):
        try:
            events.append(Event(**json.loads(line)))
        except (ValueError, TypeError) as exc:
            raise ValueError(f"{path}:{number}: not an event: {line[:80]!r}") from exc
    return events
