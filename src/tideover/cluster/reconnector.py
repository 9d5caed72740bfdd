"""What goes on beside the monitor's rounds: connections that break, and members that come back.

While all is well, the rounds ask the member in use alone. A member that does not answer is asked here, over a
fresh connection each time, so that it is of use within 2 s of its return: gRPC's own backoff takes up to 8 s.
"""

from __future__ import annotations

from functools import partial

import anyio
from anyio.abc import TaskGroup

from tideover.cluster.prober import Prober
from tideover.cluster.state import ClusterState
from tideover.store.operations import Lane
from tideover.store.protocol import Store
from tideover.ticker import Ticker

# Seconds between two questions to a member that does not answer, at the most, and how many fewer at the most.
_ASK_AGAIN = 1.2
_ASK_AGAIN_SLACK = 0.2
# At least between two reports of a connection that breaks.
_REPORT_INTERVAL = 0.1


class Reconnector:
    """Looks after the connections to all members, given and learned."""

    def __init__(self, store: Store, cluster: ClusterState, *, prober: Prober, ticker: Ticker) -> None:
        self._store = store
        self._cluster = cluster
        self._prober = prober
        self._ticker = ticker

    async def run(self) -> None:
        """Look after them until cancelled."""
        async with anyio.create_task_group() as tasks:
            tick = self._ticker.every(_ASK_AGAIN, partial(self._ask_again, tasks), slack=_ASK_AGAIN_SLACK)
            try:
                await self._observe_all(tasks)
            finally:
                tick.stop()

    def _ask_again(self, tasks: TaskGroup) -> None:
        # Otherwise the rounds ask everybody.
        if self._cluster.health.quorum.closed and not self._cluster.breakers.suspected:
            for member in self._cluster.members:
                if member not in self._cluster.well:
                    self._prober.ask_again(tasks, member)
                elif not self._cluster.measured(member):
                    # Its first answer tells how long connecting took: limits for a far member wait for a second.
                    self._prober.ask(tasks, member, Lane.MEMBER)

    async def _observe_all(self, tasks: TaskGroup) -> None:
        """Observe each member from the moment it joins until it leaves."""
        observed: dict[str, anyio.CancelScope] = {}
        while True:
            changed = self._cluster.roll.changed.next()
            members = self._cluster.members
            for member in set(observed).difference(members):
                observed.pop(member).cancel()
            self._prober.forget_who_left()
            for member in set(members).difference(observed):
                observed[member] = scope = anyio.CancelScope()
                tasks.start_soon(self._observe, member, scope)
            await changed.wait()

    async def _observe(self, member: str, scope: anyio.CancelScope) -> None:
        """Have a probe made at once when a connection breaks, to whichever member: the first sign of trouble.

        The member in use may well survive the loss of its quorum, so its own connection says nothing.
        """
        with scope:
            while True:
                await self._store.wait_disconnected(member)
                self._cluster.breakers.suspect()
                await anyio.sleep(_REPORT_INTERVAL)
