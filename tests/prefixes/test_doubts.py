"""All open watches are doubted together."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial

import anyio
import pytest
import trio

from tests.support import mock_clock
from tideover.cluster.state import ClusterState
from tideover.prefixes.doubts import TICK, Doubts
from tideover.testing import MemoryStore
from tideover.ticker import Ticker

pytestmark = pytest.mark.anyio


async def test_watches_cost_no_task_each_and_one_that_fails_blinds_no_other() -> None:
    """A hundred watches are looked at every second and with each proof, by two tasks, also when a look fails."""
    store, clock = MemoryStore(), mock_clock()
    cluster, ticker = ClusterState(store.members, clock=clock, active=store.members[0]), Ticker(clock.monotonic)
    doubts, taken = Doubts(cluster, ticker), [0] * 100

    def look(number: int) -> None:
        taken[number] += 1
        if number == 0 and taken[0] > 1:
            raise RuntimeError("on purpose")

    async with anyio.create_task_group() as tasks:
        before = trio.lowlevel.current_statistics().tasks_living
        tasks.start_soon(ticker.run)
        tasks.start_soon(doubts.run)
        with _all_looking(doubts, look, len(taken)):
            await anyio.sleep(0.05)
            begun = list(taken)
            cluster.changed.fire()
            await anyio.sleep(0.05)
            assert taken == [count + 1 for count in begun]
            await anyio.sleep(10 * TICK)
            assert min(taken) >= begun[0] + 10
            assert trio.lowlevel.current_statistics().tasks_living == before + 2
        ended = list(taken)
        await anyio.sleep(3 * TICK)
        assert taken == ended
        tasks.cancel_scope.cancel()


def _all_looking(doubts: Doubts, look: Callable[[int], None], count: int) -> ExitStack:
    stack = ExitStack()
    for number in range(count):
        stack.enter_context(doubts.looking(partial(look, number)))
    return stack
