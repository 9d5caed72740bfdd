"""`tideover status --watch`: what a pipe gets through an outage, and what a terminal shows."""

from __future__ import annotations

import json
import os
from collections.abc import Callable

import anyio
import pytest

from tests.support import connected
from tests.support import mock_backend as anyio_backend
from tideover.cli.app import run
from tideover.cli.printer import Styled, print_screen
from tideover.cli.status_watch import show_changes
from tideover.coordinator.coordinator import Coordinator
from tideover.store.operations import Delete, Put
from tideover.testing import MemoryStore
from tideover.types import HealthState

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio

Read = pytest.CaptureFixture[str]


async def watched(store: MemoryStore, body: Callable[[Coordinator], object], *, as_json: bool = False) -> None:
    """Watch while something happens; then as much again, in which nothing does."""
    async with connected(store) as tide, anyio.create_task_group() as tasks:

        async def watch() -> None:
            await show_changes(tide, as_json=as_json)

        tasks.start_soon(watch)
        await anyio.sleep(1)
        await body(tide)  # type: ignore[misc]
        await anyio.sleep(60)
        tasks.cancel_scope.cancel()


def said(out: str) -> list[str]:
    """Return the lines without their times."""
    return [line.partition("  ")[2] for line in out.splitlines()]


async def test_a_pipe_gets_a_line_for_each_change(capsys: Read) -> None:
    """First everything; then what has changed, once; a minute in which nothing changes is silent, however old."""
    store = MemoryStore()
    await store.call(Put(b"/services/api/i/x", b"{}"), member=store.members[0], timeout=1)

    async def change(tide: Coordinator) -> None:
        await anyio.sleep(20)
        first = said(capsys.readouterr().out)
        assert first[0] == "etcd  available: etcd answers"
        assert "config /config/  0 keys, live" in first
        assert "service api  1 registered" in first
        await store.call(Put(b"/config/a", b"1"), member=store.members[0], timeout=1)
        await store.call(Delete(b"/services/api/i/x"), member=store.members[0], timeout=1)

    await watched(store, change)
    assert said(capsys.readouterr().out) == [
        "config /config/  1 key, live",
        "refused /services/api/i/x  gone",
        "service api  gone",
    ]


async def test_an_outage_takes_nothing_away(capsys: Read) -> None:
    """What etcd cannot be asked for in an outage stays as it was last known, and is not said to be gone."""
    store = MemoryStore()
    await store.call(Put(b"/services/api/i/x", b"{}"), member=store.members[0], timeout=1)

    async def outage(tide: Coordinator) -> None:
        capsys.readouterr()
        store.down = set(store.members)
        await tide.health.wait_for(HealthState.UNAVAILABLE)
        await anyio.sleep(20)
        store.down = set()
        await tide.health.wait_for(HealthState.AVAILABLE)

    await watched(store, outage)
    lines = said(capsys.readouterr().out)
    health = [line for line in lines if line.startswith("etcd")]
    assert health == [
        "etcd  available, in doubt: no etcd member answers",
        "etcd  unavailable: no etcd member answers",
        "etcd  available: etcd answers",
    ]
    assert not [line for line in lines if "service" in line or "gone" in line]


async def test_json_is_the_whole_status_for_each_change(capsys: Read) -> None:
    """As `status --json`, an object a line, and none without a change."""
    store = MemoryStore()

    async def change(tide: Coordinator) -> None:
        capsys.readouterr()
        await store.call(Put(b"/config/a", b"1"), member=store.members[0], timeout=1)

    await watched(store, change, as_json=True)
    (line,) = capsys.readouterr().out.splitlines()
    found = json.loads(line)
    assert (found["state"], found["config"][0]["keys"], found["registered"]) == ("available", 1, {})


def test_a_screen_shows_as_much_as_there_is_room_for(capsys: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines are cut to the width and the height, and what others wrote gives the terminal no orders."""
    monkeypatch.setattr("shutil.get_terminal_size", lambda: os.terminal_size((10, 3)))
    print_screen([(Styled("etcd ans", "green"), "wers."), ("\x1b[2J evil",), ("unseen",)])
    assert capsys.readouterr().out == "\x1b[Hetcd answe\x1b[K\n\\x1b[2J ev\x1b[K\n\x1b[J"


def test_watching_and_serving_exclude_each_other(capsys: Read) -> None:
    """One of them is meant."""
    assert run(["status", "--watch", "--serve", "0"]) == 2
    assert "leave out --watch" in capsys.readouterr().err
