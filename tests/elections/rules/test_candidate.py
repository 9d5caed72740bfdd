"""One candidate's decisions, alone and in a model of everything that can go wrong around them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.elections.rules.record_model import Trial
from tideover.elections.rules.candidate import Candidate, Do, Seen, Timing

TIMING = Timing(15.0)


# The model ------------------------------------------------------------------------------------------------------


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**63))
def test_no_two_holders(seed: int) -> None:
    """Nobody believes while another does, tokens grow, and no holder that lives and reaches etcd is replaced."""
    assert Trial(seed).run().violations == []


def test_the_model_elects() -> None:
    """The model is not safe by standing still: in 50 runs there are over a hundred grants, late ones too."""
    trials = [Trial(seed).run() for seed in range(50)]
    assert sum(len(trial.grants) for trial in trials) > 100
    assert any(at > 100 for trial in trials for at, _, _ in trial.grants)


@dataclass(frozen=True, slots=True)
class MovesDeadlineOnAdoption(Candidate):
    """Takes the look that finds its write for a renewal."""

    def observed(self, seen: Seen, sent_at: float, now: float) -> Candidate:
        after = Candidate.observed(self, seen, sent_at, now)
        adopted = after.held and after.written != self.written
        deadline, renew_at = now + self.timing.ttl - self.timing.margin, now + self.timing.interval
        return replace(after, deadline=deadline, renew_at=renew_at) if adopted else after


@dataclass(frozen=True, slots=True)
class CountsFromTheAnswer(Candidate):
    """Counts the deadline from the answer to a renewal."""

    def succeeded(
        self, do: Do, revision: int, sent_at: float, now: float, candidates: frozenset[str] = frozenset()
    ) -> Candidate:
        after = Candidate.succeeded(self, do, revision, sent_at, now)
        return replace(after, deadline=now + self.timing.ttl + self.timing.margin) if after.held else after


@dataclass(frozen=True, slots=True)
class IgnoresGaps(Candidate):
    """Counts through times in which it saw nothing."""

    def _gapped(self, now: float) -> bool:
        return False


@dataclass(frozen=True, slots=True)
class TakesWhatIsNotThere(Candidate):
    """Believes that what is not there never was."""

    def looked_at_history(
        self, *, unprecedented: bool, cleared: bool = False, unknowable: bool = False
    ) -> Candidate:
        return Candidate.looked_at_history(self, unprecedented=True)


@dataclass(frozen=True, slots=True)
class Impatient(Candidate):
    """Waits for the ttl without the margin."""

    @property
    def ripe_at(self) -> float:
        return Candidate.ripe_at.fget(self) - 2 * self.timing.margin  # type: ignore[attr-defined, no-any-return]


@dataclass(frozen=True, slots=True)
class IgnoresItsToken(Candidate):
    """Takes a record for its own although its token was deleted."""

    def owns(self, seen: Seen) -> bool:
        return self._wrote(seen)


@pytest.mark.parametrize(
    ("broken", "seed", "kind"),
    [
        (MovesDeadlineOnAdoption, 674, "two holders"),
        (CountsFromTheAnswer, 26, "two holders"),
        (IgnoresGaps, 13, "needless change"),
        (TakesWhatIsNotThere, 1, "two holders"),
        (Impatient, 8, "two holders"),
    ],
)
def test_the_model_notices(broken: type[Candidate], seed: int, kind: str) -> None:
    """Each rule is needed: a run that is well with it shows, without it, what the rule prevents."""
    assert Trial(seed).run().violations == []
    assert any(violation.startswith(kind) for violation in Trial(seed, broken).run().violations)


def test_a_deleted_token_is_a_definite_no_and_taken_anew_at_once() -> None:
    """A holder whose token is gone holds nothing, does not wait for anybody, and gets a larger token."""
    mine = Candidate("me", TIMING).observed(Seen(), 0, 0).drafted("a").succeeded(Do.FOUND, 5, 0, 0)
    mine = mine.looked_at_history(unprecedented=True).drafted("b").succeeded(Do.TAKE, 6, 0, 0)
    assert mine.believes(1)
    assert mine.token == 6
    gone = mine.observed(replace(mine.seen or Seen(), token=0), 5, 5)
    assert not gone.held
    assert "token was deleted" in gone.loss
    assert gone.step(5).do is Do.TAKE
    again = gone.drafted("c").succeeded(Do.TAKE, 9, 5, 5)
    assert again.believes(6)
    assert again.token == 9


def test_an_adopted_takeover_keeps_its_token() -> None:
    """Who finds its takeover applied, and then a renewal, has the token of the takeover."""
    vacant = Candidate("me", TIMING).observed(Seen(5, "other", "x", vacant=True, ttl=15, token=2), 0, 0)
    taken = vacant.drafted("a").observed(Seen(6, "me", "a", ttl=15, token=6), 1, 1)
    assert taken.step(1).do is Do.RENEW
    renewed = taken.drafted("b").observed(Seen(7, "me", "b", ttl=15, token=6), 2, 2)
    assert renewed.step(2).do is Do.RENEW
    assert renewed.drafted("c").succeeded(Do.RENEW, 8, 3, 3).token == 6


def test_what_never_existed_in_another_history_is_forgotten() -> None:
    """A founded record that is older than what was seen is not taken at once, though the one before it was new."""
    mine = Candidate("me", TIMING).observed(Seen(50, ttl=15.0), 0.0, 0.0)
    mine = mine.looked_at_history(unprecedented=True)
    assert mine.step(0.0).do is Do.TAKE
    restored = mine.observed(Seen(40, ttl=15.0), 1.0, 1.0)
    assert restored.step(1.0).do is not Do.TAKE
    assert restored.ripe_at == 1.0 + 15.0 + TIMING.margin
