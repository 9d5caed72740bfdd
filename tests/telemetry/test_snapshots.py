"""Snapshots: those that cannot be used, and those that are written."""

from __future__ import annotations

import random
from pathlib import Path

import anyio
import pytest

from tests.support import mock_clock
from tests.telemetry.recording import Recorded, lose, points, put, value
from tideover import telemetry
from tideover.coordinator.coordinator import Coordinator
from tideover.options import Options
from tideover.testing import MemoryStore

pytestmark = pytest.mark.anyio


def test_unusable_snapshot_is_logged(recorded: Recorded, tmp_path: Path) -> None:
    """A snapshot that cannot be used is an event with the path and the reason."""
    telemetry.snapshot_rejected("discovery", str(tmp_path), "damaged")
    about = {"tideover.component": "discovery"}
    assert recorded.events() == [("tideover.snapshot.rejected", about, f"{tmp_path}: damaged")]


def test_snapshots_are_counted(recorded: Recorded) -> None:
    """Snapshots are counted by whose they are, failed ones by the type of error."""
    telemetry.snapshot_written("config", None)
    telemetry.snapshot_written("discovery", "PermissionError")
    metric = recorded.metrics()["tideover.snapshot.writes"]
    assert metric.unit == "{write}"
    assert {k: value(p) for k, p in points(metric).items()} == {
        ("config",): 1,
        ("PermissionError", "discovery"): 1,
    }


@pytest.mark.usefixtures("disk_at_once")
async def test_age_and_size_of_snapshots(recorded: Recorded, tmp_path: Path) -> None:
    """The age is what a restart without etcd would begin with; the size is that of the files."""
    store = MemoryStore()
    await put(store, "/config/rate", b"5")
    for outage in (False, True):
        options = Options(endpoints=tuple(store.members), cache_dir=tmp_path, namespace="")
        coordinator = Coordinator(options, store=store, clock=mock_clock(), chance=random.Random(7).random)
        async with coordinator as tide:
            if not outage:
                await anyio.sleep(1)
                lose(store)
            await anyio.sleep(100)
            found = recorded.metrics()
            ages, sizes = found["tideover.snapshot.age"], found["tideover.snapshot.size"]
            assert (ages.unit, sizes.unit) == ("s", "By")
            assert list(points(ages)) == [("", "config")]
            assert value(points(ages)["", "config"]) == pytest.approx(
                tide._life.instruments.observe_age(), abs=0.01
            )
            (path,) = tmp_path.glob("config-*[0-9a-f].json")
            assert value(points(sizes)["", "config"]) == path.stat().st_size
