"""When renewals are due: together where that costs nothing, and never too many at one moment."""

from __future__ import annotations

import random

import pytest

from tideover.sessions.schedule import Schedule

INTERVAL = 5.0


def test_what_comes_at_one_moment_is_spread_in_batches() -> None:
    """A thousand at once are due in batches of at most 128, a tenth of a second apart, none of them late."""
    schedule: Schedule[int] = Schedule()
    for number in range(1000):
        schedule.put(number, 100.0)
    batches = []
    while (due := schedule.next) <= 100.0:
        batches.append(schedule.take(due))
    assert [len(batch) for batch in batches] == [1000 - 7 * 128, *[128] * 7]
    assert sorted(number for batch in batches for number in batch) == list(range(1000))


def test_batches_grow_together() -> None:
    """What is renewed at arbitrary moments is renewed in few batches after a minute, each in 94 % of its time."""
    schedule: Schedule[int] = Schedule()
    draw = random.Random(3)
    for number in range(600):
        schedule.put(number, 100.0 + draw.random() * INTERVAL)
    sent = {number: 95.0 + draw.random() for number in range(600)}
    sizes: list[int] = []
    now = 100.0
    while now < 160.0:
        now = schedule.next
        batch = schedule.take(now)
        sizes.append(len(batch))
        for number in batch:
            assert now - sent[number] > INTERVAL * 0.94 or now < 106
            sent[number] = now
            schedule.put(number, now + INTERVAL)
    assert sum(sizes[-10:]) > 200
    assert max(sizes) <= 128


@pytest.mark.parametrize("at", [100.0, 100.01, 100.09])
def test_what_must_not_be_early_is_not(at: float) -> None:
    """What hurries is due at its time or up to a tenth of a second later, whoever else is due before."""
    schedule: Schedule[str] = Schedule()
    schedule.put("other", 99.95)
    schedule.put("hurried", 130.0)
    schedule.put_alone("hurried", at)
    assert schedule.take(at - 0.02) == ["other"]
    assert schedule.next == pytest.approx(at, abs=0.1)
    assert schedule.take(at + 0.1) == ["hurried"]


def test_what_is_dropped_is_not_due() -> None:
    """What was dropped is not due, and dropping it again says so."""
    schedule: Schedule[str] = Schedule()
    schedule.put("a", 100.0)
    assert schedule.drop("a")
    assert not schedule.drop("a")
    assert schedule.next == float("inf")
    assert schedule.take(200.0) == []
