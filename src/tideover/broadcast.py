"""An announcement that no waiter misses."""

from __future__ import annotations

from collections.abc import Iterable

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


async def first_of(events: Iterable[anyio.Event]) -> None:
    """Wait until any of some events is set."""
    async with anyio.create_task_group() as tasks:

        async def wait_for(event: anyio.Event) -> None:
            await event.wait()
            tasks.cancel_scope.cancel()

        for event in events:
            tasks.start_soon(wait_for, event)
