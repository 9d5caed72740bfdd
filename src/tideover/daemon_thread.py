"""A thread that the process does not wait for at its end: for what blocks and may hang."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

import anyio.to_thread

T = TypeVar("T")


async def in_daemon_thread(function: Callable[[], T], *, name: str) -> T:
    """Return what a function returns that may block.

    It runs in a thread of its own: one that hangs keeps neither the event loop nor the end of the process, as a
    thread of a pool would, nor does it take a place in the pool. Cancelling leaves the thread alone.
    """
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        # On trio, all of whose threads are such.
        return await anyio.to_thread.run_sync(function, abandon_on_cancel=True)
    ended: asyncio.Future[T] = loop.create_future()
    context = contextvars.copy_context()

    def finish(result: T | None, error: BaseException | None) -> None:
        if ended.done():
            return
        if error is not None:
            ended.set_exception(error)
        else:
            ended.set_result(result)  # type: ignore[arg-type] # there is one if there is no error

    def run() -> None:
        result: T | None = None
        error: BaseException | None = None
        try:
            result = context.run(function)
        except StopIteration as exc:
            error = RuntimeError(f"{type(exc).__name__} raised")  # a future refuses it
        except BaseException as exc:  # noqa: BLE001  # handed to the task that waits
            error = exc
        with suppress(RuntimeError):  # the loop was closed meanwhile
            loop.call_soon_threadsafe(finish, result, error)

    threading.Thread(target=run, name=name, daemon=True).start()
    return await ended
