"""What works and what does not, with calls and errors by their names."""

from __future__ import annotations

from tests.coordinator.reports import (
    NEVER,
    away,
    election,
    facts,
    limit,
    lock,
    prefix,
    registration,
    said,
    service,
)
from tideover.coordinator.rules.working import fails, works
from tideover.types import Diagnosis, LockMode, RegistrationState, Source, Standing

D, L, R, S = Diagnosis, LockMode, RegistrationState, Source


def test_everything_works() -> None:
    """One line names all that is used, and nothing fails."""
    report = facts(
        config=(prefix("", S.LIVE),),
        services=(service("billing", S.LIVE),),
        elections=(election("reaper", Standing.HELD), election("price-sync", None)),
    )
    assert said(works(report)) == ["Everything: config, discovery, 'reaper' and 'price-sync', locks, writes."]
    assert fails(report) == ()
    assert said(works(facts())) == ["Everything: locks, writes."]


def test_a_lost_quorum() -> None:
    """Reads go on at a member, lists are frozen, what may goes on here; all that needs a quorum is named."""
    report = away(
        config=(prefix("", S.MEMBER, 135.0, keys=12),),
        keys=12,
        keys_served=12,
        services=(service("billing", S.MEMBER, 3), service("search", S.MEMBER, 2)),
        elections=(election("reaper", Standing.UNCONFIRMED),),
        locks=(lock("orders/42", L.LOCAL), lock("orders/57", L.LOCAL)),
        registrations=(registration("api", R.UNCONFIRMED),),
    )
    assert said(works(report)) == [
        "Config reads: 12 keys, from etcd-a, last proven 2 min 15 s ago",
        "Discovery: billing 3 endpoints and search 2 endpoints, list frozen",
        "'reaper' goes on here under on_outage=stay",
        "Locks of this host; each hold is recorded and compared later",
    ]
    assert said(fails(report)) == [
        "Writes: config.put raises CircuitOpen at once, without a packet",
        "DISTRIBUTED locks: none is granted; those held here have turned LOCAL",
        "New elections: nobody is newly elected without a quorum",
        "New registrations wait; 'api' stays listed, unconfirmed",
    ]


def test_a_start_without_etcd() -> None:
    """Keys over a limit that raises do not work, those of the other prefixes do."""
    over = limit("payments/", 300.0, 1572.0)
    report = away(
        D.CUT_OFF,
        config=(prefix("payments/", S.DISK, 1572.0, limit=over), prefix("prices/", S.DISK, 1572.0, keys=9)),
        limits=(over, limit("prices/", 60.0, 1572.0, "default", keys=9)),
        keys=12,
        keys_served=9,
        services=(service("billing", S.DISK, 1),),
        registrations=(registration("api", R.WAITING),),
        profile="safety",
    )
    assert said(works(report)) == [
        "Config reads: 9 keys of prices/, from disk, last proven 26 min 12 s ago",
        "Discovery: billing 1 endpoint, from disk",
    ]
    assert said(fails(report)) == [
        "Config reads of payments/: 3 keys, TooStale",
        "Writes: config.put raises CircuitOpen at once, without a packet",
        "DISTRIBUTED locks: none is granted",
        "LOCAL locks: LockUnavailable under profile=safety, unless on_outage='local' is asked for",
        "New elections: nobody is newly elected without a quorum",
        "Registration: other services do not find 'api' here",
    ]


def test_nothing_is_known() -> None:
    """Never read, or denied: what a read raises is said, and no read is said to work."""
    nothing = away(config=(prefix("", None, NEVER, 0),), services=(service("a", None, 0, NEVER),))
    assert said(fails(nothing))[:2] == [
        "Config reads of /shop/config/: NotSynced, or the default",
        "Discovery of a: EndpointsUnknown",
    ]
    assert not any("Config" in text or "Discovery" in text for text in said(works(nothing)))
    refused = away(D.UNAUTHORIZED, config=(prefix("", None, NEVER, 0),))
    assert said(fails(refused))[:2] == [
        "Config reads of /shop/config/: AuthenticationFailed, or the default",
        "Writes: config.put raises AuthenticationFailed at once, without a packet",
    ]
    denied = facts(
        config=(prefix("", S.MEMORY, denied=True),), services=(service("a", S.MEMORY, denied=True),), keys=3
    )
    assert said(fails(denied)) == [
        "Config reads of /shop/config/: PermissionDenied",
        "Discovery of a: PermissionDenied",
    ]
    assert said(works(denied)) == ["Locks, DISTRIBUTED", "Writes"]


def test_every_key_is_too_old() -> None:
    """Where all keys are over a limit that raises, no configuration read is said to work."""
    over = limit("", 300.0, 900.0)
    report = away(config=(prefix("", S.MEMORY, 900.0, limit=over),), limits=(over,), keys=3, keys_served=0)
    assert not any("Config" in text for text in said(works(report)))
    assert said(fails(report))[0] == "Config reads of all prefixes: 3 keys, TooStale"


def test_etcd_refuses_writes() -> None:
    """With an alarm reads are live, and all that writes is named with its error."""
    report = facts(
        diagnosis=D.NO_SPACE,
        config=(prefix("", S.LIVE),),
        keys=3,
        keys_served=3,
        elections=(election("reaper", Standing.HELD),),
    )
    assert said(works(report)) == ["Config reads: 3 keys, live", "'reaper' is led here, under on_outage=stay"]
    assert said(fails(report)) == [
        "Writes: config.put raises SpaceExhausted",
        "DISTRIBUTED locks: a new one raises SpaceExhausted",
        "Elections: no record can be renewed, and nobody is newly elected",
    ]


def test_locks_on_different_grounds() -> None:
    """How many of those held have turned LOCAL is said, and what becomes of the others."""
    distributed, turned = lock("a", L.DISTRIBUTED), lock("b", L.LOCAL)
    for held, words in (
        ((distributed,), "those held here are kept until their deadline"),
        ((turned,), "the one held here has turned LOCAL"),
        ((distributed, turned), "1 of 2 held here have turned LOCAL"),
    ):
        assert f"DISTRIBUTED locks: none is granted; {words}" in said(fails(away(locks=held)))
    no_place = away(lock_error="no folder", host_locks=False)
    assert "LOCAL locks: LockUnavailable: this host has no place for them" in said(fails(no_place))
    assert not any("Locks of this host" in text for text in said(works(no_place)))
    unpublished = away(lock_error="the ledger cannot be written: no space", locks=(turned,))
    assert not any(text.startswith("LOCAL locks") for text in said(fails(unpublished)))
    assert any("Locks of this host" in text for text in said(works(unpublished)))
