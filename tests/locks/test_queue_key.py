"""A key in etcd's queue: its holder looks when the key may not be relied upon."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
import pytest

from tests.locks.support import heal, lose_all
from tests.support import connected
from tideover.locks.cohort import Cohort
from tideover.locks.grant import Grant
from tideover.locks.options import lock_options
from tideover.locks.queue_key import QueueKey
from tideover.testing import MemoryStore

pytestmark = pytest.mark.anyio


class Counted(Grant):
    """Counts how often it looked."""

    looks = 0

    def assess(self) -> None:
        """Look."""
        self.looks += 1


async def test_each_holder_is_told_also_after_a_doubt_between_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """The session was in doubt while nobody held the lock: the next holder is told of a loss all the same."""
    store = MemoryStore()
    async with connected(store) as tide:
        session = await tide._parts.sessions.shared(15)
        place = QueueKey(await session.put("locks/orders/1"), session, now=anyio.current_time)
        cohort = Cohort("orders", 15, tide._parts.locks.context, forget=lambda: None)
        options = lock_options(ttl=15, timeout=None, on_outage="fail", handover=True, lock_delay=0.0)
        begun: list[str] = []
        start = tide._parts.client.home.start

        def noted(name: str, task: Callable[..., Awaitable[object]], *args: object) -> bool:
            begun.append(name)
            return start(name, task, *args)

        monkeypatch.setattr(tide._parts.client.home, "start", noted)
        other = QueueKey(await session.put("locks/others/1"), session, now=anyio.current_time)
        cohort.front.watch(place)
        cohort.front.watch(place)
        cohort.front.watch(other)
        assert begun == ["lock: watchdog"]
        lose_all(store)
        await anyio.sleep_until(session.deadline + 1)
        heal(store)
        await anyio.sleep(10)
        assert place.loss() is None
        body = Counted("orders", options, tide._parts.locks.context, place)
        cohort.front.watch(place)
        await anyio.sleep(1)
        assert body.looks == 0
        store.revoke(session.lease_id)
        await anyio.sleep(1)
        assert body.looks == 1
