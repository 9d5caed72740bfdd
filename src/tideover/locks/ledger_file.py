"""The ledger on disk: what was held while etcd was away, so that it can be published when etcd is back.

*Guarantee.* One file for each process, lines of JSON, appended with one system call each: what `write` has
returned for is there whatever kills the process. A line cut short can only be the last one of its file, and is
left out, as is all else that is no hold. The file is locked as long as its process lives. A process that finds a
file without its lock takes it over: so the holds of a process that was killed in an outage are published after
all.

*Not guaranteed.* The last moments before a power cut: nothing is synced.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from tideover.daemon_thread import in_daemon_thread
from tideover.foreign_bytes import Malformed
from tideover.locks.hold_document import LONGEST_LINE, MOST_HOLDS, decode, encode
from tideover.locks.rules.overlaps import Hold
from tideover.paths import make_private_folder
from tideover.regular_files import OddFile, open_regular

# Bytes; what is written here stays far below.
_MOST_BYTES = 256 * 1024 * 1024


class LedgerFile:
    """This process's file in the folder of all; both are made when the first hold is written."""

    def __init__(self, folder: Path, owner: str) -> None:
        self._folder = folder
        self._path = folder / f"{owner}-{secrets.token_hex(4)}.jsonl"
        self._file = -1

    def write(self, hold: Hold) -> None:
        """Append a hold as it stands now; of several lines with one id the last counts.

        Raises `OSError` if the line could not be written.
        """
        if self._file < 0:
            make_private_folder(self._folder)
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            self._file = os.open(self._path, flags, 0o600)
            # A process that looks for what was left behind may have the lock, for a moment.
            fcntl.flock(self._file, fcntl.LOCK_EX)
        line = encode(hold) + b"\n"
        if os.write(self._file, line) != len(line):
            raise OSError(f"{self._path}: a line was written in part only")

    def clear(self) -> None:
        """Empty the file: all holds are published."""
        if self._file >= 0:
            os.ftruncate(self._file, 0)

    def close(self, *, keep: bool) -> None:
        """Close the file, and `keep` it for the next process if not all of it is published."""
        if self._file >= 0:
            if not keep:
                with suppress(OSError):
                    self._path.unlink()
            os.close(self._file)
            self._file = -1

    @asynccontextmanager
    async def orphans(self) -> AsyncIterator[Orphans]:
        """Take over the files of processes that have ended; if the block ends well, they are deleted.

        Raises `OSError` if the folder cannot be read.
        """
        orphans = Orphans(self._folder, besides=self._path)
        try:
            # A disk may take its time, and others may have left more than the event loop should wait for.
            await in_daemon_thread(orphans.read, name="tideover-ledger")
            yield orphans
            orphans.delete()
        finally:
            orphans.close()


class Orphans:
    """The files of processes that have ended, locked until closed; read in one thread, closed in any.

    `odd` says in words which file among them is no ledger, and why; None if there is none.
    """

    def __init__(self, folder: Path, besides: Path) -> None:
        self.holds: list[Hold] = []
        self.odd: str | None = None
        self._folder = folder
        self._besides = besides
        self._taken: list[tuple[Path, int]] = []
        self._turn = threading.Lock()
        self._reading = False
        self._closed = False

    def read(self) -> None:
        """Read all files, or as many as will do for one time. Raises `OSError` if the folder cannot be read."""
        self._reading = True
        try:
            for path in sorted(self._folder.glob("*.jsonl")) if self._folder.is_dir() else ():
                if self._closed or len(self.holds) >= MOST_HOLDS:
                    return
                if path != self._besides:
                    self._take(path)
        finally:
            with self._turn:
                self._reading = False
                if self._closed:
                    self._close_all()

    def _take(self, path: Path) -> None:
        try:
            file = _take_over(path)
        except OddFile as exc:
            self.odd = f"{path} is left alone: {exc.strerror}"
            return
        if file is not None:
            self._taken.append((path, file))
            self.holds += _read(file)

    def delete(self) -> None:
        """Delete the files: their holds are published."""
        for path, _ in self._taken:
            path.unlink(missing_ok=True)

    def close(self) -> None:
        """Leave the files to others; if they are still being read, as soon as that has ended."""
        with self._turn:
            self._closed = True
            if not self._reading:
                self._close_all()

    def _close_all(self) -> None:
        while self._taken:
            os.close(self._taken.pop()[1])


def _take_over(path: Path) -> int | None:
    """Return the locked file of a process that has ended; None if it lives, or another process takes over.

    Raises `OddFile` if the file is no ledger.
    """
    try:
        file = open_regular(path, os.O_RDWR)
    except OddFile:
        raise
    except OSError:
        return None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        found = os.fstat(file)
        if found.st_size > _MOST_BYTES:
            raise OddFile(errno.EFBIG, f"it has more than {_MOST_BYTES:,} bytes", str(path))
        # A file that was made this moment is not locked yet.
        if os.path.samestat(found, os.stat(path)) and time.time() - found.st_mtime > 1.0:
            return file
    except OddFile:
        os.close(file)
        raise
    except OSError:
        pass
    os.close(file)
    return None


def read(path: Path) -> list[Hold]:
    """Return the holds in a file, each as last written; what cannot be read is left out."""
    file = open_regular(path)
    try:
        return _read(file)
    finally:
        os.close(file)


def _read(file: int) -> list[Hold]:
    holds: dict[str, Hold] = {}
    with os.fdopen(os.dup(file), "rb") as lines:
        lines.seek(0)
        while line := lines.readline(LONGEST_LINE):
            with suppress(Malformed):
                hold = decode(line)
                if hold.id in holds or len(holds) < MOST_HOLDS:
                    holds[hold.id] = hold
    return list(holds.values())
