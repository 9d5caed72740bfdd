"""Calls under way, so that a member that falls silent costs each as little as possible, and a slow one nothing.

What tells a silent member from a slow one is a small question, not the large answer. When a call has not been
answered for a while, its member is asked for one key, over a connection that large answers do not use. As long as
it answers that, the call goes on: it is not given up, nor is anything asked for twice. If it does not, the call is
taken back; a read is then asked of the next member, and the outcome of a write is unknown.

A member that does not answer that at once is evidence as well, upon which the monitor asks around. When it
moves calls to another member, reads that still wait for the former one are taken back. Writes are not:
a member that was slow for a moment may yet answer.
"""

from __future__ import annotations

import heapq
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import anyio

from tideover.clock import Clock
from tideover.store.faults import UNANSWERED, Fault, StoreFault
from tideover.store.operations import Lane, Op, Result
from tideover.store.protocol import Store

# Seconds without an answer before a read's member is asked whether it lives, and a write's, for giving up on that
# leaves its outcome unknown; and within which the member must say so, and what the link takes. So an attempt at a
# silent member takes 0.8 s, for a write 2: a healthy read takes 5 ms at the 99th percentile.
READ_PATIENCE = 0.3
WRITE_PATIENCE = 1.5
ANSWER_WITHIN = 0.5
# Seconds without that answer that are evidence.
_EVIDENCE = 0.2
# Calls that wait for so many seconds less are looked at with those whose time has come.
_TOGETHER = 0.001

R = TypeVar("R", bound=Result)
StillAnswers = Callable[[str, Lane, float], Awaitable[bool]]


@dataclass(slots=True)
class _Asked:
    member: str
    lane: Lane
    writes: bool
    since: float


class InFlightReads:
    """The calls under way.

    `suspect` is called when a member does not answer at once; `limit` returns how long to wait for a small answer.
    """

    def __init__(self, clock: Clock, suspect: Callable[[], None], limit: Callable[[str, float], float]) -> None:
        self._clock = clock
        self._suspect = suspect
        self._limit = limit
        self._asked: dict[anyio.CancelScope, _Asked] = {}
        # When to look at each: also at those that have ended meanwhile.
        self._checks: list[tuple[float, int, anyio.CancelScope]] = []
        self._count = 0
        self._sooner = anyio.Event()

    @contextmanager
    def calling(
        self, member: str, lane: Lane, *, timeout: float, writes: bool = False
    ) -> Iterator[anyio.CancelScope]:
        """Enclose a call: its body is left when time is up, or when the member does not answer small questions."""
        with self._enclosed(member, lane, writes, timeout) as scope:
            try:
                yield scope
            finally:
                del self._asked[scope]

    async def attempt(self, store: Store, op: Op[R], member: str, timeout: float) -> R | Fault:
        """Ask one member once, as a call under way, and return the answer or the fault; see `calling`.

        The fault is `UNANSWERED` of a member that does not answer small questions either, and of a store that
        overstays its time.
        """
        scope = self._enclosed(member, op.lane, op.writes, timeout)
        try:
            with scope:
                return await store.call(op, member=member, timeout=timeout)
        except StoreFault as exc:
            return exc.fault
        finally:
            del self._asked[scope]
        return UNANSWERED

    def _enclosed(self, member: str, lane: Lane, writes: bool, timeout: float) -> anyio.CancelScope:
        scope = anyio.CancelScope(deadline=anyio.current_time() + timeout)
        now = self._clock.monotonic()
        self._asked[scope] = _Asked(member, lane, writes, now)
        self._check_at(scope, now + (WRITE_PATIENCE if writes else READ_PATIENCE))
        return scope

    def abandon(self, member: str) -> None:
        """Take back the reads that wait for a member."""
        for scope, asked in list(self._asked.items()):
            if asked.member == member and not asked.writes:
                scope.cancel()

    def _check_at(self, scope: anyio.CancelScope, at: float) -> None:
        first = not self._checks or at < self._checks[0][0]
        self._count += 1
        heapq.heappush(self._checks, (at, self._count, scope))
        if first:
            self._sooner.set()

    async def run(self, still_answers: StillAnswers) -> None:
        """Have members asked whose calls wait for too long, until cancelled."""
        async with anyio.create_task_group() as tasks:
            while True:
                sooner = self._sooner = anyio.Event()
                # Of many short calls only the present one is waited for, not those that have ended.
                while self._checks and self._checks[0][2] not in self._asked:
                    heapq.heappop(self._checks)
                left = self._checks[0][0] - self._clock.monotonic() if self._checks else None
                if left is None or left > _TOGETHER:
                    with anyio.move_on_after(left):
                        await sooner.wait()
                    continue
                for (member, lane), scopes in self._due().items():
                    tasks.start_soon(self._check, member, lane, scopes, still_answers)

    def _due(self) -> dict[tuple[str, Lane], list[anyio.CancelScope]]:
        """Remove and return the calls that are due for a look, by the member to ask."""
        due: dict[tuple[str, Lane], list[anyio.CancelScope]] = {}
        until = self._clock.monotonic() + _TOGETHER
        while self._checks and self._checks[0][0] <= until:
            scope = heapq.heappop(self._checks)[2]
            asked = self._asked.get(scope)
            if asked is None:
                continue
            # What takes the link longer than our patience is no reason to ask, and is not waited for twice.
            patient_until = asked.since + self._limit(asked.member, 0.0)
            if patient_until > until:
                self._check_at(scope, patient_until)
            else:
                due.setdefault((asked.member, asked.lane), []).append(scope)
        return due

    async def _check(
        self, member: str, lane: Lane, scopes: list[anyio.CancelScope], still_answers: StillAnswers
    ) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._suspect_soon, member)
            lives = await still_answers(member, lane, ANSWER_WITHIN)
            tasks.cancel_scope.cancel()
        now = self._clock.monotonic()
        for scope in scopes:
            asked = self._asked.get(scope)
            if asked is None:
                continue
            if lives:
                asked.since = now
                self._check_at(scope, now + (WRITE_PATIENCE if asked.writes else READ_PATIENCE))
            else:
                scope.cancel()

    async def _suspect_soon(self, member: str) -> None:
        await anyio.sleep(self._limit(member, _EVIDENCE))
        self._suspect()
