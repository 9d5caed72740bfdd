"""What else an operator has to know, part by part."""

from __future__ import annotations

from tests.coordinator.reports import away, election, facts, limit, lock, service
from tideover.coordinator.rules.notes import notes
from tideover.status import (
    IdentityStatus,
    LockConflictStatus,
    RejectedValue,
    SnapshotStatus,
    StallStatus,
    StatusReport,
)
from tideover.types import LockMode, Source, Standing

KEY = RejectedValue(
    "payments/limits", 48_177, "not an integer", served=47_012, etcd_key="/shop/config/payments/limits"
)
BARE = RejectedValue("payments/limits", 48_177, "not an integer", etcd_key="/shop/config/payments/limits")


def noted(report: StatusReport) -> list[tuple[str, str, str]]:
    """Return part, tone and text of each note."""
    return [(note.about, note.tone, str(note.text)) for note in notes(report)]


def test_all_is_well() -> None:
    """There is nothing to note."""
    assert (
        notes(facts(elections=(election("reaper", Standing.HELD),), locks=(lock("a", LockMode.DISTRIBUTED),)))
        == ()
    )


def test_a_refused_value_says_what_is_served_instead() -> None:
    """The revision served; none if there is none; and that it is too old, if that is so."""
    text = "The value at revision 48,177 is refused and not served: not an integer. "
    assert noted(facts(rejected=(KEY,))) == [("config", "warn", f"{text}Revision 47,012 is served instead.")]
    assert noted(facts(rejected=(BARE,))) == [("config", "warn", f"{text}None is served instead.")]
    old = facts(rejected=(KEY,), limits=(limit("payments/", 300.0, 301.0),))
    assert noted(old) == [("config", "warn", f"{text}Revision 47,012 is known, and is over its limit too.")]


def test_what_may_do_damage_in_an_outage() -> None:
    """Who stays, who may hold a lock as well, and what is not known meanwhile."""
    report = away(
        elections=(election("reaper", Standing.UNCONFIRMED),),
        locks=(lock("orders/42", LockMode.LOCAL), lock("orders/57", LockMode.LOCAL)),
    )
    assert noted(report) == [
        (
            "election",
            "warn",
            "'reaper' stays because its policy is \"stay\". When etcd is back it goes on with the same token, or "
            "stops if its record has changed.",
        ),
        (
            "lock",
            "warn",
            "Another host may hold orders/42 and orders/57 too. Each hold is recorded and compared with the "
            "others when etcd is back.",
        ),
        ("lock", "plain", "Conflicts with other processes are not known while etcd is away."),
    ]
    idle = noted(away(elections=(election("reaper", None),)))
    assert idle[0][:2] == ("election", "bad")
    assert idle[0][2].startswith("Nobody is newly elected while etcd is away.")


def test_what_is_found_out_afterwards() -> None:
    """Conflicts, resets, blocked loops, snapshots that cannot be written, and removals that are held back."""
    report = facts(
        lock_conflicts=(LockConflictStatus("orders/31", True, 2.4, ("shop-1:20711", "shop-3:8544"), 187_200.0),),
        identity=IdentityStatus("1f", 3, 9, 2, True, 1, "its revision went back", 60.0, (), None),
        stalls=2,
        last_stall=StallStatus("reaper", 1.25, 30.0, ""),
        snapshots=(SnapshotStatus("config", "/shop/config/", 3, 9, 1.0, 1.0, "OSError: disk full"),),
        services=(service("billing", Source.LIVE, held=2, refused=("no URL",)),),
        untold=("the alarms: permission denied",),
    )
    assert [text for _, _, text in noted(report)] == [
        "Conflict of orders/31: certain, 2.4 s, by shop-1:20711 and shop-3:8544, ended 2 d 4 h ago.",
        "etcd was restored, rebuilt or replaced: its revision went back; seen 1 min 0 s ago.",
        "etcd does not tell this user: the alarms: permission denied.",
        "The event loop was blocked past a deadline 2 times; last 'reaper', 1.2 s late, 30 s ago.",
        "The snapshot of '/shop/config/' cannot be written: OSError: disk full",
        "2 endpoints are not in etcd any more, and still listed: the removal is held back for a while.",
        "Refused: no URL",
    ]


def test_notes_are_bounded_and_printable() -> None:
    """A thousand refused values are twenty notes, and what others have written is escaped and cut."""
    evil = RejectedValue("\x1b[2J" * 999, 1, "\r\n" * 999, etcd_key="/shop/config/x")
    found = notes(facts(rejected=(evil,) * 1000))
    assert len(found) == 20
    assert all(str(note.text).isprintable() and len(str(note.text)) < 500 for note in found)
