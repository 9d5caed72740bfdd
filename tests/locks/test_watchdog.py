"""Holders are told that their session may not be relied upon: on every event loop, and however short the doubt."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import trio

from tests.locks.support import lose_all
from tests.support import connected
from tideover import Coordinator, LockLost
from tideover.clock import Clock
from tideover.locks.watchdog import Watchdog
from tideover.options import Options
from tideover.testing import MemoryStore


def _on_trio(made: Coroutine[Any, Any, None]) -> None:
    async def run() -> None:
        await made

    trio.run(run)


# Not `anyio.run`, which lets tasks be started anywhere.
@pytest.mark.parametrize("run", [asyncio.run, _on_trio], ids=["asyncio", "trio"])
def test_a_hold_ends_at_the_deadline_on_each_event_loop(
    run: Callable[[Coroutine[Any, Any, None]], None], caplog: pytest.LogCaptureFixture
) -> None:
    """The first hold of a session is watched on asyncio as on trio, and no callback of the loop fails."""
    ahead = 0.0

    async def hold() -> None:
        nonlocal ahead
        store = MemoryStore()
        options = Options(endpoints=tuple(store.members), cache_dir=False, follow=())
        clock = Clock(boot=lambda: time.monotonic() + ahead)
        async with Coordinator(options, store=store, clock=clock) as tide:
            with anyio.fail_after(5):
                async with tide.lock("orders"):
                    for _ in range(5):
                        await anyio.lowlevel.checkpoint()
                    lose_all(store)
                    ahead = 60.0
                    await anyio.Event().wait()

    with pytest.raises(LockLost):
        run(hold())
    assert [r.getMessage() for r in caplog.records if r.name == "asyncio" and r.levelno >= logging.ERROR] == []


@pytest.mark.anyio
async def test_a_hold_begun_between_two_doubts_is_told() -> None:
    """A session is proven, relied upon again and past its deadline again before the watchdog has had a turn."""
    asleep = 0.0
    store = MemoryStore()
    async with connected(store) as tide:
        dog = Watchdog(tide._parts.client.home)
        session = await tide._parts.sessions.shared(15)
        tenure: Any = session.tenure
        base, told = tenure._clock, []
        tenure._clock = Clock(boot=lambda: base.boot() + asleep)
        dog.watch(session, lambda: told.append("old"))
        await anyio.sleep(1)
        lose_all(store)
        await anyio.sleep_until(session.deadline + 1)
        assert set(told) == {"old"}
        tenure.prove(tenure._clock.boot(), 15, tenure.known)
        assert session.loss() is None
        dog.watch(session, lambda: told.append("new"))
        asleep = 20.0
        await anyio.sleep(1)
        assert session.loss() is not None
        assert "new" in told
