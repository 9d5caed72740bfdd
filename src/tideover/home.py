"""Where a coordinator lives: one event loop of one process, and what runs there in the background.

*One loop.* An event that is awaited in a second event loop binds itself to that one, set from another thread it
wakes no task, and the coordinator's own tasks fail when they wait for it next. So every public call that may wait
asks `Home.check` first, and is refused elsewhere. `EventLoop` tells the loop of something from the one that runs.

*No end by accident.* What runs in the background is supervised: an unexpected error is one log line, a count and
another start with backoff, and never the end of the body of `async with connect(...)`. So is a cancellation that
no caller wants, such as that of an asyncio task that was awaited. The coordinator's task group stays here.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, TypeVar

import anyio
import anyio.from_thread
import anyio.lowlevel
from anyio.abc import TaskGroup

from tideover import telemetry
from tideover.body_scope import Cancellations
from tideover.errors import Closed, WrongLoop

R = TypeVar("R")

# Seconds that another thread waits for an event loop: one that takes longer is blocked, or does not run any more.
_PATIENCE = 10.0
# Seconds before a task that failed is started again: the cap of the first wait, the longest, and the shortest.
_WAIT_INITIAL = 0.1
_WAIT_MAX = 30.0
_WAIT_MIN = 0.05
# A task that ran for so many seconds has recovered: its next failure is a first one.
_RECOVERED_AFTER = 60.0


class EventLoop:
    """One event loop, of asyncio or trio, or none yet."""

    __slots__ = ("_ident", "_loop", "_thread")

    def __init__(self) -> None:
        self._loop: Any = None
        self._thread = ""
        self._ident = 0

    def __repr__(self) -> str:
        return _describe(self._loop, self._thread)

    @classmethod
    def here(cls) -> EventLoop:
        """Return the one that runs here."""
        loop = cls()
        loop.enter()
        return loop

    def enter(self) -> None:
        """Be the one that runs here, if any does."""
        self._loop, self._thread = _running(), threading.current_thread().name
        self._ident = threading.get_ident()

    def leave(self) -> None:
        """Be none any more, so that nothing is refused."""
        self._loop = None

    @property
    def is_here(self) -> bool:
        """Whether it runs here."""
        return self._loop is not None and _running() is self._loop

    @property
    def is_in_this_thread(self) -> bool:
        """Whether it belongs to the thread that asks, running or not; or is none."""
        return self._loop is None or self._ident == threading.get_ident()

    @property
    def serves_this_thread(self) -> bool:
        """Whether this is one of its worker threads, such as a synchronous endpoint's, and not another loop's."""
        try:
            return anyio.from_thread.run_sync(lambda: self.is_here)
        except RuntimeError:  # of none
            return False

    def check(self, caller: object) -> None:
        """Return if the loop runs here, or there is none.

        Raises:
            WrongLoop: Another event loop runs here, or none.
        """
        if self._loop is not None and _running() is not self._loop:
            here = _describe(_running(), threading.current_thread().name)
            raise WrongLoop(
                f"{caller!r} is used in {here}, but its coordinator belongs to {self!r}. Call it there; from a "
                "worker thread of that loop, such as a synchronous endpoint's, with `anyio.from_thread.run(...)`; "
                "or connect() here"
            )

    def call(self, function: Callable[[], R], *, late: bool = False) -> R:
        """Call something in the loop from any thread, and return what comes of it.

        In the loop's own thread, and where there is no loop, that is a plain call: nothing else runs there now.

        Args:
            late: Whether the function is called all the same, later, when this has raised `TimeoutError`: for what
                undoes something. What begins something is not, because no caller would end it.

        Raises:
            TimeoutError: The event loop has not come to it within 10 s.
        """
        if self.is_in_this_thread:
            return function()
        answer: Future[R] = Future()

        def there() -> None:
            if not late and not answer.set_running_or_notify_cancel():
                return
            try:
                answer.set_result(function())
            except Exception as exc:  # noqa: BLE001  # raised in the thread that waits
                answer.set_exception(exc)

        self.soon(there)
        try:
            return answer.result(_PATIENCE)
        except TimeoutError:
            # It may have begun, or be done, at this very moment.
            if not answer.done() and (late or answer.cancel()):
                raise TimeoutError(f"{self!r} is blocked or has ended: no answer in {_PATIENCE:.0f} s") from None
            return answer.result()

    def later(self, call: Callable[[], object]) -> None:
        """Call something in the next round of the loop, which runs here: while the task that asks waits."""
        if self._loop is None:
            call()
        else:
            (getattr(self._loop, "call_soon", None) or self._loop.run_sync_soon)(call)

    def soon(self, call: Callable[..., object], *args: Any) -> None:
        """Call something in the loop: now if it runs here, or there is none, else as soon as it can.

        For what any thread may find out, and only the event loop may act upon; not at all if the loop has ended.
        """
        if self._loop is None or _running() is self._loop:
            call(*args)
            return
        later = getattr(self._loop, "call_soon_threadsafe", None) or self._loop.run_sync_soon
        with suppress(RuntimeError):  # it has ended; trio's error for that derives from this one, too
            later(call, *args)


class Home:
    """The event loop of one coordinator, and the tasks that run there.

    Attributes:
        token: The same, as anyio tells loops apart; None before, and kept when it is closed.
    """

    def __init__(self, *, chance: Callable[[], float], monotonic: Callable[[], float]) -> None:
        self.loop = EventLoop()
        self.token: object = None
        self.restarts = 0
        self._chance = chance
        self._monotonic = monotonic
        self._tasks: TaskGroup | None = None
        self._refusal: str | None = None

    def enter(self) -> None:
        """Live in the event loop that runs here."""
        self.token = anyio.lowlevel.current_token()
        self.loop.enter()

    def open(self, tasks: TaskGroup) -> None:
        """Run what is started from now on in a task group."""
        self._tasks = tasks

    def close(self) -> None:
        """Start nothing any more."""
        self._tasks = None

    def poison(self, why: str) -> None:
        """Refuse everything: this is a forked child."""
        self._refusal = why
        self._tasks = None

    def check(self, caller: object) -> None:
        """Return if the coordinator's event loop runs here, or the coordinator has none.

        Raises:
            WrongLoop: Another event loop runs here, or none.
            Closed: This is a forked child.
        """
        if self._refusal is not None:
            raise Closed(self._refusal)
        self.loop.check(caller)

    def start(self, name: str, task: Callable[..., Awaitable[object]], *args: Any) -> bool:
        """Run something in the background, to its end; again with backoff if it fails.

        Returns:
            Whether that is still possible.
        """
        if self._tasks is None:
            return False
        self._tasks.start_soon(self._run, name, False, task, *args)
        return True

    async def run(self, name: str, task: Callable[[], Awaitable[object]]) -> None:
        """Run a task until cancelled; again with backoff if it fails, or ends."""
        await self._run(name, True, task)

    async def _run(self, name: str, endless: bool, task: Callable[..., Awaitable[object]], *args: Any) -> None:
        telemetry.leave_span()
        failures = 0
        while True:
            began = self._monotonic()
            error: BaseException | None = None
            cancellations = Cancellations()
            try:
                await task(*args)
            except BaseException as exc:  # told below: this is the last line of defence
                if cancellations.explain(exc):
                    raise
                error = exc
            else:
                if not endless:
                    return
            self.restarts += 1
            telemetry.task_failed(name, error)
            failures = 1 if self._monotonic() - began > _RECOVERED_AFTER else failures + 1
            cap = min(_WAIT_MAX, _WAIT_INITIAL * 2.0 ** min(failures - 1, 20))
            await anyio.sleep(max(_WAIT_MIN, self._chance() * cap))


def _running() -> object:
    """Return the event loop that runs here; None if none does."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        pass
    try:
        # trio's; asyncio's has been looked for, also where it runs a callback and no task.
        return anyio.lowlevel.current_token().native_token
    except RuntimeError:
        return None


def _describe(loop: object, thread: str) -> str:
    if loop is None:
        return f"thread {thread!r}, where no event loop runs"
    return f"event loop {type(loop).__name__} at {id(loop):#x} of thread {thread!r}"
