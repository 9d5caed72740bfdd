"""The ledger on disk: what was held while etcd was away, so that it can be told when etcd is back.

One file for each process, lines of JSON, appended with one system call each: what `write` has returned for is
there whatever kills the process. A line cut short can only be the last one of its file, and is left out. Not
guaranteed: the last moments before a power cut; nothing is synced.

The file is locked as long as its process lives. Whoever finds one that is not, takes it over: that is how the
holds of a process that was killed in an outage are told after all.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tideover.clock import Stamp
from tideover.locks.rules.overlaps import Hold
from tideover.shown import shown
from tideover.types import LockMode

# Seconds for which a hold is of interest.
KEPT = 7 * 86_400.0


class LedgerFile:
    """This process's file; made when the first hold is written.

    Args:
        folder: Where the files of all processes are; made when first needed, for this user only.
        owner: The process, unique for each start of one.
    """

    def __init__(self, folder: Path, owner: str) -> None:
        self._folder = folder
        self._path = folder / f"{owner}-{secrets.token_hex(4)}.jsonl"
        self._file = -1

    def __repr__(self) -> str:
        """Show the file."""
        return f"<LedgerFile {self._path}>"

    def write(self, hold: Hold) -> None:
        """Append a hold as it stands now; of several lines with one id the last counts.

        Raises:
            OSError: It could not be written.
        """
        if self._file < 0:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            self._file = os.open(self._path, flags, 0o600)
            # Somebody who looks for what was left behind may have it, for a moment.
            fcntl.flock(self._file, fcntl.LOCK_EX)
        line = encode(hold) + b"\n"
        if os.write(self._file, line) != len(line):
            raise OSError(f"{self._path}: a line was written in part only")

    def clear(self) -> None:
        """Forget everything: it has been published."""
        if self._file >= 0:
            os.ftruncate(self._file, 0)

    def close(self, *, keep: bool) -> None:
        """Close the file.

        Args:
            keep: Leave it to whoever comes next, because not all of it has been published.
        """
        if self._file >= 0:
            if not keep:
                with contextlib.suppress(OSError):
                    self._path.unlink()
            os.close(self._file)
            self._file = -1

    @contextmanager
    def orphans(self) -> Iterator[list[Hold]]:
        """Take over what processes that have ended have left; if the block ends well, it is deleted.

        Raises:
            OSError: The folder cannot be read.
        """
        taken: list[tuple[Path, int]] = []
        holds: list[Hold] = []
        try:
            for path in sorted(self._folder.glob("*.jsonl")) if self._folder.is_dir() else ():
                file = None if path == self._path else _take_over(path)
                if file is not None:
                    taken.append((path, file))
                    holds += read(path)
            yield holds
            for path, _ in taken:
                path.unlink(missing_ok=True)
        finally:
            for _, file in taken:
                os.close(file)


def _take_over(path: Path) -> int | None:
    """Return the locked file of a process that has ended; None if it lives, or somebody else takes over."""
    try:
        file = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # One that was made this moment is not locked yet.
        if os.path.samestat(os.fstat(file), os.stat(path)) and time.time() - os.fstat(file).st_mtime > 1.0:
            return file
    except OSError:
        pass
    os.close(file)
    return None


def read(path: Path) -> list[Hold]:
    """Return the holds in a file, each as last written; what cannot be read is left out."""
    return latest(hold for hold in map(decode, path.read_bytes().split(b"\n")) if hold is not None)


def latest(holds: Iterable[Hold]) -> list[Hold]:
    """Return of several with one id the last."""
    return list({hold.id: hold for hold in holds}.values())


def encode(hold: Hold) -> bytes:
    """Return a hold as JSON."""
    return json.dumps(asdict(hold), separators=(",", ":")).encode()


def decode(line: bytes) -> Hold | None:
    """Return the hold in a line of JSON; None if there is none."""
    try:
        fields: dict[str, Any] = json.loads(line)
        return Hold(
            id=str(fields["id"]),
            name=str(fields["name"]),
            owner=str(fields["owner"]),
            where=shown(str(fields["where"])),
            mode=LockMode(fields["mode"]),
            token=int(fields["token"]),
            began=Stamp(**fields["began"]),
            ended=None if fields["ended"] is None else Stamp(**fields["ended"]),
            seen=Stamp(**fields["seen"]),
        )
    except (ValueError, TypeError, KeyError):
        return None
