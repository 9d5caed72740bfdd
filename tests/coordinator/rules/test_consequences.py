"""What follows from the situation, the most dangerous first."""

from __future__ import annotations

import pytest

from tests.coordinator.reports import (
    NEVER,
    away,
    election,
    facts,
    limit,
    lock,
    lock_session,
    prefix,
    registration,
    said,
    service,
)
from tideover.coordinator.rules.consequences import consequences
from tideover.status import (
    IdentityStatus,
    JobStatus,
    LockConflictStatus,
    MemberStatus,
    RejectedValue,
    StatusReport,
)
from tideover.types import Diagnosis, JobState, LockMode, RegistrationState, Source, Standing

D, L, R, S = Diagnosis, LockMode, RegistrationState, Source
REFUSED = RejectedValue("payments/limits", 48_177, "no", served=47_012, etcd_key="/shop/config/payments/limits")
FOREIGN = RejectedValue("/shop/elections/x", 9, "no record", etcd_key="/shop/elections/x")


def test_a_process_that_is_well() -> None:
    """What needs attention comes first even then, and what is well is said."""
    report = facts(
        config=(prefix("", S.LIVE),),
        services=(service("billing", S.LIVE),),
        elections=(election("reaper", Standing.HELD), election("price-sync", None)),
        locks=(lock("orders/42", L.DISTRIBUTED),),
        rejected=(REFUSED,),
    )
    assert said(consequences(report)) == [
        "1 config value is refused: payments/limits.",
        "Config and endpoints are live.",
        "'reaper' is led here, HELD.",
        "Locks are DISTRIBUTED.",
    ]


def test_a_lost_quorum() -> None:
    """What two may do at the same time comes before what is old and what is refused."""
    report = away(
        config=(prefix("", S.MEMBER, 135.0),),
        services=(service("billing", S.MEMBER, age=135.0),),
        elections=(election("reaper", Standing.UNCONFIRMED),),
        locks=(lock("orders/42", L.LOCAL),),
    )
    assert said(consequences(report)) == [
        "'reaper' is led here, UNCONFIRMED: another leader cannot be excluded.",
        "Locks are LOCAL: they hold on this host only.",
        "Writes are refused.",
        "Config and endpoints are read from the surviving member etcd-a and may lag.",
    ]


def test_a_start_without_etcd() -> None:
    """What raises, whom nobody leads for, and who is not found: then what comes from disk."""
    report = away(
        D.CUT_OFF,
        config=(prefix("payments/", S.DISK, 1572.0), prefix("shop/", S.DISK, 1572.0)),
        services=(service("billing", S.DISK, age=1572.0),),
        limits=(limit("payments/", 300.0, 1572.0), limit("shop/", 3600.0, 1572.0)),
        elections=(election("reaper", None, seen_ago=None),),
        registrations=(registration("api", R.WAITING),),
    )
    assert said(consequences(report)) == [
        "Locks are LOCAL: they hold on this host only.",
        "payments/ is over its limit of 5 min: reading it raises TooStale.",
        "'reaper' is not led here, and who leads it is not known.",
        "Writes are refused.",
        "This process is not registered as 'api': others do not find it.",
        "Started without etcd: config and endpoints come from disk, 26 min 12 s old.",
    ]


@pytest.mark.parametrize(
    ("report", "text"),
    [
        (away(profile="safety"), "Locks are refused: no lock is granted until a quorum answers."),
        (
            away(lock_error="no place", host_locks=False),
            "Locks are refused: no lock is granted until a quorum answers.",
        ),
        (away(config=(prefix("", S.MEMORY, NEVER),)), "Config comes from memory, of unknown age."),
        (away(config=(prefix("", S.MEMORY, 61.0),)), "Config comes from memory, 1 min 1 s old."),
        (away(services=(service("a", S.MEMORY, age=61.0),)), "Endpoints come from memory, 1 min 1 s old."),
        (facts(config=(prefix("", S.MEMORY, 61.0),)), "Config comes from memory, 1 min 1 s old."),
        (facts(config=(prefix("", S.DISK, 61.0),)), "Config comes from disk, 1 min 1 s old."),
        (
            away(config=(prefix("", None, NEVER, 0),)),
            "Config '/shop/config/' has never been read: reads give the default, or raise NotSynced.",
        ),
        (
            facts(config=(prefix("", S.MEMORY, denied=True),)),
            "Config '/shop/config/' may not be read: etcd denies it to this user.",
        ),
        (
            facts(services=(service("a", S.MEMORY, denied=True),)),
            "The endpoints of 'a' may not be read: etcd denies them to this user.",
        ),
        (away(services=(service("a", None, 0, NEVER),)), "The endpoints of 'a' have never been read."),
        (
            away(limits=(limit("", 90.0, 91.0, "default"),)),
            "The configuration is over its limit of 1 min 30 s: reads give the default.",
        ),
        (
            away(
                elections=(
                    election("a", None, held_by="shop-1:31877"),
                    election("b", None, held_by="shop-1:31877"),
                )
            ),
            "'a' and 'b' are not led here, and shop-1:31877 led them when last seen.",
        ),
        (
            away(
                elections=(
                    election("a", None, held_by="shop-2:48213 (http://10.0.7.3:80) since 2026-03-14T02:00:00Z"),
                )
            ),
            "'a' is not led here, and this process led it when last seen.",
        ),
        (
            away(elections=(election("a", None, held_by="shop-2:4821 since 2026-03-14T02:00:00Z"),)),
            "'a' is not led here, and shop-2:4821 led it when last seen.",
        ),
        (
            away(elections=(election("a", Standing.CONFIRMED),)),
            "'a' is led here, CONFIRMED: all other candidates have promised not to take over.",
        ),
        (facts(locks=(lock("a", L.LOCAL),)), "'a' is LOCAL still: held on this host only."),
        (
            facts(lock_conflicts=(LockConflictStatus("a", True, 2.4, ("x:1", "y:2"), 9.0),)),
            "1 lock conflict of the last 7 days: a.",
        ),
        (facts(diagnosis=D.NO_SPACE), "Writes are refused: they raise SpaceExhausted."),
        (facts(diagnosis=D.CORRUPT), "Writes are refused: they raise DataCorrupt."),
        (facts(rejected=(REFUSED, FOREIGN)), "1 value of others is refused: /shop/elections/x."),
        (facts(rejected=(REFUSED,) * 2), "2 config values are refused: payments/limits and payments/limits."),
        (
            facts(jobs=(JobStatus("a", JobState.PAUSED, 3.0, 1, "ValueError", 5.0),)),
            "What runs while leading 'a' has failed, and is a candidate again soon.",
        ),
        (
            facts(unfound=("payment/",)),
            "etcd has never had a key under 'payment/': settings there are the defaults.",
        ),
        (
            facts(identity=IdentityStatus("1f", 3, 9, 2, True, 0, None, None, ("h:2",), None)),
            "h:2 belongs to another cluster and is not used.",
        ),
        (
            facts(members=(MemberStatus("h:1", True, True, None, proxy=True),)),
            "h:1 is an etcd grpc-proxy: leases are refused.",
        ),
        (facts(services=(service("a", S.LIVE, ejected=1),)), "1 endpoint is ejected: a."),
        (facts(sessions=(lock_session(1.0),)), "Locks are DISTRIBUTED."),
        (
            away(elections=tuple(election(f"e{n}", Standing.UNCONFIRMED) for n in range(9))),
            "'e0', 'e1', 'e2' and 6 more are led here, UNCONFIRMED: another leader cannot be excluded.",
        ),
    ],
)
def test_each_situation_has_its_line(report: StatusReport, text: str) -> None:
    """Whatever is so is said, once."""
    assert said(consequences(report)).count(text) == 1


def test_what_others_have_written_is_shown_as_text() -> None:
    """Names are escaped and cut: no order to a terminal, and no line of a thousand characters."""
    name = "\x1b[31m" + "x" * 4096
    report = away(
        config=(prefix("", S.MEMORY, denied=True, etcd_prefix=name),),
        elections=(election("a", None, held_by=name),),
        services=(service(name, None),),
        rejected=(RejectedValue(name, 1, name, etcd_key=name),),
    )
    for statement in said(consequences(report)):
        assert statement.isprintable()
        assert len(statement) < 300


def test_a_process_that_uses_nothing_has_nothing_to_fear() -> None:
    """Nothing is said of what is not used."""
    assert consequences(facts()) == ()
