"""What a session knows of its lease: which answers are taken in, and which end it."""

from __future__ import annotations

from dataclasses import replace

import pytest
import trio

from tests.support import mock_clock
from tideover import SessionLost, SessionState
from tideover.sessions.key import LeasedKey
from tideover.sessions.lease import LeaseState
from tideover.sessions.rules import Lease, LeaseRules
from tideover.types import Entry, Header

pytestmark = pytest.mark.anyio

GRANT = Header(cluster_id=7, member_id=1, raft_term=9, revision=100)


def tenure(*, strict: bool = False) -> LeaseState:
    """Return the tenure of a lease of 15 s that was granted now."""
    return LeaseState(
        Lease(LeaseRules(15), 15, trio.current_time(), strict=strict),
        lease_id=0x7A11,
        anchor=LeasedKey("", b"/anchor", Entry(b"", 100, 100)),
        known=GRANT,
        clock=mock_clock(),
        member="m1",
    )


@pytest.mark.parametrize("change", [{"cluster_id": 8}, {"revision": 99}], ids=repr)
async def test_an_answer_of_another_history_is_the_end(change: dict[str, int]) -> None:
    """Another cluster id, or a lower revision, in the answer to any write of ours ends the session."""
    found = tenure()
    found.learn(replace(GRANT, **change), found.known)
    assert "this is another" in (found.lost.reason or "")
    assert found.state is SessionState.LOST


async def test_answers_may_overtake_each_other() -> None:
    """An answer that was asked for before a newer one came is compared with what was known when it was asked."""
    found = tenure()
    known = found.known
    found.learn(replace(GRANT, revision=120), known)
    found.learn(replace(GRANT, revision=110), known)
    assert not found.lost
    assert found.known.revision == 120


async def test_terms_count_once_proven() -> None:
    """The term of a grant or a write, perhaps of a candidate that never ruled, ends nothing; a proven one does."""
    found = tenure()
    found.learn(replace(GRANT, raft_term=12), found.known)
    assert found.known.raft_term == 0
    found.prove(trio.current_time(), 15, replace(GRANT, raft_term=10))
    assert found.known.raft_term == 10


async def test_asking_gives_no_notice() -> None:
    """`loss` and `state` change nothing, so that threads may ask; notice is given when the loop settles it."""
    found = tenure(strict=True)
    await trio.sleep(14)
    assert found.state is SessionState.LOST
    assert isinstance(found.loss(), SessionLost)
    assert not found.lost
    found.settle()
    assert found.lost
    found.prove(trio.current_time(), 15, GRANT)
    assert found.state is SessionState.LOST
