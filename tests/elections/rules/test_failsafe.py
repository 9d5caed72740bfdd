"""The decisions of leaders without etcd and of those they ask, alone and in a model of what can go wrong."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.elections.rules.failsafe_model import FailsafeTrial, Rules
from tideover.elections.rules import failsafe
from tideover.elections.rules.candidate import Candidate, Do, Seen, Step, Timing
from tideover.elections.rules.failsafe import MAX_PEERS, Peer, PeerSet, Question, Verdict, answer

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
class CountsFromTheAnswer(PeerSet):
    """Counts a confirmation from when it came."""

    def answered(self, name: str, verdict: Verdict | None, sent_at: float, now: float) -> PeerSet:
        return PeerSet.answered(self, name, verdict, now + TIMING.margin, now)


@dataclass(frozen=True, slots=True)
class ContentWithOne(PeerSet):
    """Takes one confirmation for a round."""

    def _basis(self, name: str, now: float) -> float:
        return max(peer.confirmed for peer in self.peers.values())


@dataclass(frozen=True, slots=True)
class Unlimited(PeerSet):
    """Goes on for ever if it is confirmed."""

    def extended(self, state: Candidate, now: float) -> Candidate:
        return replace(PeerSet.extended(self, replace(state, limit=math.inf), now), limit=state.limit)


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


def promises_nothing(state: Candidate, question: Question, now: float) -> tuple[Candidate, Verdict]:
    """Say yes and go on as before."""
    return state, answer(state, question, now)[1]


BROKEN = {
    "answer": (Rules(candidate=Brisk, assembly=CountsFromTheAnswer), 4),
    "one": (Rules(candidate=Brisk, assembly=ContentWithOne), 3),
    "unlimited": (Rules(candidate=Brisk, assembly=Unlimited), 121),
    "enters": (Rules(candidate=EntersInSpite), 0),
    "unlisted": (Rules(candidate=TakesUnlisted), 121),
    "late": (Rules(candidate=Brisk, offers_late=True, alone=True), 262),
    "nothing": (Rules(candidate=Brisk, answer=promises_nothing), 0),
}


@pytest.mark.parametrize("rule", BROKEN)
def test_the_model_notices(rule: str) -> None:
    """Each rule is needed: a run in which nobody leads twice shows two leaders without it."""
    rules, seed = BROKEN[rule]
    assert FailsafeTrial(seed, Rules(candidate=Brisk, alone=rules.alone)).run().violations == []
    found = FailsafeTrial(seed, rules).run().violations
    assert any(violation.startswith("two holders") for violation in found)


# What a candidate answers ---------------------------------------------------------------------------------------

QUESTION = Question("L", term=3, number=1, promise=15.0)


def candidate(seen: Seen | None = RECORD, **known: Any) -> Candidate:
    """Return what C knows."""
    return replace(Candidate("C", TIMING, limit=3600.0), seen=seen, since=0.0, **known)


def test_a_promise_runs_from_its_receipt() -> None:
    """Who knows the record as it is told promises for the ttl, once per question, and takes nothing meanwhile."""
    state, verdict = answer(candidate(), QUESTION, 100.0)
    assert (verdict, state.promised) == (Verdict.PROMISED, 115.0)
    assert state.step(114.9).do is Do.READ
    assert state.observed(RECORD, 114.0, 114.1).since == 114.1
    assert answer(state, QUESTION, 110.0) == (state, Verdict.REPLAYED)
    assert answer(state, replace(QUESTION, number=2), 110.0)[0].promised == 125.0


@pytest.mark.parametrize(
    ("known", "verdict"),
    [
        ({"seen": None}, Verdict.UNKNOWN),
        ({"seen": replace(RECORD, term=2)}, Verdict.UNKNOWN),
        ({"seen": replace(RECORD, ttl=20.0)}, Verdict.UNKNOWN),
        ({"seen": replace(RECORD, term=4)}, Verdict.NEWER),
        ({"seen": replace(RECORD, holder="D")}, Verdict.CHANGED),
        ({"seen": replace(RECORD, vacant=True)}, Verdict.CHANGED),
        ({"seen": Seen()}, Verdict.CHANGED),
        ({"held": True}, Verdict.LEADS),
        ({"seen": replace(RECORD, holder="C"), "written": "w", "token": 7}, Verdict.LEADS),
        ({"retired": True}, Verdict.CHANGED),
    ],
)
def test_vetoes(known: dict[str, Any], verdict: Verdict) -> None:
    """Who knows better, or nothing, promises nothing and stays as it is."""
    state = candidate(**known)
    assert answer(state, QUESTION, 100.0) == (state, verdict)
    assert verdict.is_veto is (verdict is not Verdict.UNKNOWN)


def test_promise_and_entry_exclude_each_other() -> None:
    """Who promised while its own takeover was under way holds the record, but not the office, until the end of it.

    Meanwhile it declares nothing vacant, vetoes, and adds nobody.
    """
    asked = candidate(seen=replace(RECORD, vacant=False)).drafted("mine").offering(frozenset({"D"}))
    promised, verdict = answer(asked, QUESTION, 100.0)
    assert verdict is Verdict.PROMISED
    holds = promised.succeeded(Do.TAKE, 8, 99.0, 100.5, frozenset({"D"}))
    assert holds.held
    assert not holds.believes(100.5)
    assert not holds.may_vacate(114.9)
    assert answer(holds, replace(QUESTION, number=2), 101.0)[1] is Verdict.LEADS
    renewed = holds.drafted("again").succeeded(Do.RENEW, 9, 110.0, 110.1, frozenset({"D"}))
    assert not renewed.believes(114.9)
    assert renewed.step(111.0).at <= 115.0
    assert renewed.believes(115.0)
    assert renewed.may_vacate(115.0)


def test_a_promise_ends_with_a_resignation() -> None:
    """Who was promised something and gives it up itself frees the other at once; a change by others does not."""
    state, _ = answer(candidate(), QUESTION, 100.0)
    resigned = replace(RECORD, mod_revision=8, vacant=True)
    assert state.observed(resigned, 101.0, 101.1).step(101.1).do is Do.TAKE
    for seen in (Seen(8, ttl=15.0), replace(resigned, holder="D")):
        assert state.observed(seen, 101.0, 101.1).promised == 115.0


def test_retiring_is_final() -> None:
    """What a retired candidate had sent may be applied; it is not its own any more."""
    state = candidate().drafted("mine").retire()
    late = replace(RECORD, mod_revision=9, holder="C", write="mine", token=9)
    assert not state.observed(late, 1.0, 2.0).owns(late)


# Who is asked ---------------------------------------------------------------------------------------------------


def leader(at: float = 0.0, listed: frozenset[str] = frozenset({"C", "D"})) -> Candidate:
    """Return a leader that renewed at a time."""
    seen = replace(RECORD, holder="L", candidates=listed)
    state = replace(Candidate("L", TIMING, limit=60.0), seen=seen, written="w", token=7, draft="v")
    return state.succeeded(Do.RENEW, 8, at, at, listed)


def assembly(names: str = "CD", now: float = 0.0, *, alone: bool = False) -> PeerSet:
    """Return what the leader knows of others."""
    return PeerSet(alone).found({name: f"{name}:1" for name in names}, now)


def test_who_is_asked_whatever_is_under_way() -> None:
    """Until a write is known to be applied, those are asked that it adds, and those that it leaves out."""
    state = leader().drafted("next").offering(frozenset({"C", "E"}))
    assert state.electorate == {"C", "D", "E"}
    assert state.succeeded(Do.RENEW, 9, 5.0, 5.1, frozenset({"C", "E"})).electorate == {"C", "E"}
    changed = replace(RECORD, mod_revision=9, write="next", candidates=frozenset({"C"}))
    assert state.observed(changed, 5.0, 5.1).electorate == {"C"}


def test_the_deadline_follows_the_oldest_answer() -> None:
    """It moves only when all have answered, from when the oldest of the newest answers' questions was sent."""
    state, group = leader(), assembly()
    assert state.deadline == 13.5
    group = group.answered("C", Verdict.PROMISED, 7.0, 8.0)
    assert group.extended(state, 9.0).deadline == 13.5
    group = group.answered("D", Verdict.PROMISED, 9.0, 12.0)
    assert group.extended(state, 12.0).deadline == 7.0 + 13.5
    assert group.extended(state, 12.0).confirmed_only(14.0)
    group = group.answered("C", Verdict.PROMISED, 11.0, 12.0).answered("C", Verdict.PROMISED, 8.0, 12.5)
    assert group.extended(state, 12.5).deadline == 9.0 + 13.5


def test_what_is_no_answer() -> None:
    """Any other answer than a promise moves nothing, and none comes back to life after its deadline."""
    state = leader()
    for verdict in Verdict:
        group = assembly("C").answered("C", verdict, 9.0, 9.0)
        moved = group.extended(leader(listed=frozenset({"C"})), 9.0).deadline > 13.5
        assert moved is (verdict is Verdict.PROMISED)
    late = assembly().answered("C", Verdict.PROMISED, 13.0, 13.6).answered("D", Verdict.PROMISED, 13.0, 13.6)
    assert late.extended(state, 13.6) == state
    assert late.extended(state.expired(), 13.6) == state.expired()


def test_the_retired_need_not_be_asked() -> None:
    """Who has retired is done with; when all have, the leader goes on until the limit, and no longer."""
    state = leader()
    group = assembly().retired("C").answered("D", Verdict.PROMISED, 9.0, 9.0)
    assert group.extended(state, 9.0).deadline == 9.0 + 13.5
    group = group.retired("D")
    assert group.due(state, 12.0) == ()
    for now in range(10, 59):
        state = group.extended(state, float(now))
    assert state.deadline == 60.0


def test_alone() -> None:
    """A leader whose record lists nobody goes on only if it was told so."""
    state = leader(listed=frozenset())
    assert assembly("").extended(state, 12.0) == state
    assert assembly("", alone=True).extended(state, 12.0).deadline == 25.5


def test_when_others_are_asked() -> None:
    """Nothing is asked of anybody before a renewal has been due for an attempt; then all are, at once."""
    state, group = leader(), assembly()
    assert not failsafe.failing(state, 5.9)
    assert failsafe.failing(state, 6.0)
    group = group.answered("C", Verdict.HERE, 5.0, 5.0).answered("D", Verdict.HERE, 5.0, 5.0)
    assert group.due(state, 5.9) == ()
    assert group.due(state, 6.0) == ("C", "D")
    group = group.asked("C", 6.0).asked("D", 6.0)
    assert group.due(state, 6.1) == ()
    assert group.answered("C", Verdict.PROMISED, 6.0, 6.1).due(state, 6.4) == ("D",)


@given(st.floats(4.6, 600, allow_nan=False))
def test_there_is_time_to_ask(ttl: float) -> None:
    """Whatever the ttl, a whole attempt's time is left between the first question and the deadline."""
    try:
        timing = Timing(ttl)
    except ValueError:
        return
    state = replace(Candidate("L", timing, limit=3600.0), seen=RECORD, draft="v").succeeded(Do.RENEW, 8, 0.0, 0.0)
    begins = timing.interval + timing.rpc_timeout
    assert failsafe.failing(state, begins)
    assert state.deadline - begins > timing.rpc_timeout


TIMES = st.floats(0, 60, allow_nan=False)
PEERS = st.builds(
    Peer,
    address=st.just("x:1"),
    reached=st.one_of(st.just(-math.inf), TIMES),
    confirmed=st.one_of(st.just(-math.inf), TIMES),
    tried=st.one_of(st.just(-math.inf), TIMES),
    gone=st.booleans(),
    retired=st.booleans(),
)


def past(peer: Peer, now: float) -> Peer:
    """Return what can be known of a peer by now."""
    times = {name: min(getattr(peer, name), now) for name in ("reached", "confirmed", "tried")}
    return replace(peer, **times)


@settings(max_examples=400, deadline=None)
@given(
    peers=st.dictionaries(st.sampled_from("CDEF"), PEERS),
    asking=st.sets(st.sampled_from("CDEF")),
    alone=st.booleans(),
    renewed=TIMES,
    promised=st.one_of(st.just(-math.inf), TIMES),
    left=st.floats(0, 60),
    after=st.floats(0, 15),
    share=st.floats(0, 0.99),
)
def test_nothing_is_missed_while_idle(
    peers: dict[str, Peer],
    asking: set[str],
    alone: bool,
    renewed: float,
    promised: float,
    left: float,
    after: float,
    share: float,
) -> None:
    """Until `idle_until` nobody becomes due, nobody is asked for more than before, no deadline needs moving."""
    now = renewed + after
    state = replace(leader(renewed), promised=promised, deadline=renewed + left)
    known = PeerSet(alone, {name: past(peer, now) for name, peer in peers.items()})
    began = {*asking, *known.due(state, now)}
    state = known.extended(state, now)
    until = known.idle_until(state, now, began)
    # The end of the deadline is an event of its own.
    ends = state.deadline if now < state.deadline else math.inf
    later = now + share * (min(until, ends, now + 100.0) - now)
    assert set(known.due(state, later)) <= began
    assert failsafe.failing(state, later) is failsafe.failing(state, now)
    if failsafe.failing(state, now) and not known._follows_the_clock(state, now):
        assert known.extended(state, later) == state


def test_with_nobody_left_to_ask_the_deadline_follows() -> None:
    """A leader whose others have all retired looks again in good time, and not ten times a second."""
    known = assembly().retired("C").retired("D")
    state, now, looks = leader(), 6.0, 0
    while now < 40.0:
        state = known.extended(state, now)
        assert state.believes(now)
        now, looks = known.idle_until(state, now, ()), looks + 1
    assert looks < 10


def test_at_the_limit_it_rests() -> None:
    """Where the deadline cannot be moved any more there is nothing to do but to wait for it."""
    known = PeerSet(alone=True)
    state = known.extended(leader(listed=frozenset()), 13.0)
    for now in range(14, 60):
        state = known.extended(state, float(now))
    assert state.deadline == 60.0
    assert known.idle_until(state, 59.0, ()) == math.inf


def test_who_is_listed() -> None:
    """A candidate is listed when it has answered; struck off soon when it is gone, late when it is silent."""
    group = PeerSet().applied("C", "C:1")
    assert group.wanted(TIMING, 0.0) == {}
    assert group.unanswered("C").peers == {}
    assert group.answered("C", None, 0.0, 0.0).peers == {}
    group = group.answered("C", Verdict.HERE, 0.0, 1.0)
    assert group.wanted(TIMING, 60.0) == {"C": "C:1"}
    assert group.wanted(TIMING, 62.0) == {}
    assert group.answered("C", None, 5.0, 5.0).wanted(TIMING, 15.0) == {"C": "C:1"}
    assert group.answered("C", None, 5.0, 5.0).wanted(TIMING, 17.0) == {}
    assert group.retired("C").wanted(TIMING, 2.0) == {}
    assert group.retired("C").applied("C", "C:2").wanted(TIMING, 2.0) == {}
    assert group.applied("C", "C:2").wanted(TIMING, 2.0) == {"C": "C:2"}


def test_there_are_not_too_many() -> None:
    """However many make themselves known, so many are remembered; who never answers makes room."""
    group = PeerSet()
    for number in range(2 * MAX_PEERS):
        group = group.applied(str(number), "x:1")
    assert len(group.peers) == MAX_PEERS
    assert group.unanswered("0").applied("new", "x:1").peers.keys() >= {"new"}


# Who waits for how long -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seen", "known", "wait"),
    [
        (RECORD, {}, 16.5),
        (replace(RECORD, candidates=frozenset({"D"})), {}, 3600 + 720),
        (replace(RECORD, candidates=frozenset(), limit=7200.0), {}, 7200 + 1440),
        (Seen(7, ttl=15.0), {"cleared": True}, 16.5),
        (Seen(7, ttl=15.0), {"unknowable": True}, 16.5),
        (Seen(7, ttl=15.0, token=5), {"unknowable": True}, 3600 + 720),
        (Seen(7, ttl=15.0), {"unknowable": True, "suspicious": True}, 3600 + 720),
        (Seen(7, ttl=15.0), {}, 3600 + 720),
    ],
)
def test_how_long_is_waited(seen: Seen, known: dict[str, Any], wait: float) -> None:
    """Who is listed waits for ttl and margin; who is not, for longer than any leader can be confirmed."""
    assert candidate(seen=seen, **known).ripe_at == wait
