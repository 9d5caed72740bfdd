"""Calls under way, so that a member that falls silent costs each as little as possible, and a slow one nothing.

What tells a silent member from a slow one is a small question, not the large answer. When a call has not been
answered for a while, its member is asked for one key, over a connection that large answers do not use. As long as
it answers that, the call goes on: it is not given up, nor is anything asked for twice. If it does not, the call is
taken back; a read is then asked of the next member, and the outcome of a write is unknown.

A member that does not answer that at once is evidence as well, upon which the monitor asks around. When it finds
that another member is to be used, reads that still wait for the former one are taken back. Writes are not: a
member that was slow for a moment may yet answer.
"""

from __future__ import annotations

import heapq
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import anyio

from tideover.broadcast import Broadcast
from tideover.clock import Clock
from tideover.store.operations import Lane

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

StillAnswers = Callable[[str, Lane, float], Awaitable[bool]]


@dataclass(slots=True)
class _Asked:
    member: str
    lane: Lane
    writes: bool


class InFlightReads:
    """The calls under way.

    Args:
        clock: The clocks.
        suspect: Called when a member does not answer at once.
        limit: Says how long to wait for a small answer: of whom, and on a link as short as can be.
    """

    def __init__(self, clock: Clock, suspect: Callable[[], None], limit: Callable[[str, float], float]) -> None:
        self._clock = clock
        self._suspect = suspect
        self._limit = limit
        self._asked: dict[anyio.CancelScope, _Asked] = {}
        # When to look at each: also at those that have ended meanwhile.
        self._looks: list[tuple[float, int, anyio.CancelScope]] = []
        self._count = 0
        self._sooner = Broadcast()

    def __repr__(self) -> str:
        """Count the calls."""
        return f"<InFlightReads for {len(self._asked)} calls>"

    @contextmanager
    def calling(
        self, member: str, lane: Lane, *, timeout: float, writes: bool = False
    ) -> Iterator[anyio.CancelScope]:
        """Enclose a call: its body is left when time is up, or when the member does not answer small questions.

        Args:
            member: Who is asked.
            lane: The lane the call travels in.
            timeout: Seconds for it at the most.
            writes: Whether it is a write.
        """
        scope = anyio.CancelScope(deadline=anyio.current_time() + timeout)
        asked = self._asked[scope] = _Asked(member, lane, writes)
        self._look(scope, asked, self._clock.monotonic())
        try:
            with scope:
                yield scope
        finally:
            del self._asked[scope]

    def abandon(self, member: str) -> None:
        """Take back the reads that wait for a member."""
        for scope, asked in list(self._asked.items()):
            if asked.member == member and not asked.writes:
                scope.cancel()

    def _look(self, scope: anyio.CancelScope, asked: _Asked, since: float) -> None:
        patience = WRITE_PATIENCE if asked.writes else READ_PATIENCE
        # What takes the link longer than that is no reason to ask, and is not waited for twice.
        at = since + max(patience, self._limit(asked.member, 0.0))
        first = not self._looks or at < self._looks[0][0]
        self._count += 1
        heapq.heappush(self._looks, (at, self._count, scope))
        if first:
            self._sooner.fire()

    async def run(self, still_answers: StillAnswers) -> None:
        """Have members asked whose calls wait for too long, until cancelled.

        Args:
            still_answers: Asks a member one small question in a lane, and says whether it was answered in so many
                seconds.
        """
        async with anyio.create_task_group() as tasks:
            while True:
                sooner = self._sooner.next()
                left = self._looks[0][0] - self._clock.monotonic() if self._looks else None
                if left is None or left > _TOGETHER:
                    with anyio.move_on_after(left):
                        await sooner.wait()
                    continue
                for (member, lane), scopes in self._due().items():
                    tasks.start_soon(self._doubt, member, lane, scopes, still_answers)

    def _due(self) -> dict[tuple[str, Lane], list[anyio.CancelScope]]:
        """Take out what is to be looked at now, by whom to ask."""
        due: dict[tuple[str, Lane], list[anyio.CancelScope]] = {}
        until = self._clock.monotonic() + _TOGETHER
        while self._looks and self._looks[0][0] <= until:
            scope = heapq.heappop(self._looks)[2]
            asked = self._asked.get(scope)
            if asked is not None:
                due.setdefault((asked.member, asked.lane), []).append(scope)
        return due

    async def _doubt(
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
                self._look(scope, asked, now)
            else:
                scope.cancel()

    async def _suspect_soon(self, member: str) -> None:
        await anyio.sleep(self._limit(member, _EVIDENCE))
        self._suspect()
