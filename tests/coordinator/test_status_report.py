"""`tide.status()` in the course of a night: what it says while etcd is there, away, and back."""

from __future__ import annotations

import json
import os
import platform
import socket
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.coordinator.reports import said
from tests.support import connected, mock_clock
from tideover import StalenessLimit
from tideover.coordinator.coordinator import Coordinator
from tideover.options import Options
from tideover.status import PrimitiveStatus
from tideover.testing import MemoryStore
from tideover.types import HealthState, LockMode, Standing

pytestmark = pytest.mark.anyio

S = HealthState
LIMITS = {"payments/": StalenessLimit(90.0, "raise"), "prices/": StalenessLimit(3600.0, "default")}


def rows(tide: Coordinator) -> dict[str, PrimitiveStatus]:
    """Return the rows of the primitives."""
    return {row.component: row for row in tide.status().primitives}


def lose(store: MemoryStore, tide: Coordinator, members: int) -> None:
    """Take down members, the one in use last."""
    others = [member for member in store.members if member != tide._parts.client.state.active]
    store.down = {*others, tide._parts.client.state.active} if members == 3 else set(others[:members])
    store.touch()


async def hold(tide: Coordinator, name: str, held: anyio.Event | None = None) -> None:
    """Hold a lock until cancelled."""
    async with tide.lock(name):
        if held is not None:
            held.set()
        await anyio.sleep_forever()


async def lead(tide: Coordinator, name: str) -> None:
    """Lead until cancelled."""
    async with tide.leader(name):
        await anyio.sleep_forever()


async def test_a_night() -> None:
    """Well; without a quorum; cut off for longer than a limit; and back: state, words, rows and history agree."""
    store = MemoryStore()
    options: dict[str, Any] = {"namespace": "/shop", "profile": "availability", "limits": LIMITS}
    connection = connected(store, follow=("payments/", "prices/"), **options)
    async with connection as tide, anyio.create_task_group() as tasks:
        await tide.config.put("payments/limits", "5")
        await tide.config.put("prices/espresso", "5")
        tasks.start_soon(lead, tide, "reaper")
        tasks.start_soon(hold, tide, "orders/42")
        async with tide.register("api", "http://10.0.0.7:8000"):
            await anyio.sleep(60)
            report = tide.status()
            assert said(report.works) == ["Everything: config, 'reaper', locks, writes."]
            assert report.fails == ()
            assert {row.state for row in report.primitives if row.state} == {S.AVAILABLE}
            assert (report.outage, report.last_outage) == (None, None)
            assert report.process.name.endswith(f":{os.getpid()} (http://10.0.0.7:8000)")

            lose(store, tide, 2)
            await tide.health.wait_for(S.DEGRADED, timeout=9)
            declared = tide.status()
            await anyio.sleep(20)
            report = tide.status()
            assert report.outage is not None
            assert report.outage.outage_id == report.outage_id == declared.outage_id != ""
            assert str(report.consequences[0]).startswith("'reaper' is led here, UNCONFIRMED")
            assert {name: row.state for name, row in rows(tide).items()} == {
                "config": S.DEGRADED,
                "discovery": None,
                "election": S.DEGRADED,
                "lock": S.DEGRADED,
            }
            assert {row.since for row in report.primitives if row.state} == {report.since}
            assert report.locks[0].mode is LockMode.LOCAL
            assert report.locks[0].mode_seconds < report.locks[0].seconds
            assert report.elections[0].standing is Standing.UNCONFIRMED
            assert rows(tide)["election"].over
            assert rows(tide)["lock"].over

            lose(store, tide, 3)
            await tide.health.wait_for(S.UNAVAILABLE, timeout=9)
            await anyio.sleep(80)
            report = tide.status()
            assert "Config reads of payments/: 1 key, TooStale" in said(report.fails)
            assert (report.keys, report.keys_served) == (2, 1)
            assert rows(tide)["config"].over
            assert json.loads(json.dumps(report.to_dict(), allow_nan=False))["outage"]["ended"] is None

            store.down = set()
            store.touch()
            await tide.health.wait_for(S.AVAILABLE, timeout=9)
            await anyio.sleep(30)
            report = tide.status()
            assert report.last_outage is not None
            assert report.last_outage.outage_id == declared.outage_id
            assert [t.state for t in report.history.transitions] == [
                S.AVAILABLE,
                S.UNAVAILABLE,
                S.DEGRADED,
                S.AVAILABLE,
            ]
            assert report.history.outages == 1
            assert {row.state for row in report.primitives if row.state} == {S.AVAILABLE}
            tasks.cancel_scope.cancel()


async def test_who_waits_for_whom() -> None:
    """A lock that another process has is told with who has it, how many wait here, and for how long."""
    store = MemoryStore()
    async with connected(store) as one, connected(store) as two, anyio.create_task_group() as tasks:
        held = anyio.Event()
        tasks.start_soon(hold, one, "stock/rebuild", held)
        await held.wait()
        for _ in range(2):
            tasks.start_soon(hold, two, "stock/rebuild")
        await anyio.sleep(18)
        (waits,) = two.status().lock_waits
        assert (waits.name, waits.waiting) == ("stock/rebuild", 2)
        assert waits.seconds == pytest.approx(18, abs=0.1)
        assert waits.held_by is not None
        assert waits.held_by.startswith(f"{socket.gethostname()}:{os.getpid()} since ")
        assert one.status().lock_waits == ()
        assert [session.component for session in one.status().sessions] == ["lock"]
        tasks.cancel_scope.cancel()


async def test_endpoints_and_what_is_made_of_them() -> None:
    """Who is drained and who is ejected is told first, the latter with when it comes back."""
    store = MemoryStore()
    async with connected(store, discover=("billing",)) as tide:
        urls = [f"http://10.0.8.{n}:8000" for n in range(3)]
        async with (
            tide.register("billing", urls[0]),
            tide.register("billing", urls[1], weight=0.0),
            tide.register("billing", urls[2]),
        ):
            await anyio.sleep(5)
            view = tide.discover("billing")
            bad = next(endpoint for endpoint in view.endpoints if endpoint.url == urls[2])
            for _ in range(3):
                view.report(bad, ok=False)
            (service,) = tide.status().services
            assert [(e.url, e.weight, e.use, e.held) for e in service.listed] == [
                (urls[1], 0.0, "drained", False),
                (urls[2], 1.0, "ejected", False),
                (urls[0], 1.0, "picked", False),
            ]
            assert service.listed[1].back_in == pytest.approx(5.0)
            assert "1 endpoint is ejected: billing." in said(tide.status().consequences)


async def test_what_is_on_disk(tmp_path: Path, threads_stop_the_clock: None) -> None:
    """Each snapshot says whose it is, how old, how large, and when this process has written it."""
    store = MemoryStore()
    options = Options(endpoints=tuple(store.members), cache_dir=tmp_path, namespace="/shop")
    async with Coordinator(options, store=store, clock=mock_clock()) as tide:
        (unsaved,) = tide.status().snapshots
        assert (unsaved.size, unsaved.saved_ago) == (0, None)
        await tide.config.put("rate", "5")
        await anyio.sleep(3)
        (saved,) = tide.status().snapshots
        assert (saved.component, saved.prefix, saved.keys, saved.error) == ("config", "/shop/config/", 1, None)
        assert saved.size > 0
        assert saved.saved_ago is not None
        assert saved.saved_ago < 3
        assert saved.age < 10


async def test_which_process_this_is() -> None:
    """Pid, host, version of Python, and since when the coordinator is entered, which is when recording began."""
    async with connected(MemoryStore()) as tide:
        await anyio.sleep(100)
        report = tide.status()
        process = report.process
        assert (process.pid, process.host, process.python) == (
            os.getpid(),
            socket.gethostname(),
            platform.python_version(),
        )
        assert process.version
        assert process.seconds == pytest.approx(100, abs=1)
        assert process.started == report.history.recorded_since
        assert (report.at - process.started).total_seconds() == pytest.approx(process.seconds)
        assert (report.quorum.members, report.quorum.answering, report.quorum.needed) == (3, 3, 2)


async def test_before_it_is_entered() -> None:
    """A report can be made at any time, and says that nothing is known yet."""
    async with connected(MemoryStore()) as tide:
        made = Coordinator(tide._parts.options, store=MemoryStore())
    report = made.status()
    assert report.sentence.startswith("not entered yet")
    assert str(report.headline) == "etcd has not been asked yet."
    assert (report.history.transitions, str(report.history.summary)) == ((), "Nothing is known yet.")
