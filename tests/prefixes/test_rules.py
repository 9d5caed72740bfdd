"""Freshness: age is counted from the newest moment proven in sync, and from nothing else."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tideover.policies import OnStale, StalenessLimit
from tideover.prefixes.rules import Freshness, Verdict, judge


@dataclass(frozen=True)
class Step:
    what: Literal["asked", "moved", "confirmed"]
    at: float
    revision: int

    def applied(self, before: Freshness) -> Freshness:
        if self.what == "asked":
            return before.asked(self.at, self.revision)
        if self.what == "moved":
            return before.moved(self.revision)
        return before.confirmed(self.at, self.revision)


histories = st.lists(
    st.builds(
        Step,
        what=st.sampled_from(["asked", "moved", "confirmed"]),
        at=st.integers(0, 20).map(float),
        revision=st.integers(1, 12),
    ),
    max_size=30,
)


def _walk(history: list[Step]) -> list[Freshness]:
    states = [Freshness()]
    for step in history:
        states.append(step.applied(states[-1]))
    return states


@settings(deadline=None)
@given(histories)
def test_nothing_ever_goes_back(history: list[Step]) -> None:
    """Neither the moment proven in sync nor the revision reached ever goes back, in any order of news."""
    states = _walk(history)
    for before, after in pairwise(states):
        assert after.synced_at >= before.synced_at
        assert after.reached >= before.reached


@settings(deadline=None)
@given(histories)
def test_in_sync_only_as_of_a_read_that_was_caught_up_with(history: list[Step]) -> None:
    """The moment is always that at which a linearizable read was sent whose revision was reached or confirmed."""
    for n, state in enumerate(_walk(history)):
        past = history[:n]
        progress = [step for step in past if step.what == "confirmed"]
        proven = {-math.inf} | {
            read.at
            for read in past
            if read.what == "asked"
            and (
                read.revision <= state.reached
                or any(p.revision >= read.revision and p.at >= read.at for p in progress)
            )
        }
        assert state.synced_at in proven


@settings(deadline=None)
@given(histories)
def test_progress_replies_never_move_the_resume_point(history: list[Step]) -> None:
    """A progress reply may prove a moment, but the point from which a watch resumes stays where it was."""
    states = _walk(history)
    for n, step in enumerate(history):
        if step.what == "confirmed":
            assert states[n + 1].reached == states[n].reached


@settings(deadline=None)
@given(histories)
def test_it_lags_exactly_while_a_shown_revision_is_missing(history: list[Step]) -> None:
    """`lags` says whether the read it waits for showed a revision beyond the one reached."""
    for state in _walk(history):
        assert state.lags is (state.wanted > state.reached)
        if state.lags:
            assert state.asked_at > -math.inf


@pytest.mark.parametrize(("requested_at", "revision"), [(9.9, 7), (10.0, 6), (10.0, 3)])
def test_a_progress_reply_that_answers_no_read_proves_nothing(requested_at: float, revision: int) -> None:
    """A reply asked for before the read, or carrying less than its revision, changes nothing."""
    waiting = Freshness(reached=3).asked(10.0, 7)
    assert waiting.confirmed(requested_at, revision) == waiting
    assert waiting.confirmed(10.0, 7).synced_at == 10.0


def test_an_older_read_that_answers_late_does_not_replace_a_newer_one() -> None:
    """Of two reads waited for, the later one counts once caught up with, in whichever order they are answered."""
    late = Freshness(reached=3).asked(2.0, 7).asked(1.0, 7)
    assert late.moved(7).synced_at == Freshness(reached=3).asked(1.0, 7).asked(2.0, 7).moved(7).synced_at == 2.0


def test_constant_traffic_does_not_starve_the_proof() -> None:
    """Reads of ever newer revisions do not push out the oldest: reaching that one is proof as of it."""
    state = Freshness(reached=3)
    for sent in range(1, 100):
        state = state.asked(float(sent), 3 + sent)
    assert state.moved(4).synced_at == 1.0
    assert state.moved(4).lags


def test_age_is_computed_at_each_use() -> None:
    """Age grows with the clock alone; before anything was proven it is infinite."""
    fresh = Freshness(reached=5).asked(100.0, 5)
    assert [fresh.age(now) for now in (100.0, 101.5, 4000.0)] == [0.0, 1.5, 3900.0]
    assert Freshness().age(5.0) == math.inf


@dataclass
class Model:
    """The definition, taken literally: every read is remembered."""

    reached: int = 0
    reads: list[tuple[float, int]] = field(default_factory=list)

    @property
    def synced_at(self) -> float:
        return max((at for at, revision in self.reads if revision <= self.reached), default=-math.inf)


class FreshnessOfALinearizableCluster(RuleBasedStateMachine):
    """One cluster, reads one after another, and a view that follows it late."""

    @initialize()
    def begin(self) -> None:
        self.now, self.revision = 0.0, 1
        self.freshness, self.model = Freshness(), Model()

    @rule(by=st.integers(1, 3))
    def write(self, by: int) -> None:
        self.revision += by

    @rule(seconds=st.integers(1, 5))
    def wait(self, seconds: int) -> None:
        self.now += seconds

    @rule(took=st.integers(0, 2))
    def ask(self, took: int) -> None:
        """A linearizable read answers with the newest revision."""
        sent_at = self.now
        self.now += took
        self.freshness = self.freshness.asked(sent_at, self.revision)
        self.model.reads.append((sent_at, self.revision))

    @rule(share=st.floats(0, 1))
    def catch_up(self, share: float) -> None:
        """The watch delivers some of what is outstanding."""
        target = self.model.reached + round((self.revision - self.model.reached) * share)
        self.freshness = self.freshness.moved(target)
        self.model.reached = max(self.model.reached, target)

    @invariant()
    def never_claims_more_than_the_definition(self) -> None:
        assert self.freshness.reached == self.model.reached
        assert self.freshness.synced_at <= self.model.synced_at

    @invariant()
    def says_all_that_is_true_once_caught_up(self) -> None:
        if not self.freshness.lags:
            assert self.freshness.synced_at == self.model.synced_at

    @invariant()
    def lags_only_behind_the_cluster(self) -> None:
        if self.model.reached == self.revision:
            assert not self.freshness.lags


TestAgainstTheDefinition = FreshnessOfALinearizableCluster.TestCase
TestAgainstTheDefinition.settings = settings(max_examples=100, stateful_step_count=30, deadline=None)


@pytest.mark.parametrize(
    ("on_stale", "age", "has_default", "verdict"),
    [
        ("serve", 10.0, False, Verdict.SERVE),
        ("serve", 10.1, False, Verdict.SERVE),
        ("serve", math.inf, True, Verdict.SERVE),
        ("default", 10.0, True, Verdict.SERVE),
        ("default", 10.1, True, Verdict.DEFAULT),
        ("default", 10.1, False, Verdict.RAISE),
        ("default", math.inf, True, Verdict.DEFAULT),
        ("raise", 10.0, True, Verdict.SERVE),
        ("raise", 10.1, True, Verdict.RAISE),
        ("raise", math.inf, False, Verdict.RAISE),
    ],
)
def test_a_limit_decides_by_age(on_stale: OnStale, age: float, has_default: bool, verdict: Verdict) -> None:
    """Up to `max_stale` a value is served; beyond it, the limit's word decides."""
    assert judge(StalenessLimit(10.0, on_stale), age, has_default=has_default) is verdict


@settings(deadline=None)
@given(st.floats(0, math.inf), st.booleans())
def test_without_a_limit_every_age_is_served(age: float, has_default: bool) -> None:
    """A prefix without a limit serves at any age, with its age."""
    assert judge(None, age, has_default=has_default) is Verdict.SERVE
