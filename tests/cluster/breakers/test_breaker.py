"""The breaker: it trips on time, and closes on consecutive good probes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hypothesis import given, settings
from hypothesis import strategies as st

from tideover.cluster.breakers.breaker import Breaker, BreakerState

TRIP_AFTER = 3.0


@dataclass(frozen=True)
class Probe:
    outcome: Literal["passed", "failed", "excused"]
    sent_at: float
    now: float


@st.composite
def histories(draw: st.DrawFn) -> list[Probe]:
    """Probes one after another, each judged some time after it was sent."""
    history, at = [], 100.0
    for outcome in draw(st.lists(st.sampled_from(["passed", "failed", "failed", "excused"]), max_size=40)):
        sent_at = at + draw(st.sampled_from([0.0, 0.1, 0.5, 2.0, 5.0]))
        at = sent_at + draw(st.sampled_from([0.0, 0.1, 0.5]))
        history.append(Probe(outcome, sent_at, at))  # type: ignore[arg-type]
    return history


def _step(breaker: Breaker, probe: Probe) -> Breaker:
    if probe.outcome == "passed":
        return breaker.passed()
    if probe.outcome == "excused":
        return breaker.excused()
    return breaker.failed(probe.sent_at, probe.now, trip_after=TRIP_AFTER)


def _states(history: list[Probe], close_after: int) -> list[Breaker]:
    states = [Breaker(close_after)]
    for probe in history:
        states.append(_step(states[-1], probe))
    return states


def _trailing(history: list[Probe], outcome: str) -> list[Probe]:
    """Return the last probes, as long as they have this outcome."""
    run: list[Probe] = []
    for probe in reversed(history):
        if probe.outcome != outcome:
            break
        run.insert(0, probe)
    return run


@settings(deadline=None)
@given(histories(), st.integers(1, 4))
def test_it_opens_exactly_when_failing_has_lasted(history: list[Probe], close_after: int) -> None:
    """A closed breaker opens when probes that nothing excuses have failed for `trip_after` without a break."""
    states = _states(history, close_after)
    for n, probe in enumerate(history):
        if states[n].closed:
            run = _trailing(history[: n + 1], "failed")
            lasted = bool(run) and probe.now - run[0].sent_at >= TRIP_AFTER
            assert states[n + 1].closed is not lasted


@settings(deadline=None)
@given(histories(), st.integers(1, 4))
def test_it_closes_after_consecutive_good_probes_only(history: list[Probe], close_after: int) -> None:
    """An open breaker closes at the last of `close_after` good probes in a row, and never otherwise."""
    states = _states(history, close_after)
    good = 0
    for n, probe in enumerate(history):
        if states[n].closed:
            good = 0
            continue
        good = good + 1 if probe.outcome == "passed" else 0
        assert states[n + 1].closed is (good >= close_after)
        assert (states[n + 1].state is BreakerState.HALF_OPEN) is (0 < good < close_after)


@settings(deadline=None)
@given(histories(), st.integers(1, 4))
def test_its_fields_agree_with_its_state(history: list[Probe], close_after: int) -> None:
    """Only a closed breaker counts time, only a half-open one counts good probes, below the number needed."""
    for breaker in _states(history, close_after):
        assert breaker.close_after == close_after
        assert breaker.failing_since is None or breaker.closed
        assert (breaker.good > 0) is (breaker.state is BreakerState.HALF_OPEN)
        assert breaker.good < close_after


@settings(deadline=None)
@given(histories())
def test_a_good_or_excused_probe_stops_the_clock(history: list[Probe]) -> None:
    """Failing counts from the first bad probe after the last good or excused one."""
    states = _states(history, 2)
    for n, probe in enumerate(history):
        if probe.outcome != "failed":
            assert states[n + 1].failing_since is None
        elif states[n + 1].closed:
            assert states[n + 1].failing_since == _trailing(history[: n + 1], "failed")[0].sent_at


@settings(deadline=None)
@given(histories())
def test_an_excused_probe_never_opens_and_never_closes(history: list[Probe]) -> None:
    """A leader change neither opens a closed breaker nor counts as recovery of an open one."""
    for breaker in _states(history, 2):
        assert breaker.excused().closed is breaker.closed


def test_no_patience_opens_at_the_first_bad_probe() -> None:
    """With `trip_after=0` one bad probe is enough."""
    assert Breaker().failed(5.0, 5.0, trip_after=0).state is BreakerState.OPEN
