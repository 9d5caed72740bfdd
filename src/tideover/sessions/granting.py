"""How a session begins: its lease is granted, and the key that shows the lease, its anchor, is made under it.

A call costs this process far more than a key within one. So anchors that become due in the same turn of the event
loop share a transaction; an anchor that is due alone is written at once, alone. A transaction that brings no
success tells nothing about any one anchor, and each session then writes its own.
"""

from __future__ import annotations

import math

import anyio
import anyio.lowlevel

from tideover.client.gateway import Gateway
from tideover.clock import Clock
from tideover.cluster.state import ClusterState
from tideover.errors import InvalidRequest, OutcomeUnknown, TideoverError
from tideover.holders import process_name
from tideover.policies import RetryPolicy
from tideover.sessions.key import LeasedKey, anchors
from tideover.sessions.lease import LeaseState
from tideover.sessions.rules import Lease, LeaseRules
from tideover.store.leases import LeaseGrant, LeaseTimeToLive
from tideover.store.operations import LeaseResult, Put, Range
from tideover.store.transactions import Compare, Txn
from tideover.types import Entry, Header

# Seconds between two tries of a grant whose outcome is unknown.
_PAUSE = 0.1
# How many anchors are made in one transaction: half of what etcd takes by default.
_MOST_TOGETHER = 64


class LeaseGrants:
    """Grants leases; each is renewed at first where the cluster's active member is."""

    def __init__(self, cluster: ClusterState, *, clock: Clock, policy: RetryPolicy, base: str) -> None:
        self._cluster = cluster
        self._clock = clock
        self._policy = policy
        self._anchors = anchors(base)
        # The transaction that is not sent yet.
        self._forming: _Together | None = None

    async def grant(self, gateway: Gateway, rules: LeaseRules, lease_id: int, *, strict: bool) -> LeaseState:
        """Grant a lease and make its anchor; see `SessionPool.open`."""
        deadline = self._clock.monotonic() + self._policy.timeout
        sent_at = self._clock.boot()
        granted = await self._settled(gateway, LeaseGrant(rules.ttl, lease_id), deadline)
        full = self._anchors + f"{lease_id:x}".encode()
        value = process_name().encode()
        entry, header = await self._anchored(gateway, full, Put(full, value, lease_id), deadline)
        return LeaseState(
            Lease(rules, granted.granted, sent_at, strict=strict),
            lease_id=lease_id,
            anchor=LeasedKey("", full, entry),
            known=header,
            clock=self._clock,
            member=self._cluster.active,
        )

    async def _settled(self, gateway: Gateway, grant: LeaseGrant, deadline: float) -> LeaseResult:
        """Grant, and if the reply is lost ask whether the lease is there: its id is known only here."""
        unknown = False
        while True:
            try:
                answered = await gateway.call(grant, self._policy.within(self._left(deadline)))
            except OutcomeUnknown:
                unknown = True
                if not await self._paused(deadline):
                    raise
            except InvalidRequest:
                # The lease exists, if an earlier try was applied after all.
                if not unknown:
                    raise
            else:
                return answered.result
            asking = LeaseTimeToLive(grant.lease)
            asked = await gateway.call(asking, self._policy.within(self._left(deadline)))
            if asked.result.ttl > 0:
                return asked.result

    # The anchor ------------------------------------------------------------------------------------------------

    async def _anchored(self, gateway: Gateway, full: bytes, put: Put, deadline: float) -> tuple[Entry, Header]:
        """Make an anchor, in common with all that are due in this turn of the event loop if there are others."""
        together = self._forming
        if together is None:
            together = self._forming = _Together()
            await self._lead(gateway, together, put, deadline)
        else:
            together.add(put, deadline)
            if len(together.puts) == _MOST_TOGETHER:
                self._forming = None
            await together.ended.wait()
        made = together.made
        if made is not None:
            return Entry(put.value, made.revision, made.revision), made
        return await self._alone(gateway, full, put, deadline)

    async def _lead(self, gateway: Gateway, together: _Together, put: Put, deadline: float) -> None:
        """Send a transaction for all that join it. A leader that is cancelled leaves the others to themselves."""
        together.add(put, deadline)
        try:
            await anyio.lowlevel.checkpoint()
            self._shut(together)
            if len(together.puts) > 1:
                policy = self._policy.within(self._left(together.deadline))
                answered = await gateway.call(together.transaction(), policy)
                if answered.result.succeeded:
                    together.made = answered.result.header
        except TideoverError:
            return  # each hears by itself what etcd says of its own
        finally:
            self._shut(together)
            together.ended.set()

    def _shut(self, together: _Together) -> None:
        if self._forming is together:
            self._forming = None

    async def _alone(self, gateway: Gateway, full: bytes, put: Put, deadline: float) -> tuple[Entry, Header]:
        read = Range(full)
        write = Txn((Compare(full, create_revision=0),), then=(put, read), otherwise=(read, read))
        while True:
            try:
                answered = await gateway.call(write, self._policy.within(self._left(deadline)))
            except OutcomeUnknown:
                if not await self._paused(deadline):
                    raise
            else:
                break
        # The id is drawn here alone, so that a key that is there already comes from an earlier try.
        entry = answered.result.entries(1).entries.get(full, Entry(put.value, 0, 0))
        return entry, answered.result.header

    def _left(self, deadline: float) -> float:
        return max(0.001, deadline - self._clock.monotonic())

    async def _paused(self, deadline: float) -> bool:
        """Wait before the next try; return False if there is no time for one."""
        if self._clock.monotonic() + _PAUSE >= deadline:
            return False
        await anyio.sleep(_PAUSE)
        return True


class _Together:
    """Anchors that are made in one transaction."""

    __slots__ = ("deadline", "ended", "made", "puts")

    def __init__(self) -> None:
        self.puts: list[Put] = []
        self.deadline = math.inf
        self.ended = anyio.Event()  # set when there is nothing more to wait for
        self.made: Header | None = None  # the header of the answer if all were made

    def add(self, put: Put, deadline: float) -> None:
        self.puts.append(put)
        self.deadline = min(self.deadline, deadline)

    def transaction(self) -> Txn:
        absent = tuple(Compare(put.key, create_revision=0) for put in self.puts)
        return Txn(absent, then=tuple(self.puts), otherwise=(Range(self.puts[0].key, keys_only=True),))
