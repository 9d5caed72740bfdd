"""A task group that may be opened in one task and closed in another.

A task group belongs to the task that has entered it. What is opened by a fixture, by one cell of a notebook or
within `asyncio.wait_for` is closed by another task, so the group lives in a task of its own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import anyio
from anyio.abc import TaskGroup

from tideover.body_scope import Cancellations, running_task


class OwnerTask:
    """Owns a task group: `open`, then `aclose`, each once and in any task.

    What fails in the group is raised by `aclose`, and until then it cancels nothing but the group.
    """

    def __init__(self) -> None:
        self._opened = anyio.Event()
        self._unwanted = anyio.Event()
        self._done = anyio.Event()
        self._error: BaseException | None = None
        self._group: TaskGroup | None = None
        # The event loop holds tasks weakly.
        self._task: object = None

    async def open(self) -> TaskGroup:
        """Return the task group, ready for tasks."""
        self._task = _spawn(self._own)
        try:
            await self._opened.wait()
        except BaseException:
            await self.aclose()
            raise
        assert self._group is not None
        return self._group

    async def aclose(self) -> None:
        """Cancel what runs in the group, and wait until it has ended, whatever is being cancelled around."""
        self._unwanted.set()
        cancelled: BaseException | None = None
        with anyio.CancelScope(shield=True):
            while not self._done.is_set():
                try:
                    await self._done.wait()
                except anyio.get_cancelled_exc_class() as exc:
                    cancelled = exc  # by asyncio itself, which no scope keeps off
        error, self._error = self._error, None
        if error is not None or cancelled is not None:
            raise error or cancelled  # type: ignore[misc]

    async def _own(self) -> None:
        cancellations = Cancellations()
        try:
            async with anyio.create_task_group() as self._group:
                self._opened.set()
                await self._unwanted.wait()
                self._group.cancel_scope.cancel()
        except BaseException as exc:
            if cancellations.explain(exc):
                raise
            self._error = exc  # raised where the group is closed
        finally:
            self._opened.set()
            self._done.set()


def _spawn(run: Callable[[], Coroutine[Any, Any, None]]) -> object:
    """Start a task that belongs to no scope."""
    if running_task() is not None:
        return asyncio.get_running_loop().create_task(run(), name="tideover")
    import trio  # only where it runs already

    return trio.lowlevel.spawn_system_task(run, name="tideover")
