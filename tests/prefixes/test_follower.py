"""A view kept up to date on a cluster in memory: resume, resync, proof, reset."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, TypeVar

import anyio
import anyio.lowlevel
import pytest

from tests.support import connected
from tideover.store.faults import StoreFault, classify
from tideover.store.operations import Delete, Op, Put, Range, RangeResult, Result
from tideover.store.protocol import Watch, WatchBatch
from tideover.testing import FaultyStore, MemoryStore
from tideover.types import HealthState, Source

pytestmark = pytest.mark.anyio

R = TypeVar("R", bound=Result)


async def write(store: MemoryStore, key: str, value: str) -> None:
    """Write as another client would."""
    member = next(m for m in store.members if m not in store.down | store.frozen)
    await store.call(Put(f"/config/{key}".encode(), value.encode()), member=member, timeout=1)


def full_reads(store: MemoryStore) -> int:
    """Count the full reads of the followed prefix."""
    return sum(isinstance(op, Range) and op.end is not None for _, op in store.calls)


async def test_changes_arrive_by_watch() -> None:
    """A write by another client is seen without any read."""
    store = MemoryStore()
    async with connected(store) as tide:
        reads = full_reads(store)
        await write(store, "a", "1")
        await anyio.sleep(0.01)
        assert tide.config.get("a") == "1"
        assert full_reads(store) == reads


async def test_age_stays_small_while_other_keys_change() -> None:
    """Writes elsewhere move the cluster's revision but not the view's: progress replies keep the age below 6 s."""
    store = MemoryStore()
    async with connected(store) as tide:
        for n in range(300):
            await store.call(Put(b"/elsewhere", str(n).encode()), member=store.members[0], timeout=1)
            await anyio.sleep(1)
            assert tide._parts.views[0].age < 6
            assert tide._parts.views[0].source is Source.LIVE


async def test_age_grows_during_an_outage_and_is_never_reset_by_it() -> None:
    """In ten minutes of outage the age grows by ten minutes; what was served stays."""
    store = MemoryStore()
    await write(store, "a", "1")
    async with connected(store) as tide:
        store.down = set(store.members)
        store.touch()
        await anyio.sleep(600)
        reading = tide.config.read("a")
        assert reading.value == "1"
        assert reading.stale
        assert reading.source is Source.MEMORY
        assert 600 <= reading.age <= 606


async def test_member_rung() -> None:
    """Without a quorum the survivor is asked: MEMBER, with the age of the last proof by a quorum."""
    store = MemoryStore()
    await write(store, "a", "1")
    async with connected(store) as tide:
        await anyio.sleep(10)
        store.down = {m for m in store.members if m != tide._parts.client.state.active}
        store.touch()
        await tide.health.wait_for(HealthState.DEGRADED)
        await anyio.sleep(0.5)
        reading = tide.config.read("a")
        assert reading.source is Source.MEMBER
        assert 3 <= reading.age <= 10
        store.down = set(store.members)
        store.touch()
        await tide.health.wait_for(HealthState.UNAVAILABLE)
        assert tide.config.read("a").source is Source.MEMORY


async def test_member_that_lags_is_not_believed() -> None:
    """A survivor that is behind what this process has seen never takes a value back."""
    store = MemoryStore()
    await write(store, "a", "old")
    old = store.revision
    async with connected(store) as tide:
        await write(store, "a", "new")
        await anyio.sleep(1)
        survivor = tide._parts.client.state.active
        store.lagging[survivor] = old
        store.down = {m for m in store.members if m != survivor}
        store.touch()
        await tide.health.wait_for(HealthState.DEGRADED)
        await anyio.sleep(20)
        assert tide.config.get("a") == "new"
        assert tide.config.read("a").source is Source.MEMORY
        fetched = await tide.config.fetch("a")
        assert (fetched.value, fetched.source) == ("new", Source.MEMORY)


async def test_start_without_quorum_and_without_snapshot() -> None:
    """A process that starts in a quorum loss gets its configuration from the survivor, of unknown age."""
    store = MemoryStore()
    await write(store, "a", "1")
    store.down = set(store.members[:2])
    async with connected(store) as tide:
        assert tide.health.state is HealthState.DEGRADED
        reading = tide.config.read("a")
        assert (reading.value, reading.source, reading.age) == ("1", Source.MEMBER, math.inf)


async def test_changes_made_meanwhile_are_seen_after_a_blackout() -> None:
    """What others wrote and deleted while this client was cut off is there after its return, by a full read."""
    store = MemoryStore()
    for key in ("a", "b", "c"):
        await write(store, key, "1")
    async with connected(store) as tide:
        seen = tide.config.changes()
        store.down = set(store.members)
        store.touch()
        await tide.health.wait_for(HealthState.UNAVAILABLE)
        store.down = set()
        await write(store, "b", "2")
        await store.call(Delete(b"/config/c"), member=store.members[0], timeout=1)
        reads = full_reads(store)
        store.touch()
        await tide.health.wait_for(HealthState.AVAILABLE, timeout=2)
        await anyio.sleep(1)
        assert full_reads(store) == reads + 1
        assert tide.config.get("a") == "1"
        assert tide.config.get("b") == "2"
        assert tide.config.get("c", default=None) is None
        changes = [await anext(seen), await anext(seen)]
        assert {(change.key, change.value) for change in changes} == {("b", "2"), ("c", None)}


async def test_compaction_forces_a_full_read() -> None:
    """A watch that resumes below the compacted revision ends in a full read, and nothing is lost."""
    store = MemoryStore()
    await write(store, "a", "1")
    async with connected(store) as tide:
        member = tide._parts.client.state.active
        store.down = {member}
        store.touch()
        for n in range(20):
            await write(store, "a", str(n))
        store.compact(store.revision)
        await anyio.sleep(2)
        assert tide.config.get("a") == "19"
        assert tide.config.read("a").source is Source.LIVE


async def test_silent_watch_is_replaced() -> None:
    """The member with the watch freezes: after the next write the view is current again within 15 s."""
    store = MemoryStore()
    await write(store, "a", "1")
    async with connected(store) as tide:
        await anyio.sleep(30)
        store.frozen = {tide._parts.client.state.active}
        other = next(m for m in store.members if m not in store.frozen)
        await store.call(Put(b"/config/a", b"2"), member=other, timeout=1)
        await anyio.sleep(15)
        assert tide.config.get("a") == "2"


@pytest.mark.parametrize("version", ["3.5.1", "3.5.9"])
async def test_a_watch_that_is_dead_alone_is_replaced(version: str) -> None:
    """Members answer every call, but no watch delivers anything: a change is there within 20 s all the same."""
    store = MemoryStore()
    store.version = version
    await write(store, "a", "1")
    async with connected(store) as tide:
        await anyio.sleep(30)
        store.mute = set(store.members)
        await write(store, "a", "2")
        await anyio.sleep(1)
        assert tide.config.get("a") == "1"
        await anyio.sleep(20)
        assert tide.config.get("a") == "2"


async def test_a_dead_watch_behind_a_proxy_ends_in_a_full_read() -> None:
    """Where watching again joins the same dead watch, reading in full shows each change within 20 s."""
    store = MemoryStore(members=1)
    store.proxies = set(store.members)
    async with connected(store) as tide:
        store.mute = set(store.members)
        for n in range(5):
            await write(store, "a", str(n))
            await anyio.sleep(20)
            assert tide.config.get("a") == str(n)
            assert tide.config.read("a").source is Source.LIVE


async def test_a_proxy_is_asked_for_no_progress_and_proven_all_the_same() -> None:
    """Behind a proxy, while other keys change, values stay LIVE; nothing is read in full for it."""
    store = MemoryStore(members=1)
    store.proxies = set(store.members)
    async with connected(store) as tide:
        await anyio.sleep(1)
        restarts = store.watched
        for n in range(300):
            await store.call(Put(b"/elsewhere", str(n).encode()), member=store.members[0], timeout=1)
            await anyio.sleep(1)
            assert tide._parts.views[0].age < 6
            assert tide._parts.views[0].source is Source.LIVE
        assert store.watched == restarts


async def test_a_member_that_tells_no_progress_is_no_reason_to_watch_anew() -> None:
    """From 3.5.8 on etcd says nothing while any watch of the stream is behind: a comparison proves the view."""
    store = MemoryStore()
    async with connected(store) as tide:
        await anyio.sleep(1)
        store.mute = set(store.members)
        opened = store.watched
        for n in range(100):
            await store.call(Put(b"/elsewhere", str(n).encode()), member=store.members[0], timeout=1)
            await anyio.sleep(1)
            assert tide._parts.views[0].source is Source.LIVE
        assert store.watched == opened


async def test_a_resumed_watch_goes_on_behind_its_last_event() -> None:
    """That the newest key was changed meanwhile is no reason to read in full: every change is told, one by one."""
    store = MemoryStore()
    await write(store, "a", "0")
    async with connected(store) as tide:
        told: list[tuple[str, str | None, int]] = []
        tide._parts.views[0]._on_change = lambda changes, revision: told.extend(
            (key.decode(), None if entry is None else entry.value.decode(), revision)
            for key, entry in changes.items()
        )
        reads, revision = full_reads(store), store.revision
        store.down = {tide._parts.client.state.active}
        store.touch()
        for n in range(1, 5):
            await write(store, "a", str(n))
        await store.call(Delete(b"/config/a"), member=next(iter(set(store.members) - store.down)), timeout=1)
        await write(store, "b", "5")
        await anyio.sleep(3)
        assert full_reads(store) == reads
        assert told == [
            *(("/config/a", str(n), revision + n) for n in range(1, 5)),
            ("/config/a", None, revision + 5),
            ("/config/b", "5", revision + 6),
        ]


async def test_a_full_read_tells_its_differences_in_order() -> None:
    """After a compaction changes come in the order of their revisions, deletions last, and nothing else."""
    store = MemoryStore()
    for key in ("gone", "kept", "z", "a"):
        await write(store, key, "old")
    async with connected(store) as tide:
        seen = tide.config.changes()
        store.down = {tide._parts.client.state.active}
        store.touch()
        member = next(iter(set(store.members) - store.down))
        await store.call(Delete(b"/config/gone"), member=member, timeout=1)
        for key, value in (("z", "1"), ("a", "2"), ("z", "3")):
            await write(store, key, value)
        store.compact(store.revision)
        await anyio.sleep(3)
        changes = [await anext(seen) for _ in range(3)]
        newest = store.revision
        assert [(c.key, c.value, c.revision) for c in changes] == [
            ("a", "2", newest - 1),
            ("z", "3", newest),
            ("gone", None, newest),
        ]
        with anyio.move_on_after(30) as scope:
            await anext(seen)
        assert scope.cancelled_caught


async def test_a_reader_that_was_too_slow_is_no_sign_of_trouble() -> None:
    """A watch that ends because its reader was slow is resumed: nothing is lost, nobody probes, all stays well."""

    class Overflowing(FaultyStore):
        @asynccontextmanager
        async def watch(self, *args: Any, **options: Any) -> AsyncIterator[Any]:
            async with super().watch(*args, **options) as watch:
                yield Once(watch)

    class Once:
        def __init__(self, watch: Watch) -> None:
            self.watch, self.told = watch, 0

        async def receive(self) -> WatchBatch:
            if self.told:
                raise StoreFault(classify("RESOURCE_EXHAUSTED", "watch overflow: the reader is slower than etcd"))
            self.told += 1
            return await self.watch.receive()

        async def request_progress(self) -> None:
            await self.watch.request_progress()

    memory = MemoryStore()
    async with connected(Overflowing(memory)) as tide:
        for n in range(10):
            await write(memory, "a", str(n))
            for _ in range(20):
                await anyio.sleep(0.01)
                assert not tide._parts.client.state.breakers.suspected
                assert tide.status().config[0].error is None
            assert tide.config.get("a") == str(n)


async def test_rebuilt_cluster_is_a_reset() -> None:
    """The same members with another, shorter history: read in full, counted, and never served as the old one."""
    store = MemoryStore()
    for n in range(50):
        await write(store, "a", str(n))
    async with connected(store) as tide:
        store.down = set(store.members)
        store.touch()
        await tide.health.wait_for(HealthState.UNAVAILABLE)
        store.down = set()
        store.rebuild({b"/config/b": b"new"})
        await tide.health.wait_for(HealthState.AVAILABLE, timeout=2)
        await anyio.sleep(1)
        assert tide.config.get("b") == "new"
        assert tide.config.get("a", default=None) is None
        assert tide.status().config[0].resets == 1


async def test_swapped_history_without_an_outage_is_noticed() -> None:
    """A cluster rebuilt between two probes, its watch silent for ever, is noticed by the next probe."""
    store = MemoryStore()
    for n in range(50):
        await write(store, "a", str(n))
    async with connected(store) as tide:
        await anyio.sleep(30)
        store.rebuild({b"/config/b": b"new"})
        await anyio.sleep(10)
        assert tide.config.get("b") == "new"
        assert tide.status().config[0].resets == 1


async def test_another_cluster_is_a_reset_even_at_a_higher_revision() -> None:
    """Members of a foreign cluster: its id alone says that it is another history."""
    store = MemoryStore()
    await write(store, "a", "1")
    async with connected(store) as tide:
        store.down = set(store.members)
        store.touch()
        await tide.health.wait_for(HealthState.UNAVAILABLE)
        store.cluster_id = 78
        store.down = set()
        for n in range(20):
            await write(store, "b", str(n))
        await tide.health.wait_for(HealthState.AVAILABLE, timeout=2)
        await anyio.sleep(1)
        assert tide.status().config[0].resets == 1


async def test_full_read_every_ten_minutes() -> None:
    """An hour of quiet has six full reads: the bound on whatever a watch could miss."""
    store = MemoryStore()
    async with connected(store):
        await anyio.sleep(1)
        store.calls.clear()
        await anyio.sleep(3600)
        assert 5 <= full_reads(store) <= 7


async def test_too_large_a_prefix_is_refused_loudly(caplog: pytest.LogCaptureFixture) -> None:
    """Over the cap: an error in the log and the status; what was known before stays."""
    store = MemoryStore()
    await write(store, "a", "1")
    async with connected(store) as tide:
        tide._parts.views[0].rules = replace(tide._parts.views[0].rules, max_keys=3)
        for n in range(5):
            await write(store, f"k{n}", "1")
        await anyio.sleep(1)
        assert tide.config.get("a") == "1"
        assert "follow narrower prefixes" in (tide.status().config[0].error or "")
        assert any("follow narrower prefixes" in message for message in caplog.messages)


async def test_paged_read_is_of_one_revision() -> None:
    """2,500 keys are read in three pages, complete and as of one revision."""
    store = MemoryStore()
    for n in range(2500):
        await write(store, f"k{n:04}", "v")
    async with connected(store, start_timeout=60) as tide:
        assert len(tide._parts.views[0].entries) == 2500
        pages = [op for _, op in store.calls if isinstance(op, Range) and op.end is not None]
        assert len(pages) == 3
        assert pages[0].revision == 0
        assert pages[1].revision == pages[2].revision > 0


class Narrow(MemoryStore):
    """A cluster behind a link of 100 kB a second.

    Attributes:
        pages: The sizes of the answers to full reads, in bytes.
    """

    def __init__(self) -> None:
        super().__init__()
        self.pages: list[int] = []

    async def call(self, op: Op[R], *, member: str, timeout: float) -> R:
        """Make one attempt."""
        answer = await super().call(op, member=member, timeout=timeout)
        if isinstance(op, Range) and isinstance(answer, RangeResult) and op.end is not None and op.limit != 1:
            self.pages.append(sum(len(entry.value) for entry in answer.entries.values()))
            await anyio.sleep(self.pages[-1] / 100_000)
        return answer


async def test_pages_go_by_size_once_one_was_slow() -> None:
    """The first page is by count; once it took long, no page is larger than 256 KiB, nor is one read twice."""
    store = Narrow()
    for n in range(1200):
        await write(store, f"k{n:04}", "x" * 2500)
    async with connected(store, start_timeout=60) as tide:
        assert len(tide._parts.views[0].entries) == 1200
        assert sum(store.pages) == 3_000_000
        assert store.pages[0] == 2_500_000
        assert max(store.pages[1:]) <= 256 * 1024
        store.down = set(store.members)
        store.touch()
        await tide.health.wait_for(HealthState.UNAVAILABLE)
        store.down, store.pages = set(), []
        store.touch()
        await anyio.sleep(60)
        assert tide._parts.views[0].source is Source.LIVE
        assert sum(store.pages) == 3_000_000
        assert max(store.pages) <= 256 * 1024


async def test_background_task_that_fails_is_restarted(caplog: pytest.LogCaptureFixture) -> None:
    """An unexpected error in a background task is one log line, a count and a restart: the body goes on."""
    store = FaultyStore(MemoryStore())
    async with connected(store) as tide:

        def explode(*_: object) -> None:
            raise RuntimeError("boom")

        view = tide._parts.views[0]
        original, view._on_change = view._on_change, explode
        await tide.config.put("a", "1")
        view._on_change = original
        await anyio.sleep(40)
        assert tide.status().restarts >= 1
        assert any("boom" in (record.exc_text or "") for record in caplog.records)
        await tide.config.put("a", "2")
        assert tide.config.get("a") == "2"
