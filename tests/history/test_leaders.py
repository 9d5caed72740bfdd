"""The checker of leaders: it finds planted violations, excuses only what was announced, and measures."""

from __future__ import annotations

from typing import Any

import pytest

from tests.history.events import Event
from tests.history.leaders import check_leaders, leading


def ev(at: float, pid: int, kind: str, **fields: Any) -> Event:
    """Return an event."""
    if kind in ("enter", "exit", "lost", "renewed", "turned"):
        fields = {"name": "reaper", "role": "leader", **fields}
    return Event(at, pid, f"p{pid}", kind, fields)


def led(at: float, pid: int, token: int, deadline: float, mode: str = "held") -> Event:
    """Return the beginning of a term."""
    return ev(at, pid, "enter", token=token, mode=mode, deadline=deadline)


def test_two_leaders_are_a_violation() -> None:
    """Two that lead with certainty at once are found; one whose deadline has passed is none of them."""
    history = [led(0, 1, 1, 9), led(5, 2, 2, 14), ev(6, 1, "exit"), ev(14, 2, "exit")]
    assert [violation.kind for violation in check_leaders(history).violations] == ["two_leaders"]
    history[0] = led(0, 1, 1, 4.9)
    assert check_leaders(history).violations == []
    assert check_leaders(history).overstays == {"reaper": [pytest.approx(1.1)]}


def test_confirmed_is_certain() -> None:
    """A leader confirmed by its peers excuses nobody."""
    history = [led(0, 1, 1, 9, "confirmed"), led(5, 2, 2, 14), ev(6, 1, "exit"), ev(14, 2, "exit")]
    assert [violation.kind for violation in check_leaders(history).violations] == ["two_leaders"]


def test_who_says_so_is_counted() -> None:
    """An overlap with somebody who says UNCONFIRMED is no violation, and counted with its length."""
    history = [
        led(0, 1, 1, 4),
        ev(4, 1, "turned", mode="unconfirmed", deadline=None),
        led(5, 2, 2, 14),
        ev(7.5, 1, "exit"),
        ev(14, 2, "exit"),
    ]
    found = check_leaders(history)
    assert found.violations == []
    assert found.unconfirmed == {"reaper": [2.5]}


def test_coming_back() -> None:
    """The same process comes back with its token, if nobody led in between; nobody else has that token."""
    back = [led(0, 1, 1, 4), ev(4, 1, "exit"), led(8, 1, 1, 12), ev(12, 1, "exit")]
    found = check_leaders(back)
    assert found.violations == []
    assert (found.terms["reaper"], found.returns["reaper"]) == (1, 1)
    other = [*back[:2], led(8, 2, 1, 12), ev(12, 2, "exit")]
    assert [violation.kind for violation in check_leaders(other).violations] == ["token_not_growing"]
    late = [*back[:2], led(5, 2, 2, 7), ev(7, 2, "exit"), *back[2:]]
    assert [violation.kind for violation in check_leaders(late).violations] == ["token_not_growing"]


def test_how_long_nobody_led() -> None:
    """A death and a resignation are measured where nothing else was wrong, infinite without a successor."""
    history = [
        led(0, 1, 1, 9),
        ev(3, 8, "died", victim=1, healthy=True),
        led(8, 2, 2, 20),
        ev(10, 8, "told", victim=2, healthy=True),
        ev(10.5, 2, "exit"),
        led(10.6, 3, 3, 30),
        ev(12, 8, "died", victim=3),
        led(25, 4, 4, 40),
        ev(26, 8, "died", victim=4, healthy=True),
    ]
    found = check_leaders(history)
    assert found.after_death == {"reaper": [5.0, float("inf")]}
    assert found.after_resigning == {"reaper": [pytest.approx(0.1)]}


def test_who_leads_at_a_moment() -> None:
    """Leading with certainty is told by the deadline, not by a missing end."""
    history = [led(0, 1, 1, 9)]
    assert leading(history, 5)["reaper"].pid == 1
    assert leading(history, 9.5) == {}
