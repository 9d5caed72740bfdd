"""Files in a folder where others may have left anything: opened without following, without waiting, within bounds.

A link leads elsewhere, a FIFO waits without end, a device has no end, a file of another user holds what that user
wants it to. None of them is used; each is an `OddFile`, which says so.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path


class OddFile(OSError):
    """Raised when something else than a file of this user's, of a sensible size, is in its place."""


def open_regular(path: Path, flags: int = os.O_RDONLY, *, mode: int = 0o600) -> int:
    """Return the descriptor of a regular file that belongs to this user, to root or to the folder's owner.

    Raises:
        OddFile: Something else is there.
        OSError: It cannot be opened.
    """
    try:
        file = os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, mode)
    except OSError as exc:
        if exc.errno == errno.ELOOP:
            raise OddFile(errno.ELOOP, "it is a link", str(path)) from None
        if exc.errno == errno.ENXIO:  # a FIFO or a socket
            raise OddFile(errno.ENXIO, "it is no regular file", str(path)) from None
        raise
    try:
        _require_ordinary(os.fstat(file), path)
    except BaseException:
        os.close(file)
        raise
    return file


def read_named(path: Path, *, most: int) -> bytes:
    """Return the bytes of a regular file that an operator has named: links are followed, and it may be anybody's.

    Raises:
        OddFile: It is no regular file, or has more bytes.
        OSError: It cannot be read.
    """
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    return _read_whole(file, path, most)


def _require_ordinary(found: os.stat_result, path: Path) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise OddFile(errno.EINVAL, "it is no regular file", str(path))
    # Who owns the folder can put there what they like. On some network disks nothing belongs to who has made it.
    if found.st_uid not in (os.geteuid(), 0) and found.st_uid != path.parent.stat().st_uid:
        raise OddFile(errno.EPERM, "it belongs to another user", str(path))


def read_regular(path: Path, *, most: int) -> bytes:
    """Return the bytes of such a file.

    Raises:
        OddFile: Something else is there, or it has more bytes.
        OSError: It cannot be read.
    """
    return _read_whole(open_regular(path), path, most)


def _read_whole(descriptor: int, path: Path, most: int) -> bytes:
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OddFile(errno.EINVAL, "it is no regular file", str(path))
        # One more than there may be, because another process may be writing to it.
        if os.fstat(file.fileno()).st_size <= most and len(content := file.read(most + 1)) <= most:
            return content
    raise OddFile(errno.EFBIG, f"it has more than {most:,} bytes", str(path))
