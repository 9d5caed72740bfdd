"""The checker of locks: it finds planted violations, and excuses only what etcd did."""

from __future__ import annotations

from typing import Any

from tests.history.events import Event
from tests.history.locks import check_locks


def ev(at: float, pid: int, kind: str, **fields: Any) -> Event:
    """Return an event."""
    if kind in ("enter", "exit", "lost", "renewed"):
        fields = {"name": "orders", "role": "lock", **fields}
    return Event(at, pid, f"p{pid}", kind, fields)


def overlap(exit_at: float, *others: Event) -> list[Event]:
    """Return a history in which one holds from 0 and another from 5, while the first believes until `exit_at`."""
    return [
        ev(0, 1, "enter", token=1, mode="distributed", deadline=20, key="/locks/orders/1"),
        ev(5, 2, "enter", token=2, mode="distributed", deadline=20, key="/locks/orders/2"),
        ev(exit_at, 1, "exit"),
        ev(15, 2, "exit"),
        *others,
    ]


GONE = ev(4.9, 9, "key_deleted", key="/locks/orders/1")
WOKEN = ev(4.8, 8, "woken", member="m")


def test_two_holders_are_a_violation() -> None:
    """Two that hold at once are found, whoever woke up, if no key was seen to go."""
    found = check_locks(overlap(5.5, WOKEN))
    assert [violation.kind for violation in found.violations] == ["two_holders"]
    assert found.early == []


def test_what_etcd_took_away_is_excused_for_a_second() -> None:
    """A key deleted as a member woke up excuses an overlap until 1 s after that, and counts it."""
    found = check_locks(overlap(5.5, WOKEN, GONE))
    assert found.violations == []
    assert [round(seconds, 6) for seconds, _ in found.early] == [0.5]
    assert check_locks(overlap(6.5, WOKEN, GONE)).violations
    assert check_locks(overlap(5.5, GONE)).violations


def test_who_is_hindered_has_longer() -> None:
    """The second counts from when the deletion could be delivered to the holder."""
    hindered = [ev(4.0, 8, "hindered", who="p1"), ev(7.0, 8, "unhindered", who="p1")]
    assert not check_locks(overlap(7.5, WOKEN, GONE, *hindered)).violations
    assert check_locks(overlap(8.5, WOKEN, GONE, *hindered)).violations


def test_tokens_must_grow() -> None:
    """A later grant with the same token is found."""
    history = [
        ev(0, 1, "enter", token=2, mode="distributed", deadline=9, key="k"),
        ev(1, 1, "exit"),
        ev(2, 2, "enter", token=2, mode="distributed", deadline=9, key="k"),
        ev(3, 2, "exit"),
    ]
    assert [violation.kind for violation in check_locks(history).violations] == ["token_not_growing"]
