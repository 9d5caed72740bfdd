"""The one way to etcd: admit, send, classify, retry, record.

A call has one deadline for everything, and an attempt lasts as long as its member answers small questions
(`cluster.in_flight`). Reads are tried again elsewhere; writes only if the failed attempt provably was not applied.
Between the first failure and the monitor's verdict a call waits instead of burning its attempts: that is how an
ordinary leader change passes unnoticed, and why an outage does not multiply load.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import anyio

from tideover import telemetry
from tideover.client.lifecycle import NOT_ENTERED
from tideover.client.rules.backoff import next_delay
from tideover.client.rules.retry_budget import RetryBudget
from tideover.cluster.state import ClusterState
from tideover.errors import CircuitOpen, Closed
from tideover.policies import RetryPolicy
from tideover.shown import shown
from tideover.store.faults import Fault, FaultKind, public_error
from tideover.store.operations import Lane, Op, Put, ReadBatch, Result
from tideover.store.protocol import Store
from tideover.types import Component, Header

R = TypeVar("R", bound=Result)


@dataclass(frozen=True, slots=True)
class Answered(Generic[R]):
    """A call's answer; the attempt that succeeded was sent at `sent_at`, in monotonic seconds."""

    result: R
    sent_at: float


@dataclass(slots=True)
class _Shared:
    """What the gateways of all components have in common."""

    store: Store | None = None
    budget: RetryBudget = field(default_factory=RetryBudget)


class Gateway:
    """Makes every call to etcd but the monitor's probes, once it is connected to a store.

    `policy` holds unless a call names another; `component` is the caller in the metrics, see `of`.
    """

    def __init__(
        self,
        cluster: ClusterState,
        *,
        policy: RetryPolicy,
        namespace: str,
        component: Component = "config",
    ) -> None:
        self.component: Component = component
        self._shared = _Shared()
        self._cluster = cluster
        self._policy = policy
        self._clock = cluster.clock
        self._random = cluster.random
        self._namespace = namespace

    def __repr__(self) -> str:
        """Show the lanes and what is left of the retry budget."""
        return f"<Gateway {self._cluster!r}, {self._shared.budget.tokens:.0f} retry tokens>"

    def connect(self, store: Store) -> None:
        """Send calls to a cluster from now on."""
        self._shared.store = store

    @property
    def store(self) -> Store:
        """The cluster; raises `Closed` as long as there is none."""
        if self._shared.store is None:
            raise Closed(NOT_ENTERED)
        return self._shared.store

    def of(self, component: Component) -> Gateway:
        """Return the same gateway on behalf of a component: one store, one retry budget, one health."""
        other = copy.copy(self)
        other.component = component
        return other

    async def call(
        self, op: Op[R], policy: RetryPolicy | None = None, *, timeout: float | None = None
    ) -> Answered[R]:
        """Make a call, for `timeout` seconds with all attempts; None means the policy's, or this gateway's policy.

        Raises:
            CircuitOpen: An outage of this lane has been declared; no packet was sent.
            Unavailable: No member answered within the policy's timeout.
            AuthenticationFailed: A quorum refuses this client's credentials.
            OutcomeUnknown: A write was sent and may have been applied.
            Closed: There is no store yet.
            TideoverError: A definite no, such as `PermissionDenied`.

        When degraded:
            Until an outage is declared calls wait for it within their timeout; afterwards they are refused at
            once.
        """
        store = self.store
        policy = policy or self._policy
        deadline = self._clock.monotonic() + (policy.timeout if timeout is None else timeout)
        tried: set[str] = set()
        attempts = 0
        while True:
            self.admit(op.lane)
            attempts += 1
            member = self._cluster.pick(op.lane, tried)
            sent_at = self._clock.monotonic()
            left = deadline - sent_at
            with telemetry.attempt(op.name, self._namespace, member, attempts) as span:
                fault = await self._cluster.waiting.attempt(store, op, member, left)
                if not isinstance(fault, Fault):
                    self._succeeded(op, member, sent_at, fault.header)
                    return Answered(fault, sent_at)
                span.failed(fault.code, fault.kind)
            self._cluster.failed(fault)
            tried.add(member)
            if not fault.outage or tried.issuperset(self._cluster.members):
                tried.clear()
            if not await self._again(op, fault, member, attempts, policy, deadline, elsewhere=bool(tried)):
                raise public_error(fault, doing=self._describe(op), writes=op.writes)
            telemetry.retried(op.name, fault.kind)

    def admit(self, lane: Lane) -> None:
        """Let a call of this lane through; raise `CircuitOpen`, without a packet, in a declared outage."""
        try:
            self._cluster.admit(lane)
        except CircuitOpen:
            telemetry.rejected_by_breaker(self.component)
            raise

    def _succeeded(self, op: Op[Any], member: str, sent_at: float, header: Header) -> None:
        if self._shared.budget.spent:
            self._shared.budget = self._shared.budget.after(succeeded=True)
        self._cluster.succeeded(op, sent_at, header)
        self._cluster.answered(member, self._clock.monotonic() - sent_at)
        if isinstance(op, Put):
            # Of all writes the one that no alarm lets through.
            self._cluster.not_alarmed()

    async def _again(
        self,
        op: Op[R],
        fault: Fault,
        member: str,
        attempt: int,
        policy: RetryPolicy,
        deadline: float,
        *,
        elsewhere: bool,
    ) -> bool:
        """Decide whether to try again, and wait until it makes sense; `elsewhere` are members not asked yet."""
        may = (fault.outage or fault.kind in _SOON) and not fault.applied
        if not (may if op.writes else fault.retry_read):
            return False
        left = deadline - self._clock.monotonic()
        delay = next_delay(policy, attempt, chance=self._random(), left=left)
        if delay is None:
            return False
        if op.lane is Lane.QUORUM and fault.outage and not (elsewhere and fault.kind in _ELSEWHERE):
            # The monitor says when it makes sense: no retry is spent on a cluster that is electing.
            await self._cluster.breakers.settled(left)
            if attempt == 1 and self._cluster.active != member:
                # It was the member after all, and another one has been found.
                delay = 0.0
            await anyio.sleep(min(delay, max(0.0, deadline - self._clock.monotonic())))
            return self._clock.monotonic() < deadline
        self._shared.budget = self._shared.budget.after(succeeded=False)
        if not self._shared.budget.allows_retry:
            return False
        if not (fault.kind in _ELSEWHERE and attempt == 1):
            await anyio.sleep(delay)
        return True

    def _describe(self, op: Op[R]) -> str:
        if isinstance(op, ReadBatch):
            return f"{op.name} of {len(op.keys)} keys"
        key = getattr(op, "key", b"")
        return f"{op.name} {shown(key)}"


# The member is well and will take it in a moment; another one could but pass it on to where it was refused.
_SOON = frozenset({FaultKind.OVERLOADED, FaultKind.HANDOVER})

# The member is the trouble, not the cluster: another one is asked at once.
_ELSEWHERE = frozenset(
    {FaultKind.UNREACHABLE, FaultKind.CONNECTION_LOST, FaultKind.NOT_SERVING, FaultKind.FOREIGN}
)
