"""The decisions of leaders without etcd and of those they ask, alone and in a model of what can go wrong."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.resilience.failsafe_model import FailsafeTrial, Rules
from tideover.resilience.failsafe import Assembly, Question, Verdict, answer
from tideover.resilience.record import Candidate, Seen, Step, Timing

TIMING = Timing(15.0)
RECORD = Seen(7, holder="L", write="w", ttl=15.0, token=7, term=3, candidates=frozenset({"C", "D"}), limit=3600.0)


# The model ------------------------------------------------------------------------------------------------------


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**63), st.booleans())
def test_no_two_leaders(seed: int, alone: bool) -> None:
    """Nobody is in office while another is, whatever is cut, lost, late, repeated, stopped or forgotten."""
    assert FailsafeTrial(seed, Rules(alone=alone)).run().violations == []


def test_the_model_confirms() -> None:
    """The model is not safe by standing still: in 40 runs leaders are confirmed 200 times, and replaced."""
    trials = [FailsafeTrial(seed).run() for seed in range(40)]
    assert sum(trial.confirmed for trial in trials) > 200
    assert sum(trial.entered for trial in trials) > 60


@dataclass(frozen=True, slots=True)
class CountsFromTheAnswer(Assembly):
    """Counts a confirmation from when it came."""

    def answered(self, name: str, verdict: Verdict | None, sent_at: float, now: float) -> Assembly:
        return Assembly.answered(self, name, verdict, now + TIMING.margin, now)


@dataclass(frozen=True, slots=True)
class ContentWithOne(Assembly):
    """Takes one confirmation for a round."""

    def _basis(self, name: str, now: float) -> float:
        return max(peer.confirmed for peer in self.peers.values())


@dataclass(frozen=True, slots=True)
class Unlimited(Assembly):
    """Goes on for ever if it is confirmed."""

    def extended(self, state: Candidate, now: float) -> Candidate:
        return replace(Assembly.extended(self, replace(state, limit=math.inf), now), limit=state.limit)


@dataclass(frozen=True, slots=True)
class Overruns(Assembly):
    """Goes on with a confirmation that came after the deadline."""

    def extended(self, state: Candidate, now: float) -> Candidate:
        if not state.held or state.believes(now):
            return Assembly.extended(self, state, now)
        return replace(state, deadline=now + 1)


@dataclass(frozen=True, slots=True)
class Brisk(Candidate):
    """Does not begin to count anew after a promise: still safe, but with nothing to spare."""

    def observed(self, seen: Seen, sent_at: float, now: float) -> Candidate:
        after = Candidate.observed(replace(self, promised=-math.inf), seen, sent_at, now)
        return replace(after, promised=self.promised)


@dataclass(frozen=True, slots=True)
class EntersInSpite(Brisk):
    """Takes, and is in office, whatever it has promised meanwhile."""

    def step(self, now: float) -> Step:
        return Candidate.step(replace(self, promised=-math.inf), now)

    def believes(self, now: float) -> bool:
        return self.held and now < self.deadline


@dataclass(frozen=True, slots=True)
class TakesUnlisted(Brisk):
    """Takes over though nobody has asked it."""

    def _may_succeed(self, seen: Seen) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class ForgetsTheRemoved(Brisk):
    """Does not ask whom it is about to remove, though the removal may never be applied."""

    @property
    def electorate(self) -> frozenset[str]:
        return (self.offered if self.draft else self.seen.candidates if self.seen else frozenset()) - {self.me}


def promises_nothing(state: Candidate, question: Question, now: float) -> tuple[Candidate, Verdict]:
    """Say yes and go on as before."""
    return state, answer(state, question, now)[1]


def promises_always(state: Candidate, question: Question, now: float) -> tuple[Candidate, Verdict]:
    """Say yes to whoever asks, even while leading."""
    return replace(state, promised=now + question.promise) if not state.held else state, Verdict.PROMISED


BROKEN = {
    "answer": Rules(candidate=Brisk, assembly=CountsFromTheAnswer),
    "one": Rules(candidate=Brisk, assembly=ContentWithOne),
    "unlimited": Rules(candidate=Brisk, assembly=Unlimited),
    "overruns": Rules(candidate=Brisk, assembly=Overruns),
    "enters": Rules(candidate=EntersInSpite),
    "unlisted": Rules(candidate=TakesUnlisted),
    "removed": Rules(candidate=ForgetsTheRemoved, alone=True),
    "late": Rules(candidate=Brisk, offers_late=True, alone=True),
    "forgets": Rules(candidate=Brisk, forgets=False),
    "nothing": Rules(candidate=Brisk, answer=promises_nothing),
    "always": Rules(candidate=Brisk, answer=promises_always),
    "vacates": Rules(candidate=Brisk, vacates=lambda state, now: state.held),
}
