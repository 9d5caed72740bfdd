"""The ids of one coordinator's leases, and the keys that are named after them."""

from __future__ import annotations

import pytest

from tests.support import connected
from tideover.sessions.key import anchors
from tideover.sessions.lease_ids import LeaseIds
from tideover.testing import MemoryStore


@pytest.mark.parametrize("word", [b"\x00" * 4, b"\xff" * 4, b"\x80\x00\x00\x01"])
def test_ids_are_fit_for_etcd_and_for_a_prefix(word: bytes) -> None:
    """Whatever is drawn: positive, within 63 bits, 16 digits that begin with the prefix, and none drawn twice."""
    ids = LeaseIds(lambda size: word[:size])
    drawn = [ids.draw() for _ in range(1000)]
    assert all(0 < lease < 2**63 and f"{lease:x}".startswith(ids.prefix) for lease in drawn)
    assert {len(f"{lease:x}") for lease in drawn} == {16}
    assert len(set(drawn)) == 1000


def test_two_coordinators_draw_from_different_ranges() -> None:
    """Of a thousand coordinators no two have the same prefix."""
    assert len({LeaseIds().prefix for _ in range(1000)}) >= 999


@pytest.mark.anyio
async def test_the_anchors_of_a_coordinator_have_a_prefix_of_their_own() -> None:
    """Two coordinators on one etcd: the prefix of each has its own sessions' keys, and none of the other's."""
    store = MemoryStore()
    async with connected(store) as one, connected(store) as other:
        async with one.session() as first, one.session() as second, other.session() as third:
            there = [key for key in store._newest if key.startswith(anchors("/"))]
            found = [
                {key for key in there if key.startswith(tide._parts.sessions.own_anchors)} for tide in (one, other)
            ]
            own = [f"/tideover/sessions/{session.lease_id:x}".encode() for session in (first, second, third)]
            assert found == [set(own[:2]), set(own[2:])]


@pytest.mark.anyio
async def test_a_coordinator_made_before_a_fork_draws_in_the_child() -> None:
    """Nothing is drawn before the coordinator is entered: children of one parent would all draw the same ids."""
    store = MemoryStore()
    async with connected(store) as tide:
        entered = tide._parts.sessions.own_anchors
        tide._parts.sessions.begin()
        assert entered not in (b"", tide._parts.sessions.own_anchors)
