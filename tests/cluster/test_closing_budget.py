"""What is closed shares its time where nobody answers."""

from __future__ import annotations

import anyio
import pytest

from tests.support import connected
from tests.support import mock_backend as anyio_backend
from tideover import HealthState
from tideover.cluster.closing_budget import ClosingBudget
from tideover.testing import MemoryStore

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio


def test_each_has_its_own_time_as_long_as_etcd_answers() -> None:
    """Without an outage nothing is shared, whatever was closed before."""
    times = iter((0.0, 1.9, 2.0, 10.0))
    budget = ClosingBudget(lambda: next(times), lambda: False)
    assert [budget.seconds() for _ in range(4)] == [2, 2, 2, 2]


def test_in_an_outage_what_is_closed_in_a_row_shares_a_budget() -> None:
    """The first begins it, the others have what is left; what is closed a second after its end begins another."""
    times = iter((0.0, 0.5, 2.0, 2.9, 3.0, 4.5))
    budget = ClosingBudget(lambda: next(times), lambda: True)
    assert [budget.seconds() for _ in range(6)] == [2, 1.5, 0, 0, 2, 0.5]


def test_a_closing_coordinator_shares_it_whatever_the_health() -> None:
    """An outage that nobody has declared yet costs a closing coordinator no more than a declared one."""
    now = 0.0
    budget = ClosingBudget(lambda: now, lambda: False)
    budget.begin()
    now = 1.5
    assert budget.seconds() == 0.5


@pytest.mark.parametrize("silent", [False, True])
async def test_blocks_left_one_after_the_other_take_two_seconds(silent: bool) -> None:
    """A leadership, a registration, a session, a lock and the coordinator together, in a declared outage."""
    store = MemoryStore()
    async with connected(store) as tide:
        async with (
            tide.register("api", "http://10.0.0.7:8000"),
            tide.leader("reaper", on_outage="stay"),
            tide.session(ttl=30, on_outage="wait"),
        ):
            await tide.election("second").campaign(on_outage="stay")
            async with tide.lock("orders", on_outage="local"):
                (store.frozen if silent else store.down).update(store.members)
                store.touch()
                await tide.health.wait_for(HealthState.UNAVAILABLE)
                await anyio.sleep(1)
                began = anyio.current_time()
    assert anyio.current_time() - began < 2.1
