"""Whom to talk to, decided from lists and ids."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tideover.cluster.rules.membership import counted, plan
from tideover.types import ClusterMember

A, B, C = (ClusterMember(number, name, ()) for number, name in ((1, "a"), (2, "b"), (3, "c")))
LEARNER = ClusterMember(4, "d", (), learner=True)


def test_those_that_nobody_stands_for_are_missing() -> None:
    """A voter that has answered nowhere is missing; a learner is not."""
    planned = plan([A, B, C, LEARNER], given=["x"], learned=["y"], seen={"x": {1}, "y": {2}})
    assert planned.missing == (C,)
    assert planned.leaving == frozenset()


def test_the_given_endpoint_is_preferred() -> None:
    """Of a given and a learned endpoint of one member, and of two learned ones, only one stays."""
    assert plan([A], given=["x"], learned=["y"], seen={"x": {1}, "y": {1}}).leaving == {"y"}
    assert plan([A], given=[], learned=["y", "z"], seen={"y": {1}, "z": {1}}).leaving == {"z"}


def test_who_is_not_on_the_list_leaves() -> None:
    """A learned endpoint leaves with its member; a given one stays whatever the list says."""
    planned = plan([A], given=["x"], learned=["y"], seen={"x": {9}, "y": {8}})
    assert planned.leaving == {"y"}
    assert planned.missing == (A,)


def test_a_load_balancer_stands_for_nobody() -> None:
    """Two listed members behind one endpoint: neither is taken for reached; an id from before does not count."""
    assert plan([A, B], given=["lb"], learned=[], seen={"lb": {1, 2}}).missing == (A, B)
    assert plan([A, B], given=["x"], learned=[], seen={"x": {1, 9}}).missing == (B,)


def test_members_count_once_and_voters_only() -> None:
    """Two endpoints of one member count once, a learner's not at all, one that is not known yet for itself."""
    seen = {"x": {1}, "twin": {1}, "learner": {4}, "lb": {1, 2}}
    assert counted(["x", "twin"], seen=seen, voters={1, 2, 3}) == 1
    assert counted(["x", "learner"], seen=seen, voters={1, 2, 3}) == 1
    assert counted(["x", "unknown"], seen=seen, voters={1, 2, 3}) == 2
    assert counted(["lb"], seen=seen, voters={1, 2, 3}) == 1
    assert counted(["x", "learner"], seen=seen, voters=()) == 2


_ids = st.sets(st.integers(1, 5), max_size=2)
_endpoints = st.lists(st.sampled_from("pqrstu"), unique=True)


@given(st.sets(st.integers(1, 5)), _endpoints, _endpoints, st.dictionaries(st.sampled_from("pqrstu"), _ids))
def test_a_plan_carried_out_leaves_each_member_one_endpoint_at_most(
    listed: set[int], given_: list[str], learned: list[str], seen: dict[str, set[int]]
) -> None:
    """Whatever was known: afterwards no learned endpoint doubles another, and nobody who is reached is missing."""
    learned = [endpoint for endpoint in learned if endpoint not in given_]
    members = [ClusterMember(number, str(number), ()) for number in sorted(listed)]
    planned = plan(members, given=given_, learned=learned, seen=seen)
    assert planned.leaving <= set(learned)
    staying = [seen[endpoint] & listed for endpoint in learned if endpoint not in planned.leaving]
    reached = [ids for endpoint in given_ if len(ids := seen.get(endpoint, set()) & listed) == 1]
    assert all(len(ids) == 1 for ids in staying)
    assert len(set().union(*staying)) == len(staying)
    assert not set().union(*staying) & set().union(*reached)
    assert {member.id for member in planned.missing} == listed - set().union(*staying, *reached)
