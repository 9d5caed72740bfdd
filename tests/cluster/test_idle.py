"""What an idle coordinator costs: all its looks at the clock share one wake-up a second."""

from __future__ import annotations

import anyio
import pytest

from tests.support import connected
from tideover.testing import MemoryStore
from tideover.ticker import Tick, Ticker

pytestmark = pytest.mark.anyio

SECONDS = 60


async def test_an_idle_coordinator_looks_at_the_clock_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    """Watches, members and connections are looked at together, each about once a second: no look wakes alone."""
    taken: list[list[Tick]] = []
    due = Ticker._due

    def counted(ticker: Ticker) -> list[Tick]:
        found = due(ticker)
        taken.extend([found] if found else [])
        return found

    monkeypatch.setattr(Ticker, "_due", counted)
    async with connected(MemoryStore(), follow=["config/"]):
        await anyio.sleep(5)
        taken.clear()
        await anyio.sleep(SECONDS)
        wakeups = len(taken)
    assert wakeups <= SECONDS + 1
    assert sum(map(len, taken)) >= 3 * (SECONDS - 1)
