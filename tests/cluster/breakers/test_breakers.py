"""What calls meet at the breakers: a refusal that says when etcd is probed next, or a turn of their own."""

from __future__ import annotations

from dataclasses import replace

import anyio
import pytest

from tests.support import mock_clock
from tideover.cluster.breakers.breaker import Breaker, BreakerState
from tideover.cluster.state import ClusterState
from tideover.errors import AuthenticationFailed, CircuitOpen
from tideover.store.operations import Lane
from tideover.types import Diagnosis

pytestmark = pytest.mark.anyio

MEMBERS = ["a:2379", "b:2379", "c:2379"]
OPEN = Breaker(state=BreakerState.OPEN)


def _state(**health: object) -> ClusterState:
    state = ClusterState(MEMBERS, clock=mock_clock(), active=MEMBERS[0], random=lambda: 0.5)
    state.set_health(replace(state.health, **health))  # type: ignore[arg-type]
    return state


async def test_each_lane_has_its_own_breaker() -> None:
    """In an outage of the quorum linearizable calls are refused, and serializable reads go through."""
    state = _state(quorum=OPEN, diagnosis=Diagnosis.QUORUM_LOST)
    state.breakers.retry_at = state.clock.monotonic() + 2.0
    state.admit(Lane.MEMBER)
    with pytest.raises(CircuitOpen, match=r"etcd has no quorum; next probe in 2\.0 s") as refused:
        state.admit(Lane.QUORUM)
    assert refused.value.retry_after == 2.0


async def test_refused_credentials_are_no_outage() -> None:
    """What a quorum refuses is told as a refusal: nothing that waits for the end of an outage waits for it."""
    state = _state(quorum=OPEN, diagnosis=Diagnosis.UNAUTHORIZED)
    with pytest.raises(AuthenticationFailed):
        state.admit(Lane.QUORUM)
    health = state.health
    assert (health.unauthorized, health.outage_declared, health.is_away) == (True, False, False)


async def test_calls_past_the_breaker_take_turns() -> None:
    """In a declared outage five callers ask about a second apart, however many members there are to ask."""
    state, asked = _state(quorum=OPEN, diagnosis=Diagnosis.CUT_OFF), []

    async def ask() -> None:
        await state.breakers.back_off({MEMBERS[0]})
        asked.append(anyio.current_time())

    began = anyio.current_time()
    async with anyio.create_task_group() as callers:
        for _ in range(5):
            callers.start_soon(ask)
    gaps = [later - earlier for earlier, later in zip([began, *asked], asked, strict=False)]
    assert all(0.6 <= gap <= 1.1 for gap in gaps), gaps


async def test_a_turn_ends_with_the_outage() -> None:
    """A caller that waits for its turn goes on at once when the outage is over."""
    state = _state(quorum=OPEN, diagnosis=Diagnosis.CUT_OFF)

    async def recover() -> None:
        await anyio.sleep(0.2)
        state.set_health(replace(state.health, quorum=Breaker()))
        state.breakers.returned.fire()

    began = anyio.current_time()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(recover)
        await state.breakers.back_off(set())
        await state.breakers.outage_over()
    assert anyio.current_time() - began == pytest.approx(0.2, abs=0.01)


async def test_with_members_left_nothing_is_waited_for() -> None:
    """Before an outage is declared the next member is asked at once; after the last one all are asked again."""
    state, tried = _state(), {MEMBERS[0]}
    began = anyio.current_time()
    await state.breakers.back_off(tried)
    assert (anyio.current_time(), tried) == (began, {MEMBERS[0]})
    tried = set(MEMBERS)
    await state.breakers.back_off(tried)
    assert anyio.current_time() > began
    assert not tried
