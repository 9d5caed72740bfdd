"""Locks among the processes of this machine: all that is left of a lock when etcd is away.

*Guarantee.* Of all processes of one user on one machine that use the same folder, one at a time holds a name. The
kernel ends a lock with its process, so that no process has to judge whether a holder still lives.

*Not guaranteed.* Containers with folders of their own, other users and other machines do not see these locks.

One file, never unlinked. Each name is one byte of it, far beyond its end: a million names then cost no file.
The locks are those of the open file description (Linux, `F_OFD_SETLK`), not fcntl's old ones, which belong to
the process and vanish when any of its descriptors of the file is closed. Elsewhere each name has a file and
flock.

The name counts once for each member of the cluster: processes that name only some of the members still exclude one
another, and those of another cluster do not.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import struct
import weakref
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from tideover.paths import make_private_folder
from tideover.regular_files import open_regular

_BUSY = (errno.EAGAIN, errno.EACCES, errno.EWOULDBLOCK)
_OFD_SETLK: int | None = getattr(fcntl, "F_OFD_SETLK", None)
# How often the file is opened again because it was deleted meanwhile.
_REOPENINGS = 3


class HostLocks:
    """The host locks of one coordinator. Methods do not wait, and touch no disk beyond opening the file.

    Two instances exclude each other also within one process; an instance does not exclude itself, so that its user
    has to know what is held. The folder of the file is made when first needed, for this user only.
    """

    def __init__(self, folder: Path, *, members: Sequence[str], namespace: str) -> None:
        self._folder = folder
        self._scopes = sorted(f"{member}\0{namespace}" for member in members)
        self._file = -1
        self._files: dict[str, list[int]] = {}
        # Asked for twice for each hold, and the same names are locked again and again.
        self._offsets = lru_cache(maxsize=1024)(self._digest)
        _open.add(self)

    def take(self, name: str) -> bool:
        """Take a name if it is free; return whether it was. Raises `OSError` if the folder cannot be used."""
        return self._take_bytes(name) if _OFD_SETLK is not None else self._take_files(name)

    def give(self, name: str) -> None:
        """Give a taken name back."""
        if _OFD_SETLK is None:
            for file in self._files.pop(name, ()):
                os.close(file)
        elif self._file >= 0:
            for offset in self._offsets(name):
                self._set(offset, fcntl.F_UNLCK)

    def close(self) -> None:
        """Give all names back; again is a no-op."""
        for file in [self._file, *(file for files in self._files.values() for file in files)]:
            if file >= 0:
                os.close(file)
        self._file = -1
        self._files.clear()

    # On Linux: one file, one byte for each name.

    def _take_bytes(self, name: str) -> bool:
        for _ in range(_REOPENINGS):
            if self._file < 0:
                self._file = self._open("locks")
            taken: list[int] = []
            for offset in self._offsets(name):
                if not self._set(offset, fcntl.F_WRLCK):
                    for done in taken:
                        self._set(done, fcntl.F_UNLCK)
                    return False
                taken.append(offset)
            if self._is_the_file(self._file, "locks"):
                return True
            # The file was deleted, and others lock another one. What is held on this one stays held there.
            _left_open.append(self._file)
            self._file = -1
        raise OSError(errno.ESTALE, "the file of host locks is deleted again and again", str(self._folder))

    def _digest(self, name: str) -> list[int]:
        digests = (hashlib.sha256(f"{scope}\0{name}".encode()).digest() for scope in self._scopes)
        return sorted(int.from_bytes(digest[:8]) >> 2 for digest in digests)

    def _set(self, offset: int, kind: int) -> bool:
        lock = struct.pack("hhqqi", kind, os.SEEK_SET, offset, 1, 0)
        try:
            fcntl.fcntl(self._file, _OFD_SETLK or 0, lock)
        except OSError as exc:
            if exc.errno in _BUSY:
                return False
            raise
        return True

    # Elsewhere: a file for each name.

    def _take_files(self, name: str) -> bool:
        files: list[int] = []
        try:
            # One by one, so that those locked before one that is not free can be closed.
            files.extend(self._lock_file(f"{offset:016x}.lock") for offset in self._offsets(name))
        except OSError as exc:
            for file in files:
                os.close(file)
            if exc.errno in _BUSY:
                return False
            raise
        self._files[name] = files
        return True

    def _lock_file(self, name: str) -> int:
        for _ in range(_REOPENINGS):
            file = self._open(name)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(file)
                raise
            if self._is_the_file(file, name):
                return file
            os.close(file)
        raise OSError(errno.ESTALE, "the file of a host lock is deleted again and again", str(self._folder / name))

    def _open(self, name: str) -> int:
        make_private_folder(self._folder)
        return open_regular(self._folder / name, os.O_RDWR | os.O_CREAT)

    def _is_the_file(self, file: int, name: str) -> bool:
        try:
            there = os.stat(os.path.join(self._folder, name))
        except FileNotFoundError:
            return False
        return os.path.samestat(os.fstat(file), there)


_open: weakref.WeakSet[HostLocks] = weakref.WeakSet()
# Files that were deleted while names were held on them.
_left_open: list[int] = []


def _close_in_child() -> None:
    # A child that kept the descriptors would hold the parent's locks as long as it lives.
    for locks in list(_open):
        locks.close()
    for file in _left_open:
        os.close(file)
    _left_open.clear()


os.register_at_fork(after_in_child=_close_in_child)
