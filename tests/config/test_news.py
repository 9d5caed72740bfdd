"""What the log says of configuration: where a start without etcd has it from, and what an outage has cost."""

from __future__ import annotations

import logging
import random
import re
from collections.abc import Callable
from pathlib import Path

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from tests.support import connected, mock_clock
from tideover import HealthState
from tideover.coordinator.coordinator import Coordinator
from tideover.options import Options
from tideover.store.operations import Delete, Op, Put, Range, Result
from tideover.testing import FaultyStore, MemoryStore

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("disk_at_once")]


@pytest.fixture
def disk_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read and write the disk without a thread: the mock clock does not wait for threads."""

    async def run(work: Callable[..., object], *args: object, **_: object) -> object:
        await anyio.lowlevel.checkpoint()
        return work(*args)

    monkeypatch.setattr(anyio.to_thread, "run_sync", run)


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Callable[[], list[tuple[str, str]]]:
    """Return a function that gives the level and the text of what was said of configuration."""
    caplog.set_level(logging.INFO, "tideover")

    def lines() -> list[tuple[str, str]]:
        found = [(r.levelname, r.getMessage()) for r in caplog.records if "tideover.config." in r.getMessage()]
        return [(level, text.removeprefix("tideover.config.")) for level, text in found]

    return lines


Said = Callable[[], list[tuple[str, str]]]


def process(store: MemoryStore | FaultyStore, folder: Path) -> Coordinator:
    """Return the coordinator of a process that keeps snapshots in a folder."""
    options = Options(endpoints=tuple(store.members), cache_dir=folder)
    return Coordinator(options, store=store, clock=mock_clock(), chance=random.Random(7).random)


async def put(store: MemoryStore, **values: str) -> None:
    """Write configuration, as somebody else would; to a member that answers."""
    member = next(m for m in store.members if m not in store.down)
    for name, value in values.items():
        await store.call(Put(f"/config/{name}".encode(), value.encode()), member=member, timeout=1)


def lose(store: MemoryStore) -> None:
    """Take the cluster down."""
    store.down = set(store.members)
    store.touch()


def recover(store: MemoryStore) -> None:
    """Bring it back."""
    store.down = set()
    store.touch()


async def test_a_start_from_disk_and_its_end(tmp_path: Path, said: Said) -> None:
    """A start without etcd says that it is away, how many keys there are from disk and how old; the recovery for
    how long it was, and how many keys have changed: of three one is new, one deleted, one as it was."""
    store = MemoryStore()
    await put(store, a="1", b="1")
    async with process(store, tmp_path):
        await anyio.sleep(60)
    ((level, text),) = said()
    assert (level, text.partition(", as of revision ")[0]) == ("INFO", "applied: 2 keys read")
    lose(store)
    await anyio.sleep(7200)
    async with process(store, tmp_path) as tide:
        away = "etcd is away (no etcd member answers)"
        assert said()[1:] == [("WARNING", f"restored: {away}: 2 keys served from disk, 2 h 0 min old")]
        await anyio.sleep(100)
        store.down = set()
        await put(store, c="1")
        await store.call(Delete(b"/config/b"), member=store.members[0], timeout=1)
        store.touch()
        await tide.health.wait_for(HealthState.AVAILABLE)
        await anyio.sleep(1)
        (level, text), *more = said()[2:]
        assert (level, more) == ("WARNING", [])
        assert text.startswith("recovered: read from etcd again after 1 min 4")
        assert ": 2 keys changed meanwhile, as of revision " in text


async def test_a_start_without_anything(said: Said) -> None:
    """Where nothing is on disk either, the line says that nothing is known."""
    store = MemoryStore()
    lose(store)
    async with connected(store):
        pass
    text = "restored: etcd is away (no etcd member answers): nothing is known of the configuration"
    assert said() == [("WARNING", text)]


async def test_an_ordinary_start_says_what_etcd_has(tmp_path: Path, said: Said) -> None:
    """With etcd well a list on disk is no news: the line counts what was read from etcd, once."""
    store = MemoryStore()
    await put(store, a="1", b="1")
    async with process(store, tmp_path):
        pass
    await put(store, c="1")
    async with process(store, tmp_path):
        await anyio.sleep(40)
    counts = [(level, text.partition(", as of")[0]) for level, text in said()]
    assert counts[0] == ("INFO", "applied: 2 keys read")
    assert counts[1:] == []  # the same again within 30 s


async def test_a_slow_start_does_not_say_that_etcd_is_away(tmp_path: Path, said: Said) -> None:
    """A read that takes longer than `start_timeout` is no outage, and is not called one."""
    store = MemoryStore()
    await put(store, a="1")
    async with process(store, tmp_path):
        pass
    faulty = FaultyStore(store)

    def reads_all(op: Op[Result]) -> bool:
        return isinstance(op, Range) and op.key == b"/config/" and op.limit != 1

    faulty.inject("", times=1000, when=reads_all)
    async with process(faulty, tmp_path):
        pass
    assert said()[1][1].startswith("restored: etcd was not read in time: 1 key served from disk, ")


async def test_an_outage_of_a_quorum_and_its_end(said: Said) -> None:
    """After an outage one line says how long it was and how many keys have changed, even if none has."""
    store = MemoryStore()
    await put(store, a="1")
    async with connected(store) as tide:
        for changes in (0, 1):
            store.down = set(store.members[:2])
            store.touch()
            await tide.health.wait_for(HealthState.DEGRADED)
            await anyio.sleep(50)
            recover(store)
            if changes:
                await put(store, b="1")
            await tide.health.wait_for(HealthState.AVAILABLE)
            await anyio.sleep(30)
    found = [text for level, text in said() if level == "WARNING"]
    for text, changed in zip(found, ("no key", "1 key"), strict=True):
        form = (
            f"recovered: read from etcd again after 5[0-4] s: {changed} changed meanwhile, as of revision [0-9]+"
        )
        assert re.fullmatch(form, text)


async def test_a_start_that_has_just_read_etcd_is_none_without_it(said: Said) -> None:
    """Of a hundred starts with etcd well none says that etcd was not read in time."""
    store = MemoryStore()
    await put(store, a="1")
    for _ in range(100):
        async with connected(store):
            pass
    assert {level for level, _ in said()} == {"INFO"}
