"""Watching one key of our own: that it is deleted is a definite no, and is to be known at once.

A quiet watch is not believed: the anchor's is asked for a sign of life every two seconds, every half second
while the lease cannot be proven, and is opened elsewhere if none comes. All keys are watched at the member at
which the lease is renewed, and go where it goes.
"""

from __future__ import annotations

import math
from contextlib import AsyncExitStack

import anyio

from tideover.client.direct import Reach
from tideover.clock import Clock
from tideover.sessions.key import OwnKey
from tideover.sessions.keys import Holdings
from tideover.sessions.lease import Tenure
from tideover.store.faults import StoreFault
from tideover.store.operations import Range
from tideover.store.protocol import Compacted, Watch, WatchBatch

# Seconds between two questions for a sign of life, and within which one must come.
_ASK_EVERY = 2.0
_ASK_EVERY_IN_DOUBT = 0.5
_SIGN_WITHIN = 1.0


class KeyWatch:
    """Watches one key until it is gone.

    Args:
        own: The key.
        tenure: Its lease.
        holdings: Where it is held.
        reach: The way to the members.
        clock: The clocks.
        opening: How many of a session's watches are opened at once.
    """

    def __init__(
        self,
        own: OwnKey,
        *,
        tenure: Tenure,
        holdings: Holdings,
        reach: Reach,
        clock: Clock,
        opening: anyio.CapacityLimiter,
    ) -> None:
        self._own = own
        self._tenure = tenure
        self._holdings = holdings
        self._reach = reach
        self._clock = clock
        self._opening = opening
        self._is_anchor = own is tenure.anchor
        self._from = own.create_revision + 1
        self._heard_at = -math.inf
        self._asked_at: float | None = None

    def __repr__(self) -> str:
        """Show the key."""
        return f"<KeyWatch {self._own!r}>"

    async def run(self) -> None:
        """Watch until the key is gone."""
        tried: set[str] = set()
        rounds = 0
        while not self._own.gone:
            # What nobody can delete needs no watch; and with thousands of keys, trying keeps a processor busy.
            await self._reach.settled()
            await self._reach.outage_over()
            preferred = self._tenure.member
            member = preferred if preferred not in tried else self._reach.pick(tried)
            try:
                if await self._follow(member):
                    tried.clear()
                    rounds = 0
                    continue
            except Compacted:
                if await self._read():
                    continue
            except StoreFault as exc:
                self._reach.report(exc.fault)
            # What makes a watch end may have ended the lease as well.
            self._hurry()
            tried.add(member)
            await self._reach.rest(tried, rounds=rounds)
            rounds += not tried

    async def _follow(self, member: str) -> bool:
        """Watch at a member; return False if it fell silent, True if there is reason to go on elsewhere."""
        ended: StoreFault | None = None
        silent = False
        opening = self._reach.store.watch(
            self._own.full,
            None,
            start_revision=self._from,
            member=member,
            timeout=self._reach.limit(member, self._tenure.rules.rpc_timeout),
        )
        async with AsyncExitStack() as stack:
            async with self._opening:
                watch = await stack.enter_async_context(opening)
            tasks = await stack.enter_async_context(anyio.create_task_group())
            self._heard()

            async def doubt() -> None:
                nonlocal silent
                silent = await self._doubt(watch)
                tasks.cancel_scope.cancel()

            tasks.start_soon(doubt)
            try:
                while not self._own.gone:
                    self._take(await watch.receive())
            except StoreFault as exc:
                ended = exc
            tasks.cancel_scope.cancel()
        if ended is not None:
            raise ended
        return not silent

    def _take(self, batch: WatchBatch) -> None:
        self._heard()
        for event in batch.events:
            self._from = event.revision + 1
            if event.entry is None or event.entry.create_revision != self._own.create_revision:
                self._lose(f"it was deleted, as seen at revision {event.revision}")
                return

    def _heard(self) -> None:
        self._heard_at, self._asked_at = self._clock.monotonic(), None

    def _lose(self, why: str) -> None:
        if self._is_anchor:
            self._tenure.end(f"etcd has ended the lease: its key {why.removeprefix('it ')}")
        elif not self._own.gone:
            self._holdings.forget(self._own, why)
            self._hurry()

    def _hurry(self) -> None:
        """Let the lease be proven now: something is the matter."""
        self._tenure.hasten()

    async def _doubt(self, watch: Watch) -> bool:
        """Wait until the watch is of no more use; return whether it is because it fell silent."""
        home = self._tenure.member
        # With thousands of keys each renewal would wake as many tasks.
        news = self._tenure.changed if self._is_anchor else self._tenure.moved
        while self._tenure.member == home:
            changed = news.next()
            left = await self._look(watch) if self._is_anchor else math.inf
            if left <= 0:
                return True
            with anyio.move_on_after(left):
                await changed.wait()
        return False

    async def _look(self, watch: Watch) -> float:
        """Ask for a sign of life if it is time; return seconds until the next look, 0 if none came."""
        now = self._clock.monotonic()
        if self._asked_at is None:
            every = _ASK_EVERY_IN_DOUBT if self._tenure.lease.failing else _ASK_EVERY
            if now < self._heard_at + every:
                return self._heard_at + every - now
            self._asked_at = now
            try:
                await watch.request_progress()
            except StoreFault:
                return 0.0
            return _SIGN_WITHIN
        return self._asked_at + _SIGN_WITHIN - now

    async def _read(self) -> bool:
        """Look at the key, because its history is gone; return whether that was possible."""
        try:
            found = await self._reach.ask(Range(self._own.full, keys_only=True), timeout=_SIGN_WITHIN)
        except StoreFault:
            return False
        entry = found.entries.get(self._own.full)
        if entry is None or entry.create_revision != self._own.create_revision:
            self._lose(f"it was not there any more at revision {found.header.revision}")
        else:
            self._from = found.header.revision + 1
        return True
