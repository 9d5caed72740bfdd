"""The health state machine: outages are declared late, recoveries are confirmed, and nothing flaps."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tideover.cluster.breakers.breaker import BreakerState
from tideover.cluster.breakers.state_machine import Assessment, Health, HealthRules
from tideover.cluster.rules.diagnosis import Answer, MemberAnswers, diagnose
from tideover.types import Diagnosis, HealthState

RULES = HealthRules()
# (diagnosis, quorum_ok, member_ok) as the monitor produces them
KINDS = [
    (Diagnosis.HEALTHY, True, True),
    (Diagnosis.NO_SPACE, True, True),
    (Diagnosis.LEADER_CHANGE, False, True),
    (Diagnosis.QUORUM_LOST, False, True),
    (Diagnosis.SLOW, False, True),
    (Diagnosis.CUT_OFF, False, False),
    (Diagnosis.UNAUTHORIZED, False, False),
]


@st.composite
def histories(draw: st.DrawFn) -> list[Assessment]:
    """Rounds of probes, one after another, in stretches of the same kind."""
    history, at = [], 50.0
    for kind in draw(st.lists(st.sampled_from(KINDS), max_size=12)):
        for _ in range(draw(st.integers(1, 8))):
            sent_at = at + draw(st.sampled_from([0.0, 0.1, 0.5, 1.0, 5.0]))
            at = sent_at + draw(st.sampled_from([0.0, 0.02, 0.5]))
            history.append(Assessment(*kind, sent_at=sent_at, now=at))
    return history


def _walk(history: list[Assessment]) -> list[Health]:
    states = [Health()]
    for seen in history:
        states.append(states[-1].assess(seen, RULES))
    return states


@dataclass(frozen=True)
class Transition:
    """One step of a history."""

    before: Health
    after: Health
    past: list[Assessment]

    @property
    def seen(self) -> Assessment:
        return self.past[-1]


def _transitions(history: list[Assessment]) -> list[Transition]:
    states = _walk(history)
    return [Transition(states[n], states[n + 1], history[: n + 1]) for n in range(len(history))]


def _failing(past: list[Assessment]) -> list[Assessment]:
    """Return the last rounds that had no quorum and no excuse."""
    run: list[Assessment] = []
    for seen in reversed(past):
        if seen.quorum_ok or seen.diagnosis is Diagnosis.LEADER_CHANGE:
            break
        run.insert(0, seen)
    return run


@settings(deadline=None)
@given(histories())
def test_the_state_is_always_what_the_breakers_say(history: list[Assessment]) -> None:
    """AVAILABLE exactly while the quorum lane is closed; while it is half open the state stays what it was."""
    for step in _transitions(history):
        health = step.after
        assert (health.state is HealthState.AVAILABLE) is health.quorum.closed
        if health.quorum.state is BreakerState.HALF_OPEN:
            assert health.state is step.before.state
        elif health.quorum.state is BreakerState.OPEN:
            assert (health.state is HealthState.DEGRADED) is health.member.closed


def test_before_the_first_answer_nothing_is_promised() -> None:
    """A new machine is UNAVAILABLE and STARTING, whatever its breakers would let through."""
    assert (Health().state, Health().diagnosis, Health().decided) == (
        HealthState.UNAVAILABLE,
        Diagnosis.STARTING,
        False,
    )


@pytest.mark.parametrize(
    ("kind", "state"),
    [
        (KINDS[0], HealthState.AVAILABLE),
        (KINDS[1], HealthState.AVAILABLE),
        (KINDS[2], HealthState.DEGRADED),
        (KINDS[3], HealthState.DEGRADED),
        (KINDS[4], HealthState.DEGRADED),
        (KINDS[5], HealthState.UNAVAILABLE),
        (KINDS[6], HealthState.UNAVAILABLE),
    ],
)
def test_the_first_round_decides_alone(kind: tuple[Diagnosis, bool, bool], state: HealthState) -> None:
    """At the start there is nothing to protect from flapping: one round is the verdict, good or bad."""
    health = Health().assess(Assessment(*kind, sent_at=7.0, now=7.5), RULES)
    assert (health.state, health.diagnosis, health.since) == (state, kind[0], 7.5)
    assert health.lost_at == -math.inf


@settings(deadline=None)
@given(histories())
def test_an_outage_is_never_declared_early(history: list[Assessment]) -> None:
    """AVAILABLE ends only when probes have failed, unexcused and unbroken, for `outage_after`."""
    for step in _transitions(history):
        if step.before.state is HealthState.AVAILABLE and step.after.state is not HealthState.AVAILABLE:
            failing = _failing(step.past)
            assert step.seen.now - failing[0].sent_at >= RULES.outage_after


@settings(deadline=None)
@given(histories())
def test_an_outage_is_never_declared_late(history: list[Assessment]) -> None:
    """When probes have failed for `outage_after`, unexcused and unbroken, the state is not AVAILABLE."""
    for step in _transitions(history):
        failing = _failing(step.past)
        if failing and step.seen.now - failing[0].sent_at >= RULES.outage_after:
            assert step.after.state is not HealthState.AVAILABLE


@settings(deadline=None)
@given(histories())
def test_recovery_takes_two_good_rounds_in_a_row(history: list[Assessment]) -> None:
    """Once declared, an outage ends at the second of two consecutive good rounds, and not otherwise."""
    good = 0
    for step in _transitions(history):
        if not step.before.decided or step.before.state is HealthState.AVAILABLE:
            good = 0
            continue
        good = good + 1 if step.seen.quorum_ok else 0
        assert (step.after.state is HealthState.AVAILABLE) is (good == 2)


@settings(deadline=None)
@given(histories())
def test_since_moves_only_with_the_state(history: list[Assessment]) -> None:
    """`since` is the moment of the last change of state, or of the first verdict."""
    for step in _transitions(history):
        changed = step.after.state is not step.before.state or not step.before.decided
        assert step.after.since == (step.seen.now if changed else step.before.since)


@settings(deadline=None)
@given(histories())
def test_lost_at_moves_only_when_available_is_left(history: list[Assessment]) -> None:
    """`lost_at` is when AVAILABLE was last left; getting worse or better later does not move it."""
    for step in _transitions(history):
        left = step.before.state is HealthState.AVAILABLE and step.after.state is not HealthState.AVAILABLE
        assert step.after.lost_at == (step.seen.now if left else step.before.lost_at)


@settings(deadline=None)
@given(histories())
def test_the_diagnosis_is_that_of_the_last_round(history: list[Assessment]) -> None:
    """The reason is current even while the state waits."""
    for step in _transitions(history):
        assert step.after.diagnosis is step.seen.diagnosis


@settings(deadline=None)
@given(histories())
def test_a_quorum_cannot_be_lost_less_than_its_last_member(history: list[Assessment]) -> None:
    """UNAVAILABLE is said only when no member answered in the last round, or one good round is not yet two."""
    for step in _transitions(history):
        if step.after.state is HealthState.UNAVAILABLE:
            assert not step.seen.member_ok or (step.seen.quorum_ok and step.before.state is step.after.state)


def _through_a_leaderless_time(health: Health, lasting: float, interval: float, took: float) -> list[Health]:
    """Probe a healthy three-member cluster that has no leader for a while, as the monitor does."""
    leaderless = MemberAnswers(Answer.NO_LEADER, Answer.OK)
    states, began, at = [], 200.0, 200.0
    while at < began + lasting:
        now = at + took
        diagnosis = diagnose(
            [leaderless] * 3,
            members=3,
            leaderless=now - began,
            leader_change=RULES.leader_change,
        )
        health = health.assess(Assessment(diagnosis, False, True, at, now), RULES)
        states.append(health)
        at = now + interval
    health = health.assess(Assessment(Diagnosis.HEALTHY, True, True, at, at), RULES)
    return [*states, health]


AVAILABLE = Health().assess(Assessment(Diagnosis.HEALTHY, True, True, 0.0, 0.0), RULES)


@settings(deadline=None)
@given(
    st.floats(0, RULES.leader_change + RULES.outage_after, exclude_max=True),
    st.floats(0.05, RULES.outage_interval),
)
def test_a_leader_change_passes_unnoticed(lasting: float, interval: float) -> None:
    """Without a leader for less than `leader_change + outage_after` the state never changes."""
    for health in _through_a_leaderless_time(AVAILABLE, lasting, interval, took=0.0):
        assert health.state is HealthState.AVAILABLE
        assert health.since == 0.0


@settings(deadline=None)
@given(st.floats(0.05, RULES.outage_interval), st.floats(0, RULES.slow_after))
def test_slow_rounds_bring_the_declaration_forward_by_one_round_at_most(interval: float, took: float) -> None:
    """A leader change that rounds of up to `slow_after` watch is tolerated for that much less, and no more."""
    lasting = RULES.leader_change + RULES.outage_after - 2 * took
    for health in _through_a_leaderless_time(AVAILABLE, lasting, interval, took):
        assert health.state is HealthState.AVAILABLE


@settings(deadline=None)
@given(st.floats(0.05, RULES.outage_interval), st.floats(0, RULES.slow_after))
def test_no_leader_for_good_is_an_outage(interval: float, took: float) -> None:
    """A leader that does not come is declared within two rounds of `leader_change + outage_after`."""
    allowed = RULES.leader_change + RULES.outage_after + 2 * (interval + took)
    *states, _ = _through_a_leaderless_time(AVAILABLE, allowed, interval, took)
    assert states[-1].state is HealthState.DEGRADED
    assert states[-1].diagnosis is Diagnosis.QUORUM_LOST


def test_the_lanes_fail_apart() -> None:
    """A lost quorum leaves the member lane; losing the members later, for long enough, takes that too."""
    health, states = AVAILABLE, []
    for second in range(100, 112):
        lost = second < 106
        kind = KINDS[3] if lost else KINDS[5]
        health = health.assess(Assessment(*kind, sent_at=second, now=second), RULES)
        states.append(health.state)
    assert states[2:4] == [HealthState.AVAILABLE, HealthState.DEGRADED]
    assert states[8:10] == [HealthState.DEGRADED, HealthState.UNAVAILABLE]
    health = health.assess(Assessment(*KINDS[3], sent_at=120, now=120), RULES)
    assert health.state is HealthState.DEGRADED


@settings(deadline=None)
@given(histories())
def test_nobody_is_half_there(history: list[Assessment]) -> None:
    """The round in which an outage is declared says DEGRADED only if a member has answered in it."""
    for step in _transitions(history):
        declared = step.before.state is HealthState.AVAILABLE and step.after.state is not HealthState.AVAILABLE
        if declared and step.past[-1].member_ok is False:
            assert step.after.state is HealthState.UNAVAILABLE


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan])
@pytest.mark.parametrize(
    "name", ["outage_after", "leader_change", "slow_after", "idle_interval", "outage_interval"]
)
def test_rules_must_be_positive(name: str, value: float) -> None:
    """A number that cannot work is refused by name."""
    with pytest.raises(ValueError, match=f"{name} must be more than 0 seconds, not {value}"):
        HealthRules(**{name: value})
