"""One task that looks at the clock for all."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise

import anyio
import anyio.lowlevel
import pytest

from tests.support import mock_backend as anyio_backend
from tests.support import mock_clock
from tideover.ticker import Ticker

__all__ = ["anyio_backend"]
pytestmark = pytest.mark.anyio


@asynccontextmanager
async def running() -> AsyncIterator[Ticker]:
    """Run a ticker for the length of a block."""
    ticker = Ticker(mock_clock().monotonic)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ticker.run)
        await anyio.lowlevel.checkpoint()
        yield ticker
        tasks.cancel_scope.cancel()


async def test_looks_that_are_due_together_take_one_wake_up() -> None:
    """A hundred looks of one period, begun within a tenth of a second, are taken at the same moments."""
    async with running() as ticker:
        moments: set[float] = set()
        for _ in range(100):
            ticker.every(0.5, lambda: moments.add(round(anyio.current_time(), 6)))
            await anyio.sleep(0.0009)
        await anyio.sleep(10)
    assert len(moments) <= 21


async def test_a_period_is_never_exceeded() -> None:
    """Between two looks lies at the most one period, and at the least a tenth of a second less."""
    async with running() as ticker:
        await anyio.sleep(0.033)
        taken: list[float] = [anyio.current_time()]
        ticker.every(0.7, lambda: taken.append(anyio.current_time()))
        await anyio.sleep(30)
    gaps = [later - earlier for earlier, later in pairwise(taken)]
    assert len(gaps) >= 42
    assert max(gaps) <= 0.7 + 1e-6
    assert min(gaps) >= 0.6 - 1e-6


async def test_a_look_that_fails_stops_no_other() -> None:
    """A look that raises is told and taken again, and so are the others."""
    async with running() as ticker:
        taken: list[str] = []

        def fail() -> None:
            taken.append("failed")
            raise RuntimeError("broken")

        ticker.every(0.1, fail)
        ticker.every(0.1, lambda: taken.append("well"))
        await anyio.sleep(0.55)
    assert taken.count("failed") == taken.count("well") == 5


async def test_a_shorter_period_counts_at_once_and_none_is_endless() -> None:
    """A period that is set to less is kept from then on; infinity takes no look; `soon` takes one now."""
    async with running() as ticker:
        taken: list[float] = []
        tick = ticker.every(60.0, lambda: taken.append(anyio.current_time()))
        await anyio.sleep(1)
        tick.period = 0.2
        await anyio.sleep(1.01)
        assert len(taken) == 5
        tick.period = float("inf")
        await anyio.sleep(100)
        assert len(taken) == 5
        tick.soon()
        await anyio.lowlevel.checkpoint()
        await anyio.lowlevel.checkpoint()
        assert len(taken) == 6
        tick.stop()
        tick.soon()
        await anyio.sleep(10)
        assert len(taken) == 6


async def test_who_has_slack_is_looked_at_with_others() -> None:
    """A look with slack is taken at others' wake-ups, never later than its period nor sooner than its slack."""
    async with running() as ticker:
        wakes: list[float] = []
        taken: list[float] = []
        ticker.every(0.4, lambda: wakes.append(round(anyio.current_time(), 6)))
        await anyio.sleep(0.11)
        ticker.every(1.0, lambda: taken.append(round(anyio.current_time(), 6)), slack=0.25)
        await anyio.sleep(30)
    gaps = [later - earlier for earlier, later in pairwise(taken)]
    assert set(taken[2:]) <= set(wakes)
    assert min(gaps) >= 0.65
    assert max(gaps) <= 1.0 + 1e-6


async def test_slack_alone_wakes_nobody() -> None:
    """A look that may be taken sooner is not, where nobody else is looked at."""
    async with running() as ticker:
        taken: list[float] = []
        ticker.every(1.0, lambda: taken.append(anyio.current_time()), slack=0.5)
        await anyio.sleep(10.05)
    assert 10 <= len(taken) <= 11
