"""Alarms on a cluster in memory: found without a failed write, taken back likewise, and cheap."""

from __future__ import annotations

import logging

import anyio
import pytest

from tests.support import connected
from tideover.cluster.alarms import ALARMED_INTERVAL, QUIET_INTERVAL
from tideover.store.operations import Status
from tideover.testing import FaultyStore, MemoryStore
from tideover.types import Diagnosis, HealthState

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(("alarm", "diagnosis"), [("NOSPACE", Diagnosis.NO_SPACE), ("CORRUPT", Diagnosis.CORRUPT)])
async def test_an_alarm_is_found_in_time(
    alarm: str, diagnosis: Diagnosis, caplog: pytest.LogCaptureFixture
) -> None:
    """Raised under an idle client it is found within 30 s, taken back within 5 s; each is one line in the log."""
    store = MemoryStore()
    async with connected(store) as tide:
        await anyio.sleep(100)
        caplog.clear()
        for alarms, found, within in (({alarm}, diagnosis, QUIET_INTERVAL), (set(), "healthy", ALARMED_INTERVAL)):
            store.alarms = alarms
            await anyio.sleep(within + 0.1)
            assert tide.health.diagnosis == found
            assert tide.health.state is HealthState.AVAILABLE
    said = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert len(said) == 2
    assert "refuses writes" in said[0]
    assert "etcd answers" in said[1]


async def test_an_alarm_is_known_at_the_start() -> None:
    """Whoever connects to a cluster with an alarm is told so from the first moment on."""
    store = MemoryStore()
    store.alarms = {"NOSPACE"}
    async with connected(store) as tide:
        assert str(tide.health.diagnosis) == "no_space"
        assert "its database quota is used up" in tide.status().sentence


async def test_the_worst_alarm_counts() -> None:
    """Damaged data matters more than a full quota."""
    store = MemoryStore()
    store.alarms = {"NOSPACE", "CORRUPT"}
    async with connected(store) as tide:
        assert tide.health.diagnosis is Diagnosis.CORRUPT


async def test_alarms_cost_little() -> None:
    """An hour costs etcd at most one question per 21 s, all to one member, and none while nobody answers."""
    store = MemoryStore()
    async with connected(store) as tide:
        await anyio.sleep(60)
        store.calls.clear()
        await anyio.sleep(3600)
        asked = [member for member, op in store.calls if isinstance(op, Status)]
        assert 3600 / 30 - 1 <= len(asked) <= 3600 / 21 + 1
        assert set(asked) == {tide._lanes.active}


async def test_an_outage_is_not_called_by_its_alarms() -> None:
    """The loss of the quorum is what it is called, alarm or not; afterwards the alarm shows again."""
    store = MemoryStore()
    async with connected(store) as tide:
        store.alarms = {"NOSPACE"}
        await anyio.sleep(QUIET_INTERVAL)
        store.down = set(store.members[:2])
        store.touch()
        await tide.health.wait_for(HealthState.DEGRADED, timeout=10)
        await anyio.sleep(10)
        assert str(tide.health.diagnosis) == "quorum_lost"
        store.down = set()
        store.touch()
        await tide.health.wait_for(HealthState.AVAILABLE, timeout=5)
        assert str(tide.health.diagnosis) == "no_space"


async def test_a_member_that_says_nothing_of_alarms() -> None:
    """Where the status is refused, the cluster is called healthy until a write says otherwise."""
    store = FaultyStore(MemoryStore())
    store.inject("PERMISSION_DENIED", "etcdserver: permission denied", op=Status, times=1000)
    async with connected(store) as tide:
        assert str(tide.health.diagnosis) == "healthy"
        store.inject("RESOURCE_EXHAUSTED", "etcdserver: mvcc: database space exceeded")
        with pytest.raises(Exception, match="database space exceeded"):
            await tide.config.put("a", "1")
        await anyio.sleep(60)
        assert str(tide.health.diagnosis) == "no_space"
        await tide.config.put("a", "1")
        assert str(tide.health.diagnosis) == "healthy"
