"""Files that survive a power cut, and the lock of those who write them."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tideover.regular_files import open_regular

_FILE_MODE = 0o600
_LOCK_POLL = 0.01


@contextmanager
def locked(path: Path, *, timeout: float) -> Iterator[None]:
    """Hold the lock of a file that is made if there is none.

    Raises:
        TimeoutError: Another process has held the lock for `timeout` seconds.
        OSError: The file cannot be made.
    """
    descriptor = open_regular(path, os.O_RDWR | os.O_CREAT, mode=_FILE_MODE)
    try:
        _wait_for_lock(descriptor, path, timeout)
        try:
            yield
        finally:
            # Closing alone would not do: a child forked meanwhile by another thread shares the lock.
            fcntl.flock(descriptor, fcntl.LOCK_UN)
    finally:
        os.close(descriptor)


def _wait_for_lock(descriptor: int, path: Path, timeout: float) -> None:
    deadline = time.monotonic() + timeout
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                message = f"another process held the snapshot lock for {timeout} s"
                raise TimeoutError(errno.ETIMEDOUT, message, str(path)) from None
            time.sleep(_LOCK_POLL)
        else:
            return


def write_durably(path: Path, data: bytes) -> None:
    """Make a new file for this user alone, with these bytes on the disk itself. Raises `OSError`."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _FILE_MODE)
    with os.fdopen(descriptor, "wb", buffering=0) as file:
        rest = memoryview(data)
        while rest:
            rest = rest[file.write(rest) :]
        os.fsync(descriptor)


def sync_folder(folder: Path) -> None:
    """Bring names of files in a folder to the disk itself, where the file system can. Raises `OSError`."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as exc:
        # Some network file systems cannot do this at all; their renames are as durable as they get.
        if exc.errno not in (errno.EINVAL, errno.EBADF):
            raise
    finally:
        os.close(descriptor)
