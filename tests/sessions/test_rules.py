"""When a lease may be believed in: deadlines and proofs, for any order of answers."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tideover.sessions.rules import Lease, LeaseRules, Verdict, judge, newest_of, reset_between
from tideover.types import Header, SessionState

RULES = LeaseRules(15)
HEADER = Header(cluster_id=7, member_id=1, raft_term=3, revision=100)

ttls = st.integers(5, 3600)
headers = st.builds(Header, st.integers(6, 8), st.integers(1, 3), st.integers(1, 5), st.integers(95, 105))


def lease(*, strict: bool = False, sent_at: float = 0.0) -> Lease:
    """Return a lease of 15 s that was granted then."""
    return Lease(RULES, 15, sent_at, strict=strict)


# Numbers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ttl", "margin", "interval"), [(5, 1.0, 5 / 3), (10, 1.0, 10 / 3), (15, 1.5, 5.0), (60, 6.0, 20.0)]
)
def test_margin_and_interval(ttl: int, margin: float, interval: float) -> None:
    """The margin is a tenth of the TTL and at least a second; a renewal is due every third of it."""
    rules = LeaseRules(ttl)
    assert (rules.margin, rules.renew_interval) == (margin, interval)


@pytest.mark.parametrize("ttl", [-1, 0, 1, 2, 3, 4])
def test_too_short(ttl: int) -> None:
    """A TTL without room for one failure is refused with both numbers."""
    with pytest.raises(ValueError, match=rf"= \d\.\d\d s, not {ttl} s"):
        LeaseRules(ttl)


@pytest.mark.parametrize("ttl", [9_000_000_001, 10**400, -(10**400)])
def test_too_long(ttl: int) -> None:
    """A TTL that etcd would not grant is refused, however long: not all that is whole can be computed with."""
    with pytest.raises(ValueError, match=r"at most 9,000,000,000 s"):
        LeaseRules(ttl)


@pytest.mark.parametrize("ttl", [5.0, 15.5, "15", True, None])
def test_not_whole(ttl: object) -> None:
    """A TTL that is no whole number is refused: etcd would cut it."""
    with pytest.raises(TypeError, match="whole number"):
        LeaseRules(ttl)  # type: ignore[arg-type]


@given(ttls)
def test_one_failed_renewal_is_survived(ttl: int) -> None:
    """A renewal that takes all its time and fails, and one that takes all its time and succeeds, fit."""
    rules = LeaseRules(ttl)
    assert Lease(rules, ttl, 0.0).deadline > rules.renew_interval + 2 * rules.rpc_timeout


@given(ttls, st.floats(1, 7200), st.floats(1, 7200), st.floats(0, 1e6))
def test_the_deadline_counts_from_sending(ttl: int, granted: float, acknowledged: float, sent_at: float) -> None:
    """The deadline is the time of sending plus the smallest TTL that anybody has named, less the margin."""
    found = Lease(LeaseRules(ttl), granted, sent_at, acknowledged).deadline
    assert found == sent_at + min(ttl, granted, acknowledged) - LeaseRules(ttl).margin


# States ---------------------------------------------------------------------------------------------------------


@given(st.booleans(), st.floats(0, 30), st.none() | st.just("no leader"))
def test_states(strict: bool, now: float, failing: str | None) -> None:
    """ALIVE, SUSPENDED and LOST are as documented, and belief ends with the deadline in all of them."""
    found = replace(lease(strict=strict), failing=failing)
    before = now < found.deadline
    assert (found.doubt(now) is None) == before
    expected = (
        (SessionState.SUSPENDED if failing else SessionState.ALIVE)
        if before
        else (SessionState.LOST if strict else SessionState.SUSPENDED)
    )
    assert found.state(now) is expected


steps = st.lists(
    st.tuples(st.sampled_from(["prove", "fail", "end", "wait"]), st.floats(0, 10), st.floats(0, 5)), max_size=30
)


@given(st.booleans(), steps)
def test_nothing_unproven_moves_the_deadline(strict: bool, taken: list[tuple[str, float, float]]) -> None:
    """Over any course of events: the deadline follows proofs alone, never goes back, and what is lost stays so."""
    now, found, newest = 0.0, lease(strict=strict), 0.0
    for what, wait, took in taken:
        now += wait
        before = found.at(now)
        match what:
            case "prove":
                sent_at = now - min(took, now)
                found = found.proven(sent_at, 15, now=now)
                if before.over is None:
                    newest = max(newest, sent_at)
            case "fail":
                found = found.unproven("no leader", now=now)
            case "end":
                found = found.at(now).ended("its key is gone")
            case _:
                found = found.at(now)
        assert found.deadline == newest + 15 - 1.5
        if before.over is not None:
            assert found.over == before.over
            assert found.state(now) is SessionState.LOST
            assert found.doubt(now) is not None
        if strict and now >= before.deadline:
            assert found.at(now).over is not None
        assert (found.doubt(now) is None) == (found.at(now).over is None and now < found.deadline)


def test_the_first_reason_counts() -> None:
    """A lease ends once; later reasons do not replace the first."""
    assert lease().ended("a").ended("b").over == "a"


def test_a_late_proof_revives_only_what_is_not_strict() -> None:
    """A proof after the deadline brings a suspended lease back, and a strict one not."""
    assert lease().proven(20.0, 15, now=20.1).state(20.1) is SessionState.ALIVE
    assert lease(strict=True).proven(20.0, 15, now=20.1).state(20.1) is SessionState.LOST


# Proofs ---------------------------------------------------------------------------------------------------------


@given(st.integers(-1, 20), headers, headers, st.booleans(), headers)
def test_what_is_proven(ttl: int, acknowledged: Header, read: Header, shown: bool, known: Header) -> None:
    """PROVEN exactly if: same history, key shown, TTL left, same member, newest term. GONE: the quorum's word."""
    verdict = judge(ttl=ttl, acknowledged=acknowledged, read=read, shown=shown, known=known).verdict
    same_history = reset_between(known, read) is None
    same = (acknowledged.member_id, acknowledged.raft_term) == (read.member_id, read.raft_term)
    current = read.raft_term >= known.raft_term
    assert (verdict is Verdict.PROVEN) == (same_history and shown and ttl > 0 and same and current)
    assert (verdict is Verdict.GONE) == (not same_history or not shown)


@given(st.integers(-1, 0), headers)
def test_a_denial_alone_is_no_loss(ttl: int, acknowledged: Header) -> None:
    """A member that says the lease is gone, while the quorum shows its key, is only not believed."""
    found = judge(ttl=ttl, acknowledged=acknowledged, read=HEADER, shown=True, known=HEADER)
    assert found.verdict is Verdict.UNPROVEN
    assert found.why


@given(headers, headers)
def test_another_history(known: Header, now: Header) -> None:
    """Another cluster id, or a lower revision, is another history; anything else is the same one."""
    same = now.cluster_id == known.cluster_id
    forward = now.revision >= known.revision
    assert (reset_between(known, now) is None) == (same and forward)


@given(headers, headers)
def test_what_is_known_only_grows(known: Header, seen: Header) -> None:
    """What is known of the quorum never goes back, and keeps its cluster."""
    assume(known.cluster_id == seen.cluster_id)
    newest = newest_of(known, seen)
    assert reset_between(known, newest) is None
    assert newest.revision == max(known.revision, seen.revision)
    assert math.isfinite(newest.raft_term)
