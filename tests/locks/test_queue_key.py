"""A place in the line: whoever has it is told when it is not to be believed in any more."""

from __future__ import annotations

import anyio
import pytest

from tests.locks.support import heal, lose_all
from tests.support import connected
from tideover.locks.queue_key import QueueKey
from tideover.testing import MemoryStore

pytestmark = pytest.mark.anyio


class Body:
    """Counts how often it was told to look."""

    looks = 0

    def assess(self) -> None:
        """Look."""
        self.looks += 1


async def test_each_holder_is_told_also_after_a_doubt_between_two() -> None:
    """The session was in doubt while nobody held the lock: the next holder is told of a loss all the same."""
    store = MemoryStore()
    async with connected(store) as tide, anyio.create_task_group() as tasks:
        session = await tide._parts.sessions.shared(15)
        place = QueueKey(await session.put("locks/orders/1"), session, now=anyio.current_time)
        begun: list[object] = []

        def start(task: object) -> None:
            begun.append(task)
            tasks.start_soon(task)  # type: ignore[arg-type]

        place.keep(start)
        place.keep(start)
        assert len(begun) == 1
        lose_all(store)
        await anyio.sleep_until(session.deadline + 1)
        heal(store)
        await anyio.sleep(10)
        assert place.loss() is None
        body = place.holder = Body()
        place.keep(start)
        await anyio.sleep(1)
        assert body.looks == 0
        store.revoke(session.lease_id)
        await anyio.sleep(1)
        assert body.looks == 1
