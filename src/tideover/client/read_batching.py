"""Concurrent point reads, joined into one transaction.

A read joins only a transaction that has not been sent: so it is as linearizable as if it had been made alone, and
sees what its caller has written before. A read that finds nothing to join is sent at once, together with those of
all other tasks that are ready to run at that moment. Only while others are under way does a batch wait for more,
and not for longer than a few milliseconds.

It is quick because nothing is done per caller that can be done per batch: one task and one deadline serve all, and
a caller has a future. A caller has a cancel scope of its own only if it is less patient than its batch. Each can
still leave at any time, and when the last one has left the call is given up.

etcd refuses a transaction as a whole for one key that is not permitted or is too long; then each key is asked for
by itself, so that one caller's refusal is not another's.
"""

from __future__ import annotations

import copy
from collections.abc import Coroutine

import anyio
from anyio.abc import TaskGroup

from tideover import telemetry
from tideover.broadcast import Broadcast, Ending
from tideover.client.gateway import Gateway
from tideover.errors import Closed, DeadlineExceeded, InvalidRequest, PermissionDenied, TideoverError
from tideover.policies import RetryPolicy
from tideover.shown import shown
from tideover.store.operations import MOST_READS, Lane, Range, ReadBatch
from tideover.types import Entry

# A batch that is not full waits for one of so many to return, but not longer than so many seconds: longer than a
# healthy read takes, and so short that a batch that hangs does not hold up callers that may find another member.
_UNDER_WAY = 2
_HOLD = 0.005
# Seconds that a call is given at the least.
_LEAST = 0.001


class Batch:
    """Callers who share one call, and what comes of it.

    Attributes:
        patience: Seconds from now for the call with all its attempts.
        deadline: When they are over, on anyio's clock.
        keys: The keys asked for, each with its first caller's span, so that a call for it is that span's child.
        sent_at: When the attempt that succeeded was sent, in monotonic seconds.
        apart: The batches that took over, one for each key, if this one was refused as a whole.
    """

    __slots__ = (
        "apart",
        "call",
        "callers",
        "deadline",
        "ended",
        "entries",
        "error",
        "keys",
        "patience",
        "sent_at",
    )

    def __init__(self, patience: float) -> None:
        self.patience = patience
        self.deadline = anyio.current_time() + patience
        self.keys: dict[bytes, telemetry.SpanContext] = {}
        self.callers = 0
        self.call = anyio.CancelScope()
        self.ended = Ending()
        self.entries: dict[bytes, Entry] = {}
        self.sent_at = 0.0
        # What callers hear if the call ends without an outcome.
        self.error: Exception | None = Closed("the coordinator was closed while etcd was being asked")
        self.apart: dict[bytes, Batch] = {}


class Coalescer:
    """Joins point reads that are made at the same moment; callers who name no timeout have that of `policy`."""

    def __init__(self, gateway: Gateway, *, policy: RetryPolicy) -> None:
        self._gateway = gateway
        self._policy = policy
        self._tasks: TaskGroup | None = None
        # Those that may still be joined, by their patience.
        self._open: dict[float, Batch] = {}
        self._under_way = 0
        self._changed = Broadcast()

    def __repr__(self) -> str:
        """Count who waits for what is not sent yet, and what is under way."""
        waiting = sum(batch.callers for batch in self._open.values())
        return f"<Coalescer {waiting} waiting, {self._under_way} batches under way>"

    def read(
        self, key: bytes, timeout: float | None = None
    ) -> Coroutine[object, object, tuple[Entry | None, float]]:
        """Read one key through the quorum, within `timeout` seconds; None means the policy's.

        Returns the key's entry, None if it is absent, and when it was asked for, in monotonic seconds.

        Raises:
            CircuitOpen: An outage has been declared; no packet was sent.
            Unavailable: No member answered within the timeout.
            Closed: The coordinator is not open, or was closed meanwhile.
            TideoverError: A definite no, such as `PermissionDenied`.
        """
        patience = self._policy.timeout
        if timeout is None or timeout == patience:
            return self._take_part(key, patience)
        return self._take_part_for(key, timeout)

    async def _take_part_for(self, key: bytes, timeout: float) -> tuple[Entry | None, float]:
        patience = self._policy.timeout
        # Who is less patient than usual joins the others and leaves early; who is more so, those of about the same
        # patience.
        while patience < timeout:
            patience *= 2
        with anyio.move_on_after(timeout):
            return await self._take_part(key, patience)
        raise DeadlineExceeded(f"range {shown(key)}: Deadline Exceeded")

    async def _take_part(self, key: bytes, patience: float) -> tuple[Entry | None, float]:
        batch = self._open.get(patience) or self._begin(patience)
        keys = batch.keys
        if key not in keys:
            keys[key] = telemetry.current_context()
            if len(keys) == MOST_READS:
                self._shut(batch)
        while True:
            batch.callers += 1
            try:
                await batch.ended.awaited()
            finally:
                batch.callers -= 1
                if not batch.callers and not batch.ended.has_come:
                    self._shut(batch)
                    batch.call.cancel()
            if not batch.apart:
                break
            batch = batch.apart[key]
        if batch.error is None:
            return batch.entries.get(key), batch.sent_at
        if isinstance(batch.error, TideoverError):
            # A copy, because one failure may be many callers' and each adds its own traceback.
            raise copy.copy(batch.error) from batch.error
        raise batch.error

    async def run(self) -> None:
        """Send what is asked for, until cancelled."""
        async with anyio.create_task_group() as self._tasks:
            try:
                await anyio.sleep_forever()
            finally:
                self._tasks = None

    # The life of a batch ---------------------------------------------------------------------------------------

    def _begin(self, patience: float) -> Batch:
        """Open a batch, to be sent when all who are ready to run have had their turn."""
        self._gateway.admit(Lane.QUORUM)
        if self._tasks is None:
            raise Closed("the coordinator is not open")
        batch = self._open[patience] = Batch(patience)
        self._tasks.start_soon(self._send, batch)
        return batch

    def _shut(self, batch: Batch) -> None:
        """Close the batch to more callers."""
        if self._open.get(batch.patience) is batch:
            del self._open[batch.patience]
            self._changed.fire()

    async def _send(self, batch: Batch) -> None:
        """Make a batch's call; whatever happens, its callers hear of it."""
        try:
            with batch.call:
                await self._hold(batch)
                self._shut(batch)
                # All may have left by now, and a cancellation comes only where something waits.
                if not batch.call.cancel_called:
                    await self._ask(batch)
        except Exception as error:  # noqa: BLE001  # raised in the callers, who would have met it alone
            batch.error = error
        finally:
            self._shut(batch)
            batch.ended.come()

    async def _hold(self, batch: Batch) -> None:
        """Wait to be joined by more, while enough others are under way."""
        if self._under_way < _UNDER_WAY:
            return
        with anyio.move_on_after(_HOLD):
            while self._open.get(batch.patience) is batch and self._under_way >= _UNDER_WAY:
                await self._changed.wait()

    async def _ask(self, batch: Batch) -> None:
        keys = tuple(batch.keys)
        left = max(_LEAST, batch.deadline - anyio.current_time())
        self._under_way += 1
        try:
            if len(keys) == 1:
                alone = await self._gateway.call(Range(keys[0]), self._policy, timeout=left)
                batch.entries, batch.sent_at, batch.error = alone.result.entries, alone.sent_at, None
            else:
                together = await self._gateway.call(ReadBatch(keys), self._policy, timeout=left)
                batch.entries, batch.sent_at, batch.error = together.result.entries, together.sent_at, None
        except (PermissionDenied, InvalidRequest):
            if len(keys) == 1:
                raise
            self._part(batch)
        finally:
            self._under_way -= 1
            self._changed.fire()

    def _part(self, batch: Batch) -> None:
        """Let each key be asked for by itself, in what is left of the time."""
        if self._tasks is None:
            return
        for key, context in batch.keys.items():
            alone = batch.apart[key] = Batch(max(_LEAST, batch.deadline - anyio.current_time()))
            alone.keys[key] = context
            with telemetry.within(context):
                self._tasks.start_soon(self._send, alone)
