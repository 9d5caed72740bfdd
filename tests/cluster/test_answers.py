"""What an answer says: of a link, and of what is current."""

from __future__ import annotations

import pytest

from tideover.clock import Clock
from tideover.cluster.state import ClusterState
from tideover.types import Header

MEMBER = "a:1"


@pytest.mark.parametrize(("took", "lowers"), [(0.2, True), (0.995, False), (3.0, False)])
def test_an_answer_that_took_less_lowers_the_limit(took: float, lowers: bool) -> None:
    """The link takes no longer than an answer did; what is less than 10 ms quicker changes nothing."""
    state = ClusterState([MEMBER], clock=Clock(), active=MEMBER)
    state.record_round_trip(MEMBER, 1.0)
    before = state.limit(MEMBER, 0.5)
    state.answered(MEMBER, took)
    assert (state.limit(MEMBER, 0.5) != before) is lowers


@pytest.mark.anyio
async def test_a_proof_is_announced_if_it_tells_more() -> None:
    """Each answer is a proof; a new revision is announced at once, and the same one again as time passes."""
    state = ClusterState([MEMBER], clock=Clock(), active=MEMBER)

    def announces(sent_at: float, revision: int) -> bool:
        event = state.changed.next()
        state.prove(sent_at, Header(77, 1, 2, revision))
        assert state.proof is not None
        assert state.proof.sent_at == sent_at
        return event.is_set()

    told = [announces(1.0, 5), announces(1.01, 5), announces(1.02, 6), announces(1.1, 6), announces(1.2, 6)]
    assert told == [True, False, True, False, True]
