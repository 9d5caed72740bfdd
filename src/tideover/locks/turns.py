"""The turn: one coroutine at a time of those in this process who want one name with one ttl, in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import anyio

from tideover.locks.options import LockOptions


class _Waiter:
    """One in the line.

    Attributes:
        event: Set when there is news.
        has_turn: Whether it is its turn; else it is to look at what has become of etcd.
    """

    __slots__ = ("event", "has_turn", "wish")

    def __init__(self, wish: LockOptions) -> None:
        self.wish = wish
        self.event = anyio.Event()
        self.has_turn = False


class TurnQueue:
    """Those who wait for their turn.

    Attributes:
        turn: Whether somebody has it.
    """

    def __init__(self) -> None:
        self.turn = False
        self._waiters: deque[_Waiter] = deque()

    def __repr__(self) -> str:
        """Count them."""
        return f"<TurnQueue of {len(self._waiters)}>"

    def __len__(self) -> int:
        """How many wait."""
        return len(self._waiters)

    @property
    def next_wish(self) -> LockOptions | None:
        """What the next one wants; None if nobody waits."""
        return self._waiters[0].wish if self._waiters else None

    async def wait(self, wish: LockOptions, *, given_up: Callable[[], object]) -> bool:
        """Wait for the turn.

        Args:
            wish: What is wanted.
            given_up: Called if the turn comes in the tick in which the waiter is cancelled: passes it on.

        Returns:
            Whether the turn has come; if not, there is news about etcd to be looked at.
        """
        waiter = _Waiter(wish)
        self._waiters.append(waiter)
        try:
            await waiter.event.wait()
        except BaseException:
            if waiter.has_turn:
                given_up()
            elif waiter in self._waiters:
                self._waiters.remove(waiter)
            raise
        return waiter.has_turn

    def pass_on(self) -> None:
        """Give the turn to the next one."""
        self.turn = bool(self._waiters)
        if self._waiters:
            waiter = self._waiters.popleft()
            waiter.has_turn = True
            waiter.event.set()

    def wake(self, whom: Callable[[LockOptions], bool]) -> None:
        """Let those look at the news whose wish says so; they leave the line."""
        for waiter in [waiter for waiter in self._waiters if whom(waiter.wish)]:
            self._waiters.remove(waiter)
            waiter.event.set()
