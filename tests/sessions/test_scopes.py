"""Bodies that rely on one session: thousands of them cost no more than they must."""

from __future__ import annotations

from typing import cast

import anyio
import pytest
import trio

from tests.sessions.test_lease import GRANT, tenure
from tests.support import mock_clock
from tideover.sessions.keys import SessionKeys
from tideover.sessions.lookout import Lookout
from tideover.sessions.scopes import BoundScopes
from tideover.ticker import Ticker

pytestmark = pytest.mark.anyio


class Scope:
    """Counts how often its deadline is set, each of which costs an event loop a timer."""

    def __init__(self) -> None:
        self.set: list[float] = []

    deadline = property(None, lambda self, at: self.set.append(at))

    def cancel(self) -> None:
        pass


async def test_a_bodys_timer_is_set_when_its_deadline_is_near() -> None:
    """Of a thousand bodies none has a timer while renewals are proven, and each has one in the last second."""
    lease = tenure()
    lookout = Lookout(ticker := Ticker(mock_clock().monotonic), mock_clock())
    bodies = BoundScopes(lease, cast("SessionKeys", ()), lookout=lookout)
    bodies.start()
    scopes = [Scope() for _ in range(1000)]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ticker.run)
        for scope in scopes:
            bodies.bind(cast("anyio.CancelScope", scope), at_deadline=True)
        for _ in range(3):
            await anyio.sleep(5)
            lease.prove(trio.current_time(), 15, GRANT)
        assert not any(scope.set for scope in scopes)
        await anyio.sleep(12.7)
        assert all(scope.set == [pytest.approx(lease.deadline, abs=0.01)] for scope in scopes)
        lease.prove(trio.current_time(), 15, GRANT)
        await anyio.sleep(0.1)
        assert all(scope.set[1:] == [float("inf")] for scope in scopes)
        tasks.cancel_scope.cancel()


async def test_bodies_end_before_what_their_end_brings() -> None:
    """When the deadlines of many sessions have passed at one moment, all bodies are cancelled before the first
    session gives notice of its loss; those that end with the loss alone are cancelled after that."""
    lookout = Lookout(ticker := Ticker(mock_clock().monotonic), mock_clock())
    happened: list[str] = []

    class Body:
        deadline = property(None, lambda self, at: None)

        def __init__(self, what: str) -> None:
            self.what = what

        def cancel(self) -> None:
            happened.append(self.what)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ticker.run)
        for _ in range(50):
            lease = tenure(strict=True)
            lease.lost.then(lambda: happened.append("notice"))
            bodies = BoundScopes(lease, cast("SessionKeys", ()), lookout=lookout)
            bodies.start()
            bodies.bind(cast("anyio.CancelScope", Body("at the deadline")), at_deadline=True)
            bodies.bind(cast("anyio.CancelScope", Body("with the loss")), at_deadline=False)
        await anyio.sleep(lease.left + 0.3)
        tasks.cancel_scope.cancel()
    assert happened[:50] == ["at the deadline"] * 50
    assert sorted(happened[50:]) == ["notice"] * 50 + ["with the loss"] * 50
