"""The place where snapshots live unless the caller names another."""

from __future__ import annotations

from pathlib import Path

import platformdirs


def default_folder() -> Path:
    """Return the user's cache folder for tideover; it need not exist yet.

    Raises:
        RuntimeError: This user has no home directory, so there is no such place. (The path would begin with a
            literal `~` and land in whatever directory the process happens to run in.)
    """
    folder = platformdirs.user_cache_path("tideover")
    if not folder.is_absolute():
        raise RuntimeError(f"this user has no home directory, so {folder} is no place for snapshots; name one")
    return folder
