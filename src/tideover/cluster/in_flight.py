"""Reads under way, so that a member that falls silent costs each of them as little as possible.

A read that is not answered in the time that a probe is given is evidence, upon which the monitor asks around. When
it finds that another member is to be used, reads that still wait for the former one are taken back and asked anew.
Writes are left alone: taking one back would leave its outcome unknown. So are reads that were given more time than
usual, which may well be slow because they are large.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import anyio

from tideover.broadcast import Signal
from tideover.clock import Clock

# Seconds without an answer that are evidence: those within which a probe must be answered (`HealthRules`).
PATIENCE = 0.5


@dataclass(slots=True)
class _Asked:
    member: str
    sent_at: float


class Waiting:
    """The reads under way.

    Args:
        clock: The clocks.
        suspect: Called when one has waited for too long.
    """

    def __init__(self, clock: Clock, suspect: Callable[[], None]) -> None:
        self._clock = clock
        self._suspect = suspect
        # In the order sent; those that have been reported are kept apart.
        self._fresh: dict[anyio.CancelScope, _Asked] = {}
        self._late: dict[anyio.CancelScope, _Asked] = {}
        self._idle = True
        self._began = Signal()

    def __repr__(self) -> str:
        """Count the reads."""
        return f"<Waiting for {len(self._fresh) + len(self._late)} reads, {len(self._late)} of them late>"

    def add(self, scope: anyio.CancelScope, member: str, sent_at: float) -> None:
        """Begin a read.

        Args:
            scope: Takes it back when cancelled.
            member: Who was asked.
            sent_at: When, in monotonic seconds.
        """
        self._fresh[scope] = _Asked(member, sent_at)
        if self._idle:
            self._idle = False
            self._began.fire()

    def done(self, scope: anyio.CancelScope) -> None:
        """End a read."""
        self._fresh.pop(scope, None)
        self._late.pop(scope, None)

    def abandon(self, member: str) -> None:
        """Take back the reads that wait for a member."""
        for scope, asked in (*self._fresh.items(), *self._late.items()):
            if asked.member == member:
                scope.cancel()

    async def run(self) -> None:
        """Report reads that wait for too long, until cancelled."""
        while True:
            self._idle = not self._fresh
            if self._idle:
                await self._began.wait()
                continue
            scope, asked = next(iter(self._fresh.items()))
            left = asked.sent_at + PATIENCE - self._clock.monotonic()
            if left > 0:
                await anyio.sleep(left)
            else:
                self._late[scope] = self._fresh.pop(scope)
                self._suspect()
