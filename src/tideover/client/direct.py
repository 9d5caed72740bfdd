"""Calls that must not wait for a verdict on the cluster: past the breaker, from member to member.

A breaker around the calls that keep a lease alive would cause the very loss it is meant to make cheap, so proofs,
releases and revokes go to the members directly. They are few: sessions are shared.
"""

from __future__ import annotations

import copy
from typing import TypeVar

import anyio

from tideover.client.lifecycle import NOT_ENTERED
from tideover.cluster.state import ClusterState
from tideover.errors import Closed
from tideover.store.attempts import attempt
from tideover.store.faults import Fault, StoreFault
from tideover.store.operations import Lane, Op, Result
from tideover.store.protocol import Store

R = TypeVar("R", bound=Result)

# Seconds for one attempt, and what the link takes, unless its caller says otherwise.
ATTEMPT_TIMEOUT = 1.0
# Seconds at the most to wait for the monitor to decide, where nothing depends on it.
_VERDICT = 5.0


class DirectCalls:
    """Asks member after member until one answers."""

    def __init__(self, cluster: ClusterState) -> None:
        self._store: Store | None = None
        self._cluster = cluster
        self._clock = cluster.clock
        self._attempt_timeout = ATTEMPT_TIMEOUT

    def connect(self, store: Store) -> None:
        """Send calls to a cluster from now on."""
        self._store = store

    @property
    def store(self) -> Store:
        """The cluster. Raises `Closed`: there is none yet."""
        if self._store is None:
            raise Closed(NOT_ENTERED)
        return self._store

    def within(self, attempt_timeout: float) -> DirectCalls:
        """Return the same way with so many seconds for each attempt, and what the link takes."""
        other = copy.copy(self)
        other._attempt_timeout = attempt_timeout
        return other

    async def ask(self, op: Op[R], *, timeout: float) -> R:
        """Ask until there is an answer, for `timeout` seconds; only for what may be done twice.

        Raises `StoreFault` where there was none, or it was a definite no.
        """
        deadline = self._clock.monotonic() + timeout
        tried: set[str] = set()
        while True:
            member = self._cluster.pick(Lane.QUORUM, tried)
            left = deadline - self._clock.monotonic()
            answer = await self.attempt(op, member, min(left, self.limit(member, self._attempt_timeout)))
            if not isinstance(answer, Fault):
                return answer
            if not (answer.outage or answer.retry_read):
                raise StoreFault(answer)
            tried.add(member)
            with anyio.move_on_after(deadline - self._clock.monotonic()):
                await self.back_off(tried)
            if self._clock.monotonic() >= deadline:
                raise StoreFault(answer)

    async def attempt(self, op: Op[R], member: str, timeout: float) -> R | Fault:
        """Ask one member once; return its answer, or what went wrong."""
        answer = await attempt(self.store, op, member=member, timeout=timeout)
        if isinstance(answer, Fault):
            self._cluster.failed(answer)
        return answer

    def limit(self, member: str, least: float) -> float:
        """Return how long to wait for a member's answer; see `ClusterState.limit`."""
        return self._cluster.limit(member, least)

    def pick(self, tried: set[str]) -> str:
        """Return the member to ask next."""
        return self._cluster.pick(Lane.QUORUM, tried)

    def may_ask(self, member: str) -> bool:
        """Whether a member is one of the cluster's, and is not known to leave questions unanswered."""
        return member in self._cluster.members and self._cluster.answers(member) is not False

    async def back_off(
        self, tried: set[str], *, factor: float = 1.0, rounds: int = 0, everybody: bool = False
    ) -> None:
        """Go on at once while there are members left, else later with all of them; see `Breakers.back_off`."""
        await self._cluster.breakers.back_off(tried, factor=factor, rounds=rounds, everybody=everybody)

    async def settled(self) -> None:
        """Wait until the monitor has decided on what it suspects; for a while at the most."""
        await self._cluster.breakers.settled(_VERDICT)

    async def outage_over(self) -> None:
        """Wait until no outage of the quorum is declared."""
        await self._cluster.breakers.outage_over()

    def report(self, fault: Fault) -> None:
        """Tell the monitor what went wrong."""
        self._cluster.failed(fault)
