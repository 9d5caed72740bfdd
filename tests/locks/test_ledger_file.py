"""The ledger on disk: torn lines, crashes, several processes."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tideover.clock import Stamp
from tideover.locks.ledger_file import LedgerFile, decode, encode, read
from tideover.locks.rules.overlaps import Hold
from tideover.types import LockMode

BEGAN = Stamp(1e9, 5.0, "boot")
HOLD = Hold("a-1", "orders/42", "a", "host/1", LockMode.LOCAL, 0, BEGAN, None, BEGAN)


def only(folder: Path) -> Path:
    """Return the one file in a folder."""
    (file,) = folder.glob("*.jsonl")
    return file


def leave(folder: Path, owner: str, *holds: Hold) -> Path:
    """Leave a file behind, as a process does that is killed."""
    before = set(folder.glob("*.jsonl"))
    file = LedgerFile(folder, owner)
    for hold in holds:
        file.write(hold)
    file.close(keep=True)
    (left,) = set(folder.glob("*.jsonl")) - before
    os.utime(left, (1, 1))
    return left


@given(st.text(), st.integers(0, 2**60), st.sampled_from(LockMode), st.booleans())
def test_what_is_written_is_read(name: str, token: int, mode: LockMode, ended: bool) -> None:
    """A hold comes back as it was, whatever its name."""
    hold = replace(HOLD, name=name, token=token, mode=mode, ended=BEGAN if ended else None)
    assert decode(encode(hold)) == hold
    assert b"\n" not in encode(hold)


@pytest.mark.parametrize("line", [b"", b"{", b"null", b"[]", b'{"id": "a"}', b"\xff", encode(HOLD)[:-5]])
def test_what_is_no_hold_is_none(line: bytes) -> None:
    """Whatever stands in a line, it does no harm."""
    assert decode(line) is None


def test_the_last_line_of_a_hold_counts_and_a_torn_one_does_not(tmp_path: Path) -> None:
    """Begun and ended is ended; a line cut short by a crash is left out, and all before it is there."""
    file = LedgerFile(tmp_path, "a")
    file.write(HOLD)
    file.write(replace(HOLD, ended=BEGAN))
    file.write(replace(HOLD, id="a-2"))
    path = only(tmp_path)
    with path.open("ab") as torn:
        torn.write(encode(HOLD)[:30])
    assert read(path) == [replace(HOLD, ended=BEGAN), replace(HOLD, id="a-2")]
    assert path.stat().st_mode & 0o777 == 0o600
    file.close(keep=False)
    assert not list(tmp_path.iterdir())


def test_nothing_is_on_disk_before_there_is_something_to_say(tmp_path: Path) -> None:
    """Without an outage there is no file, not even a folder."""
    LedgerFile(tmp_path / "ledger", "a").close(keep=True)
    assert not (tmp_path / "ledger").exists()


def test_what_the_dead_have_left_is_taken_over_once(tmp_path: Path) -> None:
    """It is deleted when it has been dealt with, and kept if that failed; the living are left alone."""
    left = leave(tmp_path, "dead", HOLD)
    living = LedgerFile(tmp_path, "living")
    living.write(replace(HOLD, id="living-1"))
    mine = LedgerFile(tmp_path, "mine")
    mine.write(replace(HOLD, id="mine-1"))
    with pytest.raises(RuntimeError), mine.orphans():
        raise RuntimeError
    with mine.orphans() as found:
        assert found == [HOLD]
        with LedgerFile(tmp_path, "other").orphans() as too:
            assert too == []
    assert not left.exists()
    with mine.orphans() as found:
        assert found == []
    assert len(list(tmp_path.glob("*.jsonl"))) == 2
    living.close(keep=False)
    mine.close(keep=False)
