"""Files that hold a secret: read whole and without hanging, and looked at for who else can read them."""

from __future__ import annotations

import errno
import os
import select
import stat
import time
from pathlib import Path

# Seconds in which what is no regular file must have given all of it.
WITHIN = 5.0


def read_secret(path: Path, *, most: int, within: float = WITHIN) -> bytes:
    """Return what a file holds.

    A FIFO is read up to its end, for `within` seconds, so that `<(command)` of a shell works; reading it again
    would find nothing.

    Raises:
        TimeoutError: The FIFO has not ended by then.
        OSError: It cannot be read.
    """
    # Without waiting for a process that opens the other end.
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        ends_at = time.monotonic() + within
        # Nothing means the end in a file; in a FIFO perhaps that no process has begun to write.
        found, begun = b"", stat.S_ISREG(os.fstat(file).st_mode)
        while len(found) < most:
            piece = _piece(file, most - len(found))
            if piece:
                found, begun = found + piece, True
            elif piece is not None and begun:
                break
            elif _wait(file, ends_at - time.monotonic()):
                # There is something, or the end: a writer has come and gone.
                begun = True
            else:
                raise TimeoutError(errno.ETIMEDOUT, f"it has not been written within {within:g} s", str(path))
        return found
    finally:
        os.close(file)


def _piece(file: int, most: int) -> bytes | None:
    """Return what is there; empty if no process writes, None if one has not written yet."""
    try:
        return os.read(file, most)
    except BlockingIOError:
        return None


def _wait(file: int, seconds: float) -> bool:
    poll = select.poll()
    poll.register(file, select.POLLIN)
    return bool(poll.poll(max(0.0, seconds) * 1000))


def is_read_once(path: Path) -> bool:
    """Return whether a second reading finds nothing: a FIFO, as a shell's `<(command)` is one."""
    return path.is_fifo()


def open_to_all(path: Path) -> str:
    """Return what to say of a secret's file that every user of this machine can read; nothing if it is kept.

    Args:
        path: The file. What cannot be looked at is kept.
    """
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return ""
    if not mode & stat.S_IROTH:
        return ""
    return f"every user of this machine can read {path} (mode {mode:04o}): chmod o-r keeps it"
