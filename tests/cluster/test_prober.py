"""What the prober keeps of the members it has asked."""

from __future__ import annotations

import anyio
import pytest

from tests.support import mock_clock
from tideover.cluster.prober import Prober
from tideover.cluster.reconnector import Reconnector
from tideover.cluster.rules.diagnosis import Answer
from tideover.cluster.state import ClusterState
from tideover.store.operations import Lane, Range
from tideover.testing import MemoryStore
from tideover.ticker import Ticker

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("answered", [True, False])
async def test_nothing_is_kept_of_those_who_left(answered: bool) -> None:
    """Members come and go; what is kept of each goes with it, also by an answer that is late."""
    store, clock = MemoryStore(), mock_clock()
    staying, leaving, _ = store.members
    cluster = ClusterState(store.members, clock=clock, active=staying)
    prober = Prober(store, cluster, probes=[Range(b"a")], slow_after=0.5)
    ticker = Ticker(clock.monotonic)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ticker.run)
        tasks.start_soon(Reconnector(store, cluster, prober=prober, ticker=ticker).run)
        store.delay = 0.8
        for lane in Lane:
            asked = prober.ask(tasks, leaving, lane)
        await anyio.sleep(1 if answered else 0.1)
        prober.renew_if_dead(leaving)
        cluster.leave(leaving)
        await anyio.sleep(3)
        assert asked.answer is Answer.OK
        assert leaving not in repr(
            (prober.answers.newest, prober.answers.late_at, prober._renewed_at, prober._foreign)
        )
        assert leaving not in cluster.errors
        tasks.cancel_scope.cancel()
