"""Concurrent point reads, joined into one transaction.

A read joins only a transaction that has not been sent: so it is as linearizable as if it had been made alone, and
sees what its caller has written before. etcd refuses a transaction as a whole for one key that is not permitted;
then each key is asked for by itself, so that one caller's refusal is not another's.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field

import anyio
import anyio.lowlevel

from tideover import telemetry
from tideover.clock import Clock
from tideover.core.gateway import Answered, Gateway
from tideover.core.signal import Signal
from tideover.errors import DeadlineExceeded, PermissionDenied, TideoverError
from tideover.etcd.store import Lane, Range, RangeResult, ReadBatch
from tideover.policies import RetryPolicy

# etcd's own limit on the operations of a transaction.
_MOST = 128


@dataclass(slots=True, eq=False)
class Waiting:
    """A caller waiting for its key.

    Attributes:
        key: The key.
        policy: How the caller wants it tried again.
        deadline: When the caller gives up, in monotonic seconds.
        context: The caller's, so that its span has the call as a child.
        done: Set when there is an outcome.
        outcome: The answer, or why there is none.
    """

    key: bytes
    policy: RetryPolicy
    deadline: float
    context: telemetry.SpanContext = field(default_factory=telemetry.current_context)
    done: anyio.Event = field(default_factory=anyio.Event)
    outcome: Answered[RangeResult] | TideoverError | None = None

    def end(self, outcome: Answered[RangeResult] | TideoverError) -> None:
        """Wake the caller."""
        self.outcome = outcome
        self.done.set()


class Coalescer:
    """Joins point reads that are made at the same moment.

    Args:
        gateway: The way to etcd.
        clock: The clocks.
    """

    def __init__(self, gateway: Gateway, *, clock: Clock) -> None:
        self._gateway = gateway
        self._clock = clock
        self._waiting: list[Waiting] = []
        self._added = Signal()

    def __repr__(self) -> str:
        """Count who waits for the next transaction."""
        return f"<Coalescer {len(self._waiting)} waiting>"

    async def read(self, key: bytes, policy: RetryPolicy) -> Answered[RangeResult]:
        """Read one key through the quorum.

        Args:
            key: The key.
            policy: How to try again, and for how long.

        Returns:
            The answer.

        Raises:
            CircuitOpen: An outage has been declared; no packet was sent.
            Unavailable: No member answered within the policy's timeout.
            TideoverError: A definite no, such as `PermissionDenied`.
        """
        self._gateway.admit(Lane.QUORUM)
        waiting = Waiting(key, policy, self._clock.monotonic() + policy.timeout)
        self._waiting.append(waiting)
        self._added.fire()
        with anyio.move_on_after(policy.timeout):
            await waiting.done.wait()
        match waiting.outcome:
            case Answered() as answered:
                return answered
            case TideoverError() as error:
                # A copy, because one failure may be many callers' and each adds its own traceback.
                raise copy.copy(error) from error
            case _:
                raise DeadlineExceeded(f"range {key.decode(errors='backslashreplace')}: Deadline Exceeded")

    async def run(self) -> None:
        """Send what is waiting, until cancelled."""
        async with anyio.create_task_group() as sending:
            while True:
                added = self._added.next()
                if not self._waiting:
                    await added.wait()
                # Whoever is ready to run at this moment may still join.
                await anyio.lowlevel.checkpoint()
                waiting, self._waiting = self._waiting, []
                for start in range(0, len(waiting), _MOST):
                    sending.start_soon(self._send, waiting[start : start + _MOST])

    async def _send(self, batch: Sequence[Waiting]) -> None:
        if len(batch) == 1:
            await self._send_alone(batch[0])
            return
        with telemetry.within(batch[0].context):
            await self._send_together(batch)

    async def _send_together(self, batch: Sequence[Waiting]) -> None:
        reads = tuple(Range(key) for key in dict.fromkeys(waiting.key for waiting in batch))
        try:
            answered = await self._gateway.call(ReadBatch(reads), self._policy(batch))
        except PermissionDenied:
            async with anyio.create_task_group() as alone:
                for waiting in batch:
                    alone.start_soon(self._send_alone, waiting)
        except TideoverError as error:
            for waiting in batch:
                waiting.end(error)
        else:
            by_key = dict(zip((read.key for read in reads), answered.result.results, strict=True))
            for waiting in batch:
                waiting.end(Answered(by_key[waiting.key], answered.sent_at))

    async def _send_alone(self, waiting: Waiting) -> None:
        with telemetry.within(waiting.context):
            try:
                waiting.end(await self._gateway.call(Range(waiting.key), self._policy([waiting])))
            except TideoverError as error:
                waiting.end(error)

    def _policy(self, batch: Sequence[Waiting]) -> RetryPolicy:
        """Return the most patient caller's policy, for what is left of its time."""
        patient = max(batch, key=lambda waiting: waiting.deadline)
        left = max(0.001, patient.deadline - self._clock.monotonic())
        return patient.policy.within(left)
