"""Where a coordinator lives: one event loop of one process, and what runs there in the background.

*One loop.* An event that is awaited in a second event loop binds itself to that one, and the coordinator's own
tasks fail when they wait for it next. So every public call that may wait asks `Home.check` first, and is refused
elsewhere.

*No end by accident.* What runs in the background is supervised: an unexpected error is one log line, a count and
another start with backoff, and never the end of the body of `async with connect(...)`. So is a cancellation that
nobody wants, such as that of an asyncio task that was awaited. Nobody else is handed the
coordinator's task group.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup

from tideover import telemetry
from tideover.body_scope import Cancellations
from tideover.errors import Closed
from tideover.event_loop import EventLoop

# Seconds before a task that failed is started again: the cap of the first wait, the longest, and the shortest.
_WAIT_INITIAL = 0.1
_WAIT_MAX = 30.0
_WAIT_MIN = 0.05
# A task that ran for so many seconds has recovered: its next failure is a first one.
_RECOVERED_AFTER = 60.0


class Home:
    """The event loop of one coordinator, and the tasks that run there.

    Args:
        chance: Draws a number uniformly from [0, 1).
        monotonic: The clock, in seconds.

    Attributes:
        loop: The event loop; none before the coordinator is entered.
        token: The same, as anyio tells loops apart; None before, and kept when it is closed.
        restarts: How often a background task was started again.
    """

    def __init__(self, *, chance: Callable[[], float], monotonic: Callable[[], float]) -> None:
        self.loop = EventLoop()
        self.token: object = None
        self.restarts = 0
        self._chance = chance
        self._monotonic = monotonic
        self._tasks: TaskGroup | None = None
        self._refusal: str | None = None

    def __repr__(self) -> str:
        """Say where it is, and count the restarts."""
        return f"<Home in {self.loop!r}, {self.restarts} restarts>"

    # One loop --------------------------------------------------------------------------------------------------

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

        Args:
            caller: What was called, for the message.

        Raises:
            WrongLoop: Another event loop runs here, or none.
            Closed: This is a forked child.
        """
        if self._refusal is not None:
            raise Closed(self._refusal)
        self.loop.check(caller)

    # No end by accident ----------------------------------------------------------------------------------------

    def start(self, name: str, task: Callable[..., Awaitable[object]], *args: Any) -> bool:
        """Run something in the background, to its end; again with backoff if it fails.

        Args:
            name: What the log calls it; the metric takes the first word.
            task: Begins afresh at each call.
            args: Its arguments.

        Returns:
            Whether that is still possible.
        """
        if self._tasks is None:
            return False
        self._tasks.start_soon(self._run, name, False, task, *args)
        return True

    async def run(self, name: str, task: Callable[[], Awaitable[object]]) -> None:
        """Run a task until cancelled; again with backoff if it fails, or ends.

        Args:
            name: What the log calls it; the metric takes the first word.
            task: Begins afresh at each call.
        """
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
