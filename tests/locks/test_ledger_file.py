"""The ledger on disk: torn lines, crashes, several processes."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tideover.clock import Stamp
from tideover.foreign_bytes import Malformed
from tideover.locks.hold_document import decode, encode
from tideover.locks.ledger_file import LedgerFile, read
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


def spoilt(**fields: object) -> bytes:
    """Return the line of a hold with other fields."""
    return json.dumps({**json.loads(encode(HOLD)), **fields}).encode()


NO_HOLDS = [
    b"",
    b"{",
    b"null",
    b"[]",
    b'{"id": "a"}',
    b"\xff",
    encode(HOLD)[:-5],
    b"[" * 2000,
    encode(HOLD).replace(b'"token":0', b'"token":1e999'),
    encode(HOLD) + b" " * 65_536,
    spoilt(token="7"),
    spoilt(token=2**80),
    spoilt(token=True),
    spoilt(id=["a"]),
    spoilt(id="a" * 513),
    spoilt(name="\ud800"),
    spoilt(mode="x"),
    spoilt(mode=["local"]),
    spoilt(began={"wall": "1", "boot": 1.0, "boot_id": ""}),
    spoilt(began={"wall": 1e13, "boot": 1.0, "boot_id": ""}),
    spoilt(seen={"wall": 1.0, "boot": 1.0}),
    spoilt(ended=[1.0, 1.0, ""]),
    spoilt(seen=None),
]


@pytest.mark.parametrize("line", NO_HOLDS, ids=range(len(NO_HOLDS)))
def test_what_is_no_hold_is_refused(line: bytes) -> None:
    """Whatever stands in a line, there is one error."""
    with pytest.raises(Malformed):
        decode(line)


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


@pytest.mark.anyio
async def test_what_the_dead_have_left_is_taken_over_once(tmp_path: Path) -> None:
    """It is deleted when it has been dealt with, and kept if that failed; the living are left alone."""
    left = leave(tmp_path, "dead", HOLD)
    living = LedgerFile(tmp_path, "living")
    living.write(replace(HOLD, id="living-1"))
    mine = LedgerFile(tmp_path, "mine")
    mine.write(replace(HOLD, id="mine-1"))
    with pytest.raises(RuntimeError):
        async with mine.orphans():
            raise RuntimeError
    async with mine.orphans() as found:
        assert found.holds == [HOLD]
        async with LedgerFile(tmp_path, "other").orphans() as too:
            assert too.holds == []
    assert not left.exists()
    async with mine.orphans() as found:
        assert found.holds == []
    assert len(list(tmp_path.glob("*.jsonl"))) == 2
    living.close(keep=False)
    mine.close(keep=False)
