"""The status report, and durations for people."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tideover.status import (
    HistoryStatus,
    IdentityStatus,
    MemberStatus,
    PrefixStatus,
    ProcessStatus,
    QuorumStatus,
    RejectedValue,
    SessionStatus,
    Statement,
    StatusReport,
    duration,
)
from tideover.types import Diagnosis, HealthState, SessionState, Source

REPORT = StatusReport(
    sentence="etcd has no quorum",
    state=HealthState.DEGRADED,
    diagnosis=Diagnosis.QUORUM_LOST,
    since=datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC),
    seconds=133.5,
    next_probe=0.4,
    outage_id="abc",
    namespace="shop",
    profile="safety",
    pid=7,
    members=(MemberStatus("h:1", active=True, answers=False, error="refused"),),
    identity=IdentityStatus("1f", 3, 9, 2, True, 1, "its revision went back from 9 to 4", 60.0, ("h:2",), None),
    config=(PrefixStatus("", Source.MEMORY, 9, math.inf, 2, 0, 1, None, "disk full"),),
    rejected=(RejectedValue("timeout", 8, "not a number"),),
    restarts=0,
    at=datetime(2024, 5, 6, 7, 10, 22, tzinfo=UTC),
    headline=Statement("etcd has had no quorum for ", 133.5, "."),
    why="no quorum: 0 of 1 member answers",
    announcement="etcd has no quorum. State degraded.",
    quorum=QuorumStatus(1, 0, 1),
    process=ProcessStatus(7, "h", "h:7", datetime(2024, 5, 6, 7, 0, tzinfo=UTC), 622.0, "1.0", "3.11.7"),
    history=HistoryStatus(
        window=3600.0,
        recorded_since=datetime(2024, 5, 6, 7, 0, tzinfo=UTC),
        recorded_seconds=622.0,
        transitions=(),
        leader_changes=(),
        outages=1,
        outage_seconds=133.5,
        missed=0,
        summary=Statement("1 outage, ", 133.5, "."),
        caption=Statement("Degraded for ", 133.5, "."),
    ),
    sessions=(
        SessionStatus(
            lease_id="7a11",
            ttl=15,
            state=SessionState.SUSPENDED,
            seconds_left=3.5,
            keys=("locks/a",),
            member="h:1",
            last_proof=10.0,
            error="h:1: no leader",
        ),
    ),
)


def test_a_report_is_ready_for_json() -> None:
    """A report's dictionary is strict JSON: words for states, ISO time, null for what is unknown."""
    plain = REPORT.to_dict()
    assert json.loads(json.dumps(plain, allow_nan=False)) == plain
    assert plain["state"] == "degraded"
    assert plain["since"] == "2024-05-06T07:08:09+00:00"
    assert plain["members"] == [
        {
            "endpoint": "h:1",
            "active": True,
            "answers": False,
            "error": "refused",
            "proxy": None,
            "name": "",
            "id": "",
            "origin": "given",
        }
    ]
    assert plain["config"] == [
        {
            "prefix": "",
            "source": "memory",
            "revision": 9,
            "age": None,
            "keys": 2,
            "resets": 0,
            "epoch": 1,
            "error": None,
            "snapshot_error": "disk full",
            "denied": False,
            "etcd_prefix": "",
            "limit": None,
        }
    ]
    assert plain["sessions"] == [
        {
            "lease_id": "7a11",
            "ttl": 15,
            "state": "suspended",
            "seconds_left": 3.5,
            "keys": ["locks/a"],
            "member": "h:1",
            "last_proof": 10.0,
            "error": "h:1: no leader",
            "debris": 0,
            "component": "session",
        }
    ]


def test_a_report_says_all_it_has() -> None:
    """Every field of the report is in its dictionary."""
    assert set(REPORT.to_dict()) == set(StatusReport.__dataclass_fields__)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.0, "0 s"),
        (0.99, "0 s"),
        (42.0, "42 s"),
        (59.99, "59 s"),
        (60.0, "1 min 0 s"),
        (133.5, "2 min 13 s"),
        (3599.9, "59 min 59 s"),
        (3600.0, "1 h 0 min"),
        (11_100.0, "3 h 5 min"),
        (172_799.0, "47 h 59 min"),
        (172_800.0, "2 d 0 h"),
        (1e6, "11 d 13 h"),
        (math.inf, "of unknown length"),
        (math.nan, "of unknown length"),
    ],
)
def test_durations_for_people(seconds: float, words: str) -> None:
    """A duration has at most two units, the finer one cut off."""
    assert duration(seconds) == words


@settings(deadline=None)
@given(st.floats(0))
def test_every_duration_has_words(seconds: float) -> None:
    """Any duration, however long, is one short line."""
    assert "\n" not in duration(seconds)
    assert duration(seconds)
