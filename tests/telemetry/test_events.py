"""Log events that repeat themselves: told once in 30 s, and counted."""

from __future__ import annotations

import logging

import anyio
import pytest

from tests.support import connected
from tests.telemetry.recording import Recorded, lose, put, recover
from tideover import HealthState, telemetry
from tideover.telemetry.events import Limiter
from tideover.testing import MemoryStore

pytestmark = pytest.mark.anyio


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def test_the_same_is_told_once_in_30_s() -> None:
    """What repeats itself is left out for 30 s, and counted; what is about something else is not."""
    clock = Clock()
    limiter = Limiter(clock)
    assert [limiter.admit("rejected", key) for key in ("a", "a", "b", "a")] == [0, None, 0, None]
    assert limiter.admit("applied", "a") == 0
    clock.now = 29.9
    assert limiter.admit("rejected", "a") is None
    clock.now = 30.0
    assert [limiter.admit("rejected", key) for key in ("a", "a")] == [3, None]
    clock.now = 60.0
    assert limiter.admit("rejected", "a") == 1


def test_a_clock_that_begins_anew_silences_nothing() -> None:
    """What was told at a later time than now was told by another clock."""
    clock = Clock()
    limiter = Limiter(clock)
    clock.now = 500.0
    limiter.admit("rejected", "a")
    clock.now = 1.0
    assert limiter.admit("rejected", "a") == 0


def test_what_is_remembered_is_bounded() -> None:
    """A flood of different events costs bounded memory; the oldest are forgotten first."""
    limiter = Limiter(Clock())
    for number in range(5000):
        assert limiter.admit("rejected", str(number)) == 0
    assert len(limiter._logged) == 1000
    assert limiter.admit("rejected", "4999") is None
    assert limiter.admit("rejected", "0") == 0


async def test_a_flood_of_refused_values(recorded: Recorded, caplog: pytest.LogCaptureFixture) -> None:
    """A key that is written with nonsense ten times a second is told of once in 30 s, with the number left out."""
    store = MemoryStore()
    await put(store, "/config/rate", b"5")
    with caplog.at_level(logging.INFO, "tideover"):
        async with connected(store) as tide:
            for number in range(350):
                await put(store, "/config/rate", b"no %d" % number)
                await anyio.sleep(0.1)
                tide.config.get("rate", int, default=0)
    told = [(found, text) for name, found, text in recorded.events() if name == "tideover.config.rejected"]
    (first, _), (second, text) = told
    assert "tideover.left_out" not in first
    # The first of 350 was told, and the one 30 s later.
    assert 298 <= int(str(second["tideover.left_out"])) <= 301
    assert text.endswith(f" (and {second['tideover.left_out']} more since this was last said)")
    lines = [each.getMessage() for each in caplog.records if "config.rejected" in each.getMessage()]
    assert lines[1] == f"tideover.config.rejected: {text}"
    assert len(lines) == 2


async def test_changes_of_configuration_are_told(recorded: Recorded) -> None:
    """The first read is told, then changes, without keys or values, and not more often than every 30 s."""
    store = MemoryStore()
    await put(store, "/config/secret", b"hunter2")
    async with connected(store):
        for _ in range(3):
            await put(store, "/config/secret", b"hunter3")
            await anyio.sleep(1)
        await anyio.sleep(40)
        await put(store, "/config/other", b"hunter4")
        await anyio.sleep(1)
    told = [(found, text) for name, found, text in recorded.events() if name == "tideover.config.applied"]
    first, second, third = (found["tideover.revision"] for found, _ in told)
    assert [text for _, text in told] == [
        f"1 key read, as of revision {first}",
        f"1 key changed, as of revision {second}",
        f"1 key changed, as of revision {third} (and 2 more since this was last said)",
    ]
    assert third == int(str(second)) + 3


async def test_changes_of_state_are_always_told(recorded: Recorded) -> None:
    """Outages that follow one another closely are each told, beginning and end: the last line is the truth."""
    store = MemoryStore()
    async with connected(store) as tide:
        for _ in range(3):
            lose(store)
            await tide.health.wait_for(HealthState.UNAVAILABLE)
            recover(store)
            await tide.health.wait_for(HealthState.AVAILABLE)
    states = [a["tideover.state"] for name, a, _ in recorded.events() if name == "tideover.state.transition"]
    assert states == ["unavailable", "available"] * 3


def test_from_a_thread_without_an_event_loop(recorded: Recorded) -> None:
    """Where no event loop runs, as in a worker thread, events are limited by the monotonic clock."""
    for _ in range(3):
        telemetry.config_rejected("rate", 5, "no number")
    assert len(recorded.events()) == 1
