"""The places where files live unless the caller names another."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import platformdirs

# What the name of a snapshot begins with.
_KINDS = ("accepted", "config", "discovery")


def default_folder() -> Path:
    """Return the user's cache folder for tideover; it need not exist yet.

    Raises:
        RuntimeError: This user has no home directory, so there is no such place.
    """
    folder = _of_user(platformdirs.user_cache_path)
    if folder is None:
        raise RuntimeError("this user has no home directory, and so no cache folder; name one")
    return folder


def snapshot_paths(folder: Path) -> list[Path]:
    """Return the snapshots in a folder, both generations of each, in the order of their names."""
    return sorted(path for kind in _KINDS for path in folder.glob(f"{kind}-*.json"))


def aside_paths(folder: Path) -> list[Path]:
    """Return the snapshots in a folder that could not be used and were put aside, in the order of their names."""
    return sorted(path for kind in _KINDS for path in folder.glob(f"{kind}-*.json.aside-*"))


def default_state_folder() -> Path:
    """Return the user's folder for what must not be lost to a cleaning of caches, and make it.

    A user without a home directory, or with one that cannot be written, has one below the folder for temporary
    files, and no other user.

    Raises:
        OSError: Another user has made that one, or there is no folder for temporary files.
    """
    folder = _of_user(platformdirs.user_state_path)
    if folder is not None and _writable(folder):
        return folder
    folder = Path(tempfile.gettempdir()) / f"tideover-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise PermissionError(f"{folder} is not this user's alone; name a folder with cache_dir=")
    return folder


def make_private_folder(folder: Path) -> None:
    """Make a folder, and those above it, for this user alone; what is there stays as it is.

    Raises:
        OSError: It cannot be made, or something else is in its place.
    """
    # Path.mkdir(parents=True) applies the mode to the last folder only.
    for step in (*reversed(folder.parents), folder):
        if not step.is_dir():
            with suppress(FileExistsError):
                step.mkdir(mode=0o700)
    if not folder.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "a folder is needed, but this is a file", str(folder))


def _of_user(find: Callable[[str], Path]) -> Path | None:
    """Return a folder of this user; None for one without a home directory, as a nameless one in a container is."""
    try:
        folder = find("tideover")
    except RuntimeError:  # platformdirs 4.12 and newer
        return None
    # Older ones let it begin with a literal `~`: it would land in whatever directory the process happens to be in.
    return folder if folder.is_absolute() else None


def _writable(folder: Path) -> bool:
    try:
        make_private_folder(folder)
    except OSError:
        return False
    return os.access(folder, os.W_OK | os.X_OK)
