"""Announcements that no waiter misses: `Broadcast`, again and again, and `Ending`, once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable

import anyio
import anyio.lowlevel

from tideover.home import EventLoop


class Broadcast:
    """Something changed; look again. Fired in any thread, awaited in one event loop.

    The event is replaced when it fires. A waiter takes the event first and looks at the state second, so that a
    change between the two is not lost.
    """

    def __init__(self) -> None:
        self._event: anyio.Event | None = None
        self._loop = EventLoop()
        self._joined: tuple[Broadcast, ...] = ()

    def fire(self) -> None:
        """Wake all who wait."""
        event, self._event = self._event, None
        if event is not None:
            self._loop.soon(event.set)
        for every in self._joined:
            every.fire()

    def join(self, every: Broadcast) -> None:
        """Fire another broadcast as well from now on: one task then waits for many, without a task for each."""
        if every not in self._joined:
            self._joined = (*self._joined, every)

    def next(self) -> anyio.Event:
        """Return the event that the next `fire` sets."""
        # What outlives its event loop, such as a store of tests, is awaited in the next one.
        if self._event is None or not self._loop.is_here:
            self._event = anyio.Event()
            self._loop.enter()
        return self._event

    async def wait(self, timeout: float | None = None) -> bool:
        """Wait for the next `fire`.

        Returns:
            Whether it fired.
        """
        event = self.next()
        with anyio.move_on_after(timeout):
            await event.wait()
        return event.is_set()


class Ending:
    """The end of something that many wait for in one event loop: on asyncio a future each, and nothing besides.

    An `anyio.Event` does the same, at several times the price for each waiter.
    """

    __slots__ = ("_event", "_loop", "_waiters", "has_come")

    def __init__(self) -> None:
        self.has_come = False
        self._waiters: list[asyncio.Future[None]] = []
        self._event: anyio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        try:
            self._loop = asyncio.get_running_loop()
        except RuntimeError:  # trio's
            self._event = anyio.Event()

    def awaited(self) -> Awaitable[None]:
        """Return what one waiter awaits, at once."""
        if self._loop is None:
            assert self._event is not None
            return self._event.wait()
        waiter = self._loop.create_future()
        if self.has_come:
            waiter.set_result(None)
        else:
            self._waiters.append(waiter)
        return waiter

    def come(self) -> None:
        """Wake all who wait, and let later ones through."""
        self.has_come = True
        if self._event is not None:
            self._event.set()
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()


async def first_of(events: Iterable[anyio.Event]) -> None:
    """Wait until any of some events is set."""
    async with anyio.create_task_group() as tasks:

        async def wait_for(event: anyio.Event) -> None:
            await event.wait()
            tasks.cancel_scope.cancel()

        for event in events:
            tasks.start_soon(wait_for, event)
