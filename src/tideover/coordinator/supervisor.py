"""Background tasks that an unexpected error does not end."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import anyio

from tideover.client.rules.backoff import delay_cap
from tideover.policies import RetryPolicy

_log = logging.getLogger("tideover")

_BACKOFF = RetryPolicy(attempts=1, wait_initial=0.1, wait_max=30.0)
# A task that ran for so many seconds has recovered: its next failure is a first one.
_RECOVERED_AFTER = 60.0


class Supervisor:
    """Runs tasks for ever: an unexpected error is one log line, a count, and a restart with backoff.

    Args:
        chance: Draws a number uniformly from [0, 1).
        monotonic: The clock, in seconds.

    Attributes:
        restarts: How often a task was started again.
    """

    def __init__(self, *, chance: Callable[[], float], monotonic: Callable[[], float]) -> None:
        self.restarts = 0
        self._chance = chance
        self._monotonic = monotonic

    def __repr__(self) -> str:
        """Count the restarts."""
        return f"<Supervisor {self.restarts} restarts>"

    async def run(self, name: str, task: Callable[[], Awaitable[object]]) -> None:
        """Run a task until cancelled.

        Args:
            name: What the log calls it.
            task: Starts it anew at each call.
        """
        failures = 0
        while True:
            began = self._monotonic()
            try:
                await task()
            except Exception:  # noqa: BLE001  # logged with its traceback: this is the last line of defence
                _log.exception("tideover: background task %r failed unexpectedly and is started again", name)
            else:
                _log.error("tideover: background task %r ended unexpectedly and is started again", name)
            self.restarts += 1
            failures = 1 if self._monotonic() - began > _RECOVERED_AFTER else failures + 1
            await anyio.sleep(max(0.05, self._chance() * delay_cap(_BACKOFF, failures)))
