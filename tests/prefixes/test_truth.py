"""Ways in which an old value could pass for a fresh one; each was once possible."""

from __future__ import annotations

from typing import TypedDict

import anyio
import pytest

from tests.support import connected, request
from tideover import CachePolicy, HealthState, Source
from tideover.prefixes.rules import progress_is_ordered
from tideover.store.operations import Op, Put, Range, Result
from tideover.testing import FaultyStore, MemoryStore

pytestmark = pytest.mark.anyio


class Limits(TypedDict, total=False):
    """Settings for a test."""

    rate: int


async def write(store: MemoryStore, key: str, value: str) -> None:
    """Write as another client would."""
    await store.call(Put(f"/{key}".encode(), value.encode()), member=store.members[0], timeout=1)


@pytest.mark.parametrize(
    ("version", "ordered"),
    [
        ("3.4.24", False),
        ("3.4.25", True),
        ("3.5.1", False),
        ("3.5.8", True),
        ("3.6.0", True),
        ("3.6.0-rc.1", True),
        ("4.0.0", True),
        ("3.3.27", False),
        ("", False),
        ("3.5", False),
        ("nonsense", False),
    ],
)
async def test_which_members_order_their_progress(version: str, ordered: bool) -> None:
    """Progress replies are believed from 3.4.25 and 3.5.8 on, and from nobody whose version is not understood."""
    assert progress_is_ordered(version) is ordered


async def test_an_old_members_progress_proves_nothing() -> None:
    """From an old member a progress reply, however new its revision, never makes a lagging view fresh."""
    store = FaultyStore(memory := MemoryStore())
    memory.version = "3.5.1"

    def compares(op: Op[Result]) -> bool:
        return isinstance(op, Range) and op.changed_since > 0

    async with connected(store) as tide:
        await write(memory, "config/a", "1")
        await anyio.sleep(6)
        store.inject("UNAVAILABLE", "etcdserver: too many requests", when=compares, times=10_000)
        for n in range(8):
            await write(memory, "elsewhere", str(n))
            await anyio.sleep(3)
        assert tide.config.read("a").age > 15
        assert tide.config.read("a").source is not Source.LIVE


async def test_an_old_members_view_is_proven_by_comparison() -> None:
    """With an old member the view stays live and its age small while other keys change: it is compared."""
    memory = MemoryStore()
    memory.version = "3.5.1"
    async with connected(memory) as tide:
        await write(memory, "config/a", "1")
        for n in range(60):
            await write(memory, "elsewhere", str(n))
            await anyio.sleep(1)
            assert tide.config.read("a").source is Source.LIVE
            assert tide.config.read("a").age < 6


async def test_an_old_members_view_is_not_compared_for_each_answer() -> None:
    """A busy process sees newer revisions many times a second: with an old member it compares five times."""
    memory = MemoryStore()
    memory.version = "3.5.1"
    async with connected(memory) as tide:
        await anyio.sleep(6)
        asked = len(memory.calls)
        for n in range(50):
            await write(memory, "elsewhere", str(n))
            await tide.config.fetch("a")
            await anyio.sleep(0.02)
        compared = [op for _, op in memory.calls[asked:] if isinstance(op, Range) and op.changed_since > 0]
        assert 4 <= len(compared) <= 6
        await anyio.sleep(1)
        assert tide.config.read("a").source is Source.LIVE


async def test_a_cluster_rebuilt_past_the_old_revision() -> None:
    """Rebuilt unseen past the old revision, with its term and id: no watch resumes, and it is a reset."""
    store = MemoryStore()
    for n in range(10):
        await write(store, "config/old", str(n))
    async with connected(store) as tide:
        await anyio.sleep(1)
        term = store.raft_term
        store.down = {tide._parts.client.state.active}
        store.rebuild({f"/config/new{n}".encode(): b"2" for n in range(20)})
        store.raft_term = term
        store.touch()
        await anyio.sleep(5)
        assert tide.config.get("old", default=None) is None
        assert tide.config.get("new0") == "2"
        assert tide.config.read("new0").source is Source.LIVE
        assert tide.status().config[0].resets == 1


async def test_compaction_between_two_pages() -> None:
    """A full read whose revision is compacted between two pages begins again at once; no task fails."""
    store = FaultyStore(memory := MemoryStore())
    for n in range(1500):
        await write(memory, f"config/k{n:04}", "v")
    store.inject(
        "OUT_OF_RANGE",
        "etcdserver: mvcc: required revision has been compacted",
        when=lambda op: isinstance(op, Range) and op.revision > 0,
        times=5,
    )
    began = anyio.current_time()
    async with connected(store, start_timeout=60) as tide:
        assert anyio.current_time() - began < 1
        assert tide.status().config[0].keys == 1500
        assert tide.status().restarts == 0


async def test_one_raising_validator_harms_no_other() -> None:
    """A validator that raises anything at all refuses its own object; the others follow, and no task fails."""

    def explode(limits: Limits) -> None:
        if limits.get("rate", 0) > 5:
            raise LookupError("no such thing")

    async with connected(MemoryStore()) as tide:
        await tide.config.put("l/rate", 1)
        lives = [tide.config.bind(Limits, prefix="l/", validate=explode if n == 1 else None) for n in range(4)]
        await tide.config.put("l/rate", 9)
        assert [live.value.get("rate") for live in lives] == [9, 1, 9, 9]
        assert lives[1].rejection is not None
        assert [refused.key for refused in tide.status().rejected] == ["l/"]
        assert tide.status().restarts == 0


async def test_an_answer_within_its_ttl_is_no_degradation() -> None:
    """With etcd well, a kept answer within the cache's ttl marks nothing and is not stale."""
    async with connected(MemoryStore(), follow=("x/",), cache=CachePolicy(ttl=30)) as tide:
        await tide.config.put("a", 1)
        await tide.config.fetch("a")
        with request() as record:
            reading = await tide.config.fetch("a")
        assert tide.health.state is HealthState.AVAILABLE
        assert not reading.stale
        assert not record.marks
