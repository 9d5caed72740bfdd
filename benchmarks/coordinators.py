"""Coordinators in a known state: healthy on a store in memory, or in a declared outage with a snapshot."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from tideover import Coordinator, HealthState, StalenessLimit, connect
from tideover.clock import Clock
from tideover.prefixes.snapshots.snapshot import Snapshot
from tideover.prefixes.snapshots.snapshot_file import SnapshotFile
from tideover.prefixes.snapshots.snapshot_names import SnapshotOwner
from tideover.testing import MemoryStore
from tideover.types import Entry

BASE = b"/config/"
# Seconds for the background tasks to have worked out what reads must do.
_SETTLE = 0.05


@asynccontextmanager
async def healthy(
    values: Mapping[str, str],
    *,
    limits: Mapping[str, StalenessLimit] | None = None,
    store: MemoryStore | None = None,
) -> AsyncIterator[Coordinator]:
    """Open a coordinator on a store in memory that answers."""
    store = store or MemoryStore()
    store.rebuild({BASE + key.encode(): value.encode() for key, value in values.items()})
    async with connect(store=store, cache_dir=False, limits=limits) as tide:
        await _expect(tide, HealthState.AVAILABLE)
        yield tide


@asynccontextmanager
async def in_outage(values: Mapping[str, str], *, store: MemoryStore | None = None) -> AsyncIterator[Coordinator]:
    """Open a coordinator on a store whose members are all down, with the snapshot of an earlier process."""
    store = store or MemoryStore()
    store.down = set(store.members)
    with tempfile.TemporaryDirectory() as folder:
        save_snapshot(Path(folder), values, endpoints=store.members)
        async with connect(store=store, cache_dir=folder) as tide:
            await _expect(tide, HealthState.UNAVAILABLE)
            yield tide


def save_snapshot(folder: Path, values: Mapping[str, str], *, endpoints: Sequence[str]) -> None:
    """Leave on disk what an earlier process would have left."""
    clock = Clock()
    entries = {
        BASE + key.encode(): Entry(value.encode(), number, number)
        for number, (key, value) in enumerate(values.items(), 2)
    }
    snapshot = Snapshot(
        prefix=BASE,
        cluster_id=77,
        epoch=0,
        raft_term=2,
        revision=len(entries) + 1,
        synced_at=clock.stamp(ago=60.0),
        saved_at=clock.stamp(ago=60.0),
        entries=entries,
    )
    SnapshotFile(folder, SnapshotOwner("", endpoints), prefix=BASE).save(snapshot)


async def _expect(tide: Coordinator, state: HealthState) -> None:
    await asyncio.sleep(_SETTLE)
    if tide.health.state is not state:
        raise RuntimeError(f"expected a coordinator that is {state}, not {tide!r}")
