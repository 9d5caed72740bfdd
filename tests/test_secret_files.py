"""Files that hold a secret: read up to their end, never waited for without end, and kept from others."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.canaries import canary
from tests.locks.test_ledger_file import HOLD
from tideover.locks.host_locks import HostLocks
from tideover.locks.ledger_file import LedgerFile
from tideover.paths import make_private_folder
from tideover.secret_files import is_read_once, open_to_all, read_secret

SECRET = canary("file-secret").encode()


def test_a_file_is_read_up_to_its_end_or_its_bound(tmp_path: Path) -> None:
    """A file, a link to one and an empty one are read; no more bytes than asked for."""
    file = tmp_path / "secret"
    file.write_bytes(SECRET)
    (tmp_path / "link").symlink_to(file)
    assert read_secret(file, most=100) == read_secret(tmp_path / "link", most=100) == SECRET
    assert read_secret(file, most=7) == SECRET[:7]
    assert read_secret(Path("/dev/null"), most=7, within=0.2) == b""
    assert read_secret(Path("/dev/zero"), most=7) == bytes(7)
    assert not is_read_once(file)
    with pytest.raises(OSError, match="directory"):
        read_secret(tmp_path, most=7)
    with pytest.raises(FileNotFoundError):
        read_secret(tmp_path / "none", most=7)


@pytest.mark.parametrize("pieces", [[SECRET], [SECRET[:5], SECRET[5:]], []])
def test_a_fifo_is_read_up_to_its_end(tmp_path: Path, pieces: list[bytes]) -> None:
    """What is written in pieces, by somebody who opens it later than we do, is read whole; nothing ends it too."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    assert is_read_once(fifo)

    def write() -> None:
        with fifo.open("wb", buffering=0) as file:
            for piece in pieces:
                file.write(piece)

    writer = threading.Thread(target=write)
    writer.start()
    assert read_secret(fifo, most=100) == b"".join(pieces)
    writer.join()


def test_a_fifo_that_nobody_writes_ends_in_time(tmp_path: Path) -> None:
    """Nothing hangs: neither where nobody opens the other end, nor where it stays open without a word."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with pytest.raises(TimeoutError, match=r"has not been written within 0\.05 s"):
        read_secret(fifo, most=100, within=0.05)
    with open(os.open(fifo, os.O_RDWR), "wb", buffering=0) as silent:
        silent.write(b"half")
        with pytest.raises(TimeoutError):
            read_secret(fifo, most=100, within=0.05)


def test_a_shells_substitution_is_a_password_file() -> None:
    """`--password-file <(command)` works, although it can be read only once and its writer has long ended."""
    command = f"{sys.executable} -P -m tideover.cli status --user app -e 127.0.0.1:1"
    line = f"{command} --password-file <(echo {SECRET.decode()})"
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (4, "")
    assert SECRET.decode() not in done.stdout


@pytest.mark.parametrize(("mode", "open_"), [(0o600, False), (0o640, False), (0o604, True), (0o644, True)])
def test_what_everybody_can_read_is_named(tmp_path: Path, mode: int, open_: bool) -> None:
    """A file that all users of the machine can read is named with its mode, and how to keep it."""
    file = tmp_path / "secret"
    file.touch()
    file.chmod(mode)
    assert bool(open_to_all(file)) is open_
    assert not open_ or f"{file} (mode {mode:04o})" in open_to_all(file)
    assert open_to_all(tmp_path / "none") == ""


@pytest.mark.parametrize("first", ["ledger", "lock", "any"])
def test_whatever_makes_a_folder_first_makes_it_private(tmp_path: Path, first: str) -> None:
    """The cache folder and those above it are 0700, also where a lock comes before the first snapshot."""
    cache = tmp_path / "var" / "cache"
    old = os.umask(0o022)
    try:
        if first == "ledger":
            file = LedgerFile(cache / "ledger" / "x", "a")
            file.write(HOLD)
            file.close(keep=False)
        elif first == "lock":
            locks = HostLocks(cache / "locks", members=["a:1"], namespace="")
            assert locks.take("orders")
            locks.close()
        else:
            make_private_folder(cache / "any")
    finally:
        os.umask(old)
    (inside,) = cache.iterdir()
    assert [stat.S_IMODE(folder.stat().st_mode) for folder in (inside, cache, cache.parent)] == [0o700] * 3


def test_a_file_in_the_place_of_a_folder_is_refused(tmp_path: Path) -> None:
    """That is an error of the disk, not a folder."""
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        make_private_folder(tmp_path / "file")
