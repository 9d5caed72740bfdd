"""Files where others may have left anything."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tideover.regular_files import OddFile, open_regular, read_regular


def test_a_regular_file_is_read(tmp_path: Path) -> None:
    """A file of one's own is read up to the bound, and made if that is asked for."""
    path = tmp_path / "file"
    os.close(open_regular(path, os.O_RDWR | os.O_CREAT))
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_bytes(b"four")
    assert read_regular(path, most=4) == b"four"
    with pytest.raises(OddFile, match="more than 3 bytes"):
        read_regular(path, most=3)
    with pytest.raises(FileNotFoundError):
        read_regular(tmp_path / "none", most=3)


@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_RDWR, os.O_WRONLY])
def test_what_is_none_is_refused_at_once(tmp_path: Path, flags: int) -> None:
    """A FIFO, a link to a device without an end, a link to nowhere, a folder: nothing waits or is followed."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "endless").symlink_to("/dev/zero")
    (tmp_path / "nowhere").symlink_to(tmp_path / "made")
    (tmp_path / "folder").mkdir()
    for name in ("fifo", "endless", "nowhere", "folder"):
        with pytest.raises((OddFile, IsADirectoryError)):
            open_regular(tmp_path / name, flags | os.O_CREAT)
    assert not (tmp_path / "made").exists()


def test_a_sparse_file_without_an_end_is_not_read(tmp_path: Path) -> None:
    """The size is looked at before anything is read."""
    path = tmp_path / "file"
    path.touch()
    os.truncate(path, 2**40)
    with pytest.raises(OddFile, match="more than"):
        read_regular(path, most=10**9)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give files away")
def test_a_file_of_another_user_is_refused(tmp_path: Path) -> None:
    """Unless the folder is that user's as well: then everything in it is."""
    path = tmp_path / "file"
    path.touch()
    os.chown(path, 54321, -1)
    with pytest.raises(OddFile, match="another user"):
        read_regular(path, most=9)
    os.chown(tmp_path, 54321, -1)
    assert read_regular(path, most=9) == b""
