"""When a watcher takes an event loop for blocked, and when it was only the first to wake up."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tideover.elections.rules.stall import IDLE_LOOK, LOOK_EVERY, PATIENCE, Suspicion


def watch(looks: list[tuple[float, float]], deadline: float = 10.0) -> Suspicion:
    """Let a watcher look, each time with when the loop has looked last."""
    suspicion = Suspicion()
    for now, seen_at in looks:
        suspicion = suspicion.looked(now, deadline, seen_at)
    return suspicion


def every(begin: float, end: float, seen_at: float) -> list[tuple[float, float]]:
    """Return looks as often as a suspicious watcher has them."""
    steps = round((end - begin) / LOOK_EVERY)
    return [(begin + step * LOOK_EVERY, seen_at) for step in range(steps + 1)]


def test_a_blocked_loop() -> None:
    """A loop that has not looked since the deadline is blocked after the watcher's patience, and not before."""
    assert not watch(every(10.0, 10.4, 9.9)).blocked
    assert watch(every(10.0, 10.6, 9.9)).blocked


def test_before_the_deadline_nothing_is_wrong() -> None:
    """However long a loop has not looked, before the deadline it is not blocked."""
    assert not watch(every(0.0, 9.9, -100.0)).blocked


def test_a_loop_that_has_looked() -> None:
    """A loop that looks a moment after the deadline, or again after a stall, is well."""
    assert not watch([*every(10.0, 10.4, 9.9), *every(10.5, 20, 10.45)]).blocked
    assert not watch([*every(10.0, 15, 9.9), (15.1, 15.05)]).blocked


@given(st.floats(0.5, 10_000), st.floats(0, 0.4))
def test_who_was_stopped_with_the_loop_is_patient(gap: float, after: float) -> None:
    """After a stop of the whole process, or a suspend, the loop has the whole patience again."""
    stopped = every(5.0, 9.5, 9.4) + every(9.6 + gap, 9.6 + gap + after, 9.4)
    assert not watch(stopped).blocked
    again = every(10.0, 10.3, 9.9) + every(10.3 + gap, 10.3 + gap + after, 9.9)
    assert not watch(again).blocked


def test_how_often_it_looks() -> None:
    """Seldom while all is well, in time for the deadline, and often when in doubt."""
    assert Suspicion().next_look(0.0, 10.0) == IDLE_LOOK
    assert Suspicion().next_look(9.7, 10.0) < 0.31
    assert Suspicion().next_look(20.0, 10.0) == LOOK_EVERY
    assert Suspicion(since=10.0).next_look(10.0, 10.0) == LOOK_EVERY
    assert PATIENCE + 2 * LOOK_EVERY < 1.0
