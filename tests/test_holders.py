"""Who holds something, as it is written into etcd."""

from __future__ import annotations

import os
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tideover.holders import NOBODY, Holder, process_name


def test_the_name_of_a_process() -> None:
    """Host and process id, with the address where it is reached, if there is one."""
    name = f"{socket.gethostname()}:{os.getpid()}"
    assert process_name() == name
    assert process_name("http://10.0.0.7:8000") == f"{name} (http://10.0.0.7:8000)"


@given(st.text(st.characters(categories=("L", "N", "P")), min_size=1, max_size=100), st.integers(0, 2**33))
def test_what_is_written_is_read(name: str, wall: int) -> None:
    """Name and time come back as they were written."""
    holder = Holder.now(name, wall)
    assert Holder.read(holder.encode()) == holder
    assert str(holder) == f"{name} since {holder.since}"


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"", ""),
        (b"web-1/4242", "web-1/4242"),
        (b"\x1b[2J since 2026-11-30T03:12:52Z", r"\x1b[2J since 2026-11-30T03:12:52Z"),
        (b"a since yesterday", "a since yesterday"),
        (b"\xff" * 1000, r"\xff" * 49 + "\\..."),
    ],
)
def test_what_others_have_written(raw: bytes, text: str) -> None:
    """Older versions' and other clients' values are shown as they are, escaped and cut."""
    assert str(Holder.read(raw)) == text


def test_nobody() -> None:
    """An unknown holder has no words."""
    assert str(NOBODY) == ""
