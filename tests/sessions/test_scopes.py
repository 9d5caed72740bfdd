"""Bodies that rely on one session: thousands of them cost no more than they must."""

from __future__ import annotations

from typing import cast

import anyio
import pytest
import trio

from tests.sessions.test_lease import GRANT, tenure
from tideover.sessions.keys import Holdings
from tideover.sessions.scopes import Bodies

pytestmark = pytest.mark.anyio


class Scope:
    """Counts how often its deadline is set, each of which costs an event loop a timer."""

    def __init__(self) -> None:
        self.set: list[float] = []

    deadline = property(None, lambda self, at: self.set.append(at))


async def test_a_bodys_timer_is_moved_by_renewals_alone() -> None:
    """Of a thousand bodies each has its timer set once as it comes, and once with each proven renewal."""
    lease = tenure()
    bodies = Bodies(lease, cast("Holdings", ()))
    scopes = [Scope() for _ in range(1000)]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bodies.run)
        for scope in scopes:
            bodies.bind(cast("anyio.CancelScope", scope), at_deadline=True)
            await anyio.sleep(0.001)
        assert all(1 <= len(scope.set) <= 2 for scope in scopes)
        before = [len(scope.set) for scope in scopes]
        lease.prove(trio.current_time(), 15, GRANT)
        await anyio.sleep(0.5)
        assert [len(scope.set) for scope in scopes] == [count + 1 for count in before]
        assert scopes[0].set[-1] > scopes[0].set[0]
        tasks.cancel_scope.cancel()
