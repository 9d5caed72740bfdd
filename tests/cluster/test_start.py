"""How a start waits: for the first answer that suffices, as long as it may, and for the disk apart from that."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TypeVar

import anyio
import pytest

import tideover
from tests.support import connected
from tideover.errors import Unreachable
from tideover.prefixes.snapshots.snapshot_file import Loaded, SnapshotFile
from tideover.store.faults import StoreFault, classify
from tideover.store.operations import Op, Result
from tideover.testing import MemoryStore
from tideover.types import HealthState, Source

pytestmark = pytest.mark.anyio

R = TypeVar("R", bound=Result)


@pytest.mark.parametrize("seconds", [0.2, 0.45, 0.6, 0.85, 1.0, 1.2])
async def test_a_far_cluster_is_waited_for(seconds: float) -> None:
    """Answers that take up to 1.2 s each: AVAILABLE and live when the body begins, and never declared away."""
    store = MemoryStore()
    store.delay = seconds
    async with connected(store, start_timeout=10, require="etcd") as tide:
        assert tide.health.state is HealthState.AVAILABLE
        assert [view.source for view in tide._parts.views] == [Source.LIVE]
        assert anyio.current_time() < 10
        await anyio.sleep(30)
        assert tide.health.state is HealthState.AVAILABLE


class Connecting(MemoryStore):
    """A far cluster: the way to it takes 0.62 s, and what goes through the quorum 0.05 s more than the rest."""

    async def call(self, op: Op[R], *, member: str, timeout: float) -> R:
        """Make one attempt."""
        await anyio.sleep(max(0.0, 0.62 - anyio.current_time()))
        if op.linearizable:
            await anyio.sleep(0.05)
        return await super().call(op, member=member, timeout=timeout)


async def test_the_quorums_time_begins_with_the_members_own_answer() -> None:
    """A member whose own answer comes late, for want of a connection, is no sign that there is no leader."""
    async with connected(Connecting(), start_timeout=1, require="etcd") as tide:
        assert tide.health.state is HealthState.AVAILABLE


@pytest.mark.parametrize("timeout", [0.01, 0.3, 1.0, 4.0])
async def test_silent_members_cost_the_start_timeout(timeout: float) -> None:
    """With all members silent a start takes `start_timeout`, and what `require` asks for is refused then."""
    store = MemoryStore()
    store.frozen = set(store.members)
    with pytest.raises(Unreachable):
        async with connected(store, start_timeout=timeout, require="etcd"):
            pass
    assert anyio.current_time() == pytest.approx(timeout, abs=0.06)


async def test_members_that_refuse_cost_nothing() -> None:
    """With all members refusing connections a start is over at once."""
    store = MemoryStore()
    store.down = set(store.members)
    async with connected(store, start_timeout=10) as tide:
        assert anyio.current_time() < 0.2
        assert tide.health.state is HealthState.UNAVAILABLE


async def test_one_silent_member_is_not_waited_for() -> None:
    """Whichever of three members is silent, and whichever is asked first, a start waits for the others alone."""
    for silent in range(3):
        store = MemoryStore()
        store.frozen = {store.members[silent]}
        began = anyio.current_time()
        async with connected(store, start_timeout=10) as tide:
            assert anyio.current_time() - began < 2
            assert tide.health.state is HealthState.AVAILABLE


class Hanging(MemoryStore):
    """A cluster that has just lost its leader: members answer, and reads through the quorum hang."""

    async def call(self, op: Op[R], *, member: str, timeout: float) -> R:
        """Make one attempt."""
        if op.linearizable:
            with anyio.move_on_after(timeout):
                await anyio.sleep(1000)
            raise StoreFault(classify("DEADLINE_EXCEEDED", "Deadline Exceeded"))
        return await super().call(op, member=member, timeout=timeout)


@pytest.mark.parametrize("timeout", [1.0, 10.0])
async def test_a_quorum_that_hangs_leaves_time_for_a_member(timeout: float) -> None:
    """Members that answer for themselves alone: DEGRADED in time for the start to show what a member knows."""
    store = Hanging()
    async with connected(store, start_timeout=timeout) as tide:
        assert 0.6 * timeout <= anyio.current_time() < 0.8 * timeout
        assert tide.health.state is HealthState.DEGRADED
        assert [view.source for view in tide._parts.views] == [Source.MEMBER]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("frozen", [False, True])
async def test_a_snapshot_is_waited_for(frozen: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With etcd away, a snapshot that takes longer to load than `start_timeout` is there when the body begins."""
    store = MemoryStore()
    async with tideover.connect(store=store, cache_dir=tmp_path) as tide:
        await tide.config.put("a", "1")
    load = SnapshotFile.load

    def slowly(self: SnapshotFile) -> Loaded | None:
        time.sleep(0.4)
        return load(self)

    monkeypatch.setattr(SnapshotFile, "load", slowly)
    if frozen:
        store.frozen = set(store.members)
    else:
        store.down = set(store.members)
    async with tideover.connect(store=store, cache_dir=tmp_path, start_timeout=0.1, require="config") as tide:
        assert tide.config.read("a").source == "disk"
