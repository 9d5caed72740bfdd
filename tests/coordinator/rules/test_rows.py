"""How each primitive stands, and since when."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.coordinator.reports import (
    AT,
    AWAY,
    NEVER,
    away,
    election,
    facts,
    limit,
    lock,
    lock_session,
    prefix,
    service,
)
from tideover.coordinator.rules.rows import Stands, rows
from tideover.status import LockWaitStatus, PrimitiveStatus, StatusReport
from tideover.types import Component, Diagnosis, HealthState, LockMode, Source, Standing

D, L, S = Diagnosis, LockMode, Source
WELL, BAD, OUT = HealthState.AVAILABLE, HealthState.DEGRADED, HealthState.UNAVAILABLE
NOW = 10_000.0


def row(report: StatusReport, component: Component, before: Stands | None = None) -> PrimitiveStatus:
    """Return one primitive's row."""
    found, _ = rows(report, before or {}, now=NOW, live_limit=12.0)
    return next(each for each in found if each.component == component)


def told(report: StatusReport, component: Component) -> tuple[object, ...]:
    """Return what a row tells but for times."""
    found = row(report, component)
    return found.what, found.state, found.source, found.age, found.limit_words, found.over


FOLLOWED = prefix("payments/", S.LIVE)
LIMIT = limit("payments/", 300.0, 0.5)
LATE = limit("payments/", 300.0, 1572.0)


@pytest.mark.parametrize(
    ("report", "expected"),
    [
        (facts(), ("nothing is followed", None, None, None, "", False)),
        (
            facts(config=(FOLLOWED,), keys=12, keys_served=12, limits=(LIMIT, limit("prices/", 3600.0, 0.5))),
            ("12 keys, pushed by a watch", WELL, "live", 0.5, "limit 5 min, payments/", False),
        ),
        (
            facts(config=(FOLLOWED,), keys=12, keys_served=12, diagnosis=D.NO_SPACE),
            ("12 keys, reads only", BAD, "live", 0.5, "no limit", False),
        ),
        (
            away(
                config=(prefix("", S.MEMBER, 135.0),), keys=12, keys_served=12, limits=(limit("a/", 300.0, 135.0),)
            ),
            ("12 keys, reads only", BAD, "member", 135.0, "of 5 min, a/", False),
        ),
        (
            away(config=(prefix("", S.DISK, 1572.0),), keys=12, keys_served=9, limits=(LATE,)),
            ("9 of 12 keys served", BAD, "disk", 1572.0, "over 5 min, payments/", True),
        ),
        (
            away(config=(prefix("", S.DISK, 1572.0),), keys=12, keys_served=0, limits=(LATE,)),
            ("0 of 12 keys served", OUT, "disk", 1572.0, "over 5 min, payments/", True),
        ),
        (
            away(config=(prefix("a/", S.MEMBER, 9.0), prefix("b/", S.DISK, NEVER)), keys=2, keys_served=2),
            ("2 keys, reads only", BAD, "disk", NEVER, "no limit", False),
        ),
        (away(config=(prefix("", None, NEVER, 0),)), ("0 keys, reads only", OUT, None, None, "", False)),
    ],
)
def test_the_configuration(report: StatusReport, expected: tuple[object, ...]) -> None:
    """The lowest rung, the largest age, and the limit that is nearest, of all prefixes."""
    assert told(report, "config") == expected


@pytest.mark.parametrize(
    ("report", "expected"),
    [
        (facts(), ("no service is followed", None, None, None, "", False)),
        (
            facts(services=(service("a", S.LIVE, 3), service("b", S.LIVE, 2))),
            ("2 services, 5 endpoints", WELL, "live", 0.5, "no limit", False),
        ),
        (
            away(services=(service("a", S.DISK, 3, age=60.0),)),
            ("1 service, list frozen", BAD, "disk", 60.0, "no limit", False),
        ),
        (
            facts(services=(service("a", S.MEMORY, denied=True),)),
            ("1 service, 3 endpoints", OUT, "memory", 0.5, "no limit", False),
        ),
    ],
)
def test_discovery(report: StatusReport, expected: tuple[object, ...]) -> None:
    """The lowest rung and the largest age of all services."""
    assert told(report, "discovery") == expected


@pytest.mark.parametrize(
    ("report", "expected"),
    [
        (facts(), ("no candidacies", None, None, None, "", False)),
        (
            facts(elections=(election("a", Standing.HELD), election("b", None))),
            ("2 candidacies, 1 led here", WELL, "record", 3.0, "renewed every 5 s, ttl 15 s", False),
        ),
        (
            facts(elections=(election("b", None),)),
            ("1 candidacy, 0 led here", WELL, "record", 3.0, "not led here", False),
        ),
        (
            away(
                elections=(
                    election("a", Standing.UNCONFIRMED, renewed_ago=136.0, remaining=-122.5),
                    election("b", Standing.HELD),
                )
            ),
            ("2 led here, UNCONFIRMED", BAD, "own record", 136.0, "past its deadline, ttl 15 s", True),
        ),
        (
            away(elections=(election("a", Standing.CONFIRMED, renewed_ago=14.0),)),
            ("1 led here, CONFIRMED", BAD, "peers", 14.0, "renewed every 5 s, ttl 15 s", False),
        ),
        (
            away(elections=(election("a", None, seen_ago=None),)),
            ("1 candidacy, 0 led here", OUT, None, None, "never read by this process", False),
        ),
    ],
)
def test_elections(report: StatusReport, expected: tuple[object, ...]) -> None:
    """The weakest ground on which anything is led here, and the renewal that is farthest behind."""
    assert told(report, "election") == expected


@pytest.mark.parametrize(
    ("report", "expected"),
    [
        (
            facts(),
            (
                "0 held here, 0 waited for",
                WELL,
                "lease",
                None,
                "no session: it is opened when it is needed",
                False,
            ),
        ),
        (
            facts(
                locks=(lock("a", L.DISTRIBUTED),),
                sessions=(lock_session(2.0),),
                lock_waits=(LockWaitStatus("b", 2, 18.0, "shop-3:9120"),),
            ),
            ("1 held here, 1 waited for", WELL, "lease", 2.0, "renewed every 5 s, ttl 15 s", False),
        ),
        (facts(locks=(lock("a", L.LOCAL),)), ("1 LOCAL, 0 waited for", BAD, "host lock", None)),
        (
            away(locks=(lock("a", L.LOCAL),), sessions=(lock_session(135.0, seconds_left=0.0),)),
            ("1 LOCAL, 0 waited for", BAD, "host lock", 135.0, "past its deadline, ttl 15 s", True),
        ),
        (
            away(),
            (
                "0 held here, 0 waited for",
                BAD,
                "host lock",
                None,
                "no session: it is opened when etcd is back",
                False,
            ),
        ),
        (away(profile="safety"), ("0 held here, 0 waited for", OUT, None)),
        (away(profile="safety", locks=(lock("a", L.DISTRIBUTED),)), ("1 held here, 0 waited for", BAD, "lease")),
    ],
)
def test_locks(report: StatusReport, expected: tuple[object, ...]) -> None:
    """What is held on which ground, and the session that is farthest behind."""
    assert told(report, "lock")[: len(expected)] == expected


def test_the_last_error() -> None:
    """What is read has the members' errors in an outage; what is renewed has its own, if it has any."""
    report = away(
        config=(prefix("", S.MEMBER, error="it cannot be read"),),
        elections=(election("a", Standing.UNCONFIRMED, error="renewal timed out"),),
        sessions=(lock_session(20.0),),
    )
    errors = {each.component: each.error for each in rows(report, {}, now=NOW, live_limit=12.0)[0]}
    refused = "connection refused (2 members)"
    assert errors == {"config": refused, "discovery": refused, "election": "renewal timed out", "lock": refused}
    assert row(facts(config=(prefix("", S.LIVE, error="a\x1b[2Jb"),)), "config").error == r"a\x1b[2Jb"
    assert row(facts(config=(FOLLOWED,)), "config").error is None


# Since when ----------------------------------------------------------------------------------------------------


def test_a_primitive_follows_the_health() -> None:
    """Without a report in between, a state began when that of etcd did, or the outage."""
    assert row(facts(config=(FOLLOWED,)), "config").seconds == 1009.0
    report = away(D.CUT_OFF, seconds=10.0, config=(prefix("", S.MEMORY, 140.0),))
    found = row(report, "config")
    assert found.seconds == AWAY
    assert found.since == AT - timedelta(seconds=AWAY)


def test_content_that_ceases_to_be_live_says_when() -> None:
    """With etcd well, content is degraded since its proof is older than what counts as live."""
    assert row(facts(config=(prefix("", S.MEMORY, 72.0),)), "config").seconds == 60.0
    assert row(facts(services=(service("a", S.MEMORY, age=72.0),)), "discovery").seconds == 60.0


def test_a_change_is_no_older_than_the_report_before() -> None:
    """What was seen in another state has changed since; what was seen in the same has not."""
    report = facts(locks=(lock("a", L.LOCAL),))
    _, before = rows(report, {}, now=NOW - 30.0, live_limit=12.0)
    again = row(report, "lock", before)
    assert again.seconds == 1009.0
    well = row(facts(), "lock", before)
    assert (well.state, well.seconds) == (WELL, 30.0)


def test_no_state_has_lasted_through_an_outage() -> None:
    """An outage between two reports that nobody looked at: available since its end, not since long before."""
    _, before = rows(facts(config=(FOLLOWED,)), {}, now=NOW - 5000.0, live_limit=12.0)
    assert row(facts(config=(FOLLOWED,), seconds=20.0), "config", before).seconds == 20.0
