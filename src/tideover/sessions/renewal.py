"""Keeping one lease alive, provably: a renewal, then the witness, at the same member, every third of its TTL.

What the answers mean is decided in `rules`. Here is when to ask, and whom: one stream at one member as
long as it can be proven there, else at once another one at the next.
"""

from __future__ import annotations

from contextlib import AsyncExitStack

import anyio

from tideover.client.direct import Reach
from tideover.clock import Clock
from tideover.sessions.keys import Holdings
from tideover.sessions.lease import Tenure
from tideover.sessions.rules import Verdict, judge
from tideover.store.faults import Fault, FaultKind, StoreFault, classify
from tideover.store.protocol import KeepAlive

# The longest stretch slept at once, in seconds: the clock to go by counts through a suspend, that of sleeping
# does not.
_NAP = 1.0
# Seconds between two renewals, however many reasons there are to hurry.
_LEAST_INTERVAL = 0.2
# How much longer all members are left alone in between, once the deadline has passed.
_PATIENT = 2.0


class _NotProvenError(Exception):
    """Raised when a renewal is worth nothing; the message says why."""


class Heartbeat:
    """Renews one lease until it has ended.

    Args:
        tenure: The lease.
        holdings: The keys under it: what was left behind is cleared away before a renewal counts.
        reach: The way to the members.
        clock: The clocks.
    """

    def __init__(self, tenure: Tenure, holdings: Holdings, *, reach: Reach, clock: Clock) -> None:
        self._tenure = tenure
        self._holdings = holdings
        self._reach = reach
        self._clock = clock

    def __repr__(self) -> str:
        """Show the lease."""
        return f"<Heartbeat of {self._tenure!r}>"

    async def run(self) -> None:
        """Renew until the lease has ended."""
        tenure = self._tenure
        tried: set[str] = set()
        rounds = 0
        while not tenure.lost:
            # Not opened before it is needed: thousands that come back together have enough to ask for.
            await self._due()
            member, denied = self._reach.pick(tried), False
            tenure.move(member)
            try:
                async with AsyncExitStack() as stack:
                    stream = await self._open(stack, member)
                    while not tenure.lost:
                        await self._beat(stream, member)
                        tried.clear()
                        rounds = 0
                        await self._due()
            except _NotProvenError as exc:
                tenure.doubt(str(exc))
            except StoreFault as exc:
                # Not before the stream has seen it: a token that has expired is to be forgotten.
                self._reach.report(exc.fault)
                tenure.doubt(f"{member}: {exc.fault.brief}")
                denied = exc.fault.kind is FaultKind.PERMISSION
            tried.add(member)
            factor = _PATIENT if tenure.left < 0 else 1.0
            await self._reach.rest(tried, factor=factor, rounds=rounds, everybody=denied)
            rounds += not tried

    async def _open(self, stack: AsyncExitStack, member: str) -> KeepAlive:
        with anyio.move_on_after(self._limit(member)):
            return await stack.enter_async_context(self._reach.store.keep_alive(member=member))
        raise self._silent(member)

    async def _due(self) -> None:
        """Wait until the next renewal is due: one interval after the last one, or at once if that failed."""
        tenure = self._tenure
        while not tenure.lost and tenure.lease.failing is None:
            left = tenure.lease.sent_at + tenure.rules.renew_interval - self._clock.boot()
            if left <= 0:
                return
            if await tenure.hurry.wait(min(left, _NAP)):
                await anyio.sleep(max(0.0, tenure.lease.sent_at + _LEAST_INTERVAL - self._clock.boot()))
                return

    async def _beat(self, stream: KeepAlive, member: str) -> None:
        """Renew once, and prove it.

        Raises:
            _NotProvenError: It cannot be proven here, now.
            StoreFault: It could not even be asked for.
        """
        tenure = self._tenure
        sent_at = self._clock.boot()
        judgement, limit = None, self._limit(member)
        with anyio.move_on_after(limit):
            renewed = await stream.renew(tenure.lease_id)
            known = tenure.known
            read = await self._reach.store.call(tenure.proof(), member=member, timeout=limit)
            judgement = judge(
                ttl=renewed.ttl,
                acknowledged=renewed.header,
                read=read.header,
                shown=read.succeeded,
                known=known,
            )
        if judgement is None:
            raise self._silent(member)
        if judgement.verdict is Verdict.GONE:
            tenure.end(judgement.why)
            return
        if judgement.verdict is Verdict.UNPROVEN:
            raise _NotProvenError(f"{member}: {judgement.why}")
        await self._clear_away(member)
        tenure.prove(sent_at, renewed.ttl, read.header)

    async def _clear_away(self, member: str) -> None:
        fault = await self._holdings.sweep()
        if fault is None:
            return
        if self._holdings.stuck:
            self._tenure.end(f"what was left behind under it could not be deleted for a whole TTL ({fault.brief})")
        raise _NotProvenError(f"{member}: a key that was given back could not be deleted ({fault.brief})")

    def _limit(self, member: str) -> float:
        """Return seconds for a renewal and its proof: two questions, one after the other."""
        rules = self._tenure.rules
        half = rules.rpc_timeout / 2
        return min(2 * self._reach.limit(member, half), rules.longest_rpc)

    def _silent(self, member: str) -> _NotProvenError:
        fault: Fault = classify("DEADLINE_EXCEEDED", "Deadline Exceeded")
        self._reach.report(fault)
        return _NotProvenError(f"{member} has not answered within {self._limit(member):.2g} s")
