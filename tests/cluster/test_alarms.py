"""Alarms on a cluster in memory: found without a failed write, taken back likewise, and cheap."""

from __future__ import annotations

import logging

import anyio
import pytest

from tests.support import connected
from tideover.cluster.alarms import ALARMED_INTERVAL, LIST_INTERVAL, QUIET_INTERVAL
from tideover.errors import SpaceExhausted
from tideover.store.operations import AlarmList, Status
from tideover.testing import FaultyStore, MemoryStore
from tideover.types import Diagnosis, HealthState, Source

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
    assert said[1] == "tideover.backend.alarm: etcd has no alarm any more"


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
    """Ten minutes cost etcd at most one question per 21 s, all to one member, and none while nobody answers."""
    store = MemoryStore()
    async with connected(store) as tide:
        await anyio.sleep(60)
        store.calls.clear()
        await anyio.sleep(600)
        asked = [member for member, op in store.calls if isinstance(op, Status)]
        assert 600 / 30 - 1 <= len(asked) <= 600 / 21 + 1
        assert set(asked) == {tide._parts.client.state.active}


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


def listings(store: MemoryStore) -> int:
    """Count how often the alarms were listed."""
    return sum(isinstance(op, AlarmList) for _, op in store.calls)


async def test_who_may_not_ask_for_the_status_has_the_alarms_listed_seldom() -> None:
    """Where the status is root's an alarm is known at the start and within 5.5 min; an hour costs 12 listings."""
    store = MemoryStore()
    store.status_denied = True
    store.alarms = {"NOSPACE"}
    async with connected(store) as tide:
        assert str(tide.health.diagnosis) == "no_space"
        store.alarms = set()
        await anyio.sleep(1.1 * LIST_INTERVAL)
        assert str(tide.health.diagnosis) == "healthy"
        store.calls.clear()
        await anyio.sleep(3600)
        assert 3600 / LIST_INTERVAL - 2 <= listings(store) <= 3600 / LIST_INTERVAL


async def test_a_refused_write_has_the_alarms_listed_once() -> None:
    """After the first write that an alarm refuses they are listed at once, after a hundred more not again."""
    store = MemoryStore()
    store.status_denied = True
    async with connected(store) as tide:
        await anyio.sleep(10)
        before = listings(store)
        store.alarms = {"NOSPACE"}
        for _ in range(100):
            with pytest.raises(SpaceExhausted):
                await tide.config.put("a", "1")
            await anyio.sleep(0.2)
        assert listings(store) == before + 1
        assert str(tide.health.diagnosis) == "no_space"


async def test_what_etcd_does_not_tell_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    """One line in the log, one in the status; config is live, and it is gone when etcd tells after all."""
    caplog.set_level(logging.INFO, "tideover")
    store = MemoryStore()
    store.status_denied = True
    async with connected(store) as tide:
        await anyio.sleep(600)
        assert [r.getMessage() for r in caplog.records if "does not tell" in r.getMessage()] == [
            "tideover.backend.untold: etcd does not tell this user its version and alarms in its status: root "
            "alone may ask; alarms are listed every 5 minutes instead, and when a write is refused"
        ]
        assert len(tide.status().untold) == 1
        assert tide.status().config[0].source is Source.LIVE
        store.status_denied = False
        await anyio.sleep(1.1 * LIST_INTERVAL)
        assert tide.status().untold == ()
