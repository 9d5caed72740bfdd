"""The sessions of one coordinator: opened, supervised, shared where that is wanted, and closed.

Locks share one session per TTL, and registrations others: who of them shares which, `registration.keeper` decides.
"""

from __future__ import annotations

from collections.abc import Iterator

import anyio

from tideover.client.client import Client
from tideover.client.direct import DirectCalls
from tideover.client.gateway import Gateway
from tideover.client.lifecycle import NOT_ENTERED, Lifecycle
from tideover.client.parts import Part
from tideover.cluster.closing_budget import CLOSE_TIMEOUT
from tideover.errors import CircuitOpen, Closed, InvalidRequest, OutcomeUnknown, TideoverError
from tideover.holders import process_name
from tideover.policies import RetryPolicy
from tideover.sessions.key import LeasedKey, anchors
from tideover.sessions.key_watch import KeyWatches
from tideover.sessions.keys import SessionKeys
from tideover.sessions.lease import LeaseState
from tideover.sessions.lease_ids import LeaseIds
from tideover.sessions.lookout import Lookout
from tideover.sessions.renewal import LeaseRenewer
from tideover.sessions.rules import RPC_TIMEOUT, Lease, LeaseRules
from tideover.sessions.session import Session
from tideover.store.faults import StoreFault
from tideover.store.leases import LeaseGrant, LeaseRevoke, LeaseTimeToLive
from tideover.store.operations import LeaseResult, Put, Range
from tideover.store.transactions import Compare, Txn
from tideover.types import Component, Entry

# Seconds between two tries of a grant whose outcome is unknown.
_PAUSE = 0.1


class SessionPool(Part):
    """Opens sessions and sees to it that none is left behind.

    Args:
        client: The way to etcd.
        policy: How grants and writes are tried again.

    Attributes:
        own_anchors: What the anchors of these sessions begin with, and no others; empty before `begin`.
        of_locks: The sessions that locks share, by ttl; they may be lost.
    """

    def __init__(self, client: Client, *, policy: RetryPolicy) -> None:
        self._client = client
        self._cluster = client.state
        self._clock = client.clock
        self._policy = policy
        self._base = client.base
        self.home = client.home
        self._ticker = client.ticker
        self._lookout = Lookout(client.ticker, client.clock)
        self._renewer: LeaseRenewer | None = None
        self.own_anchors = b""
        self._ids: LeaseIds | None = None
        self._watches: KeyWatches | None = None
        self._sessions: dict[Session, None] = {}
        self.of_locks: dict[int, Session] = {}
        self._opening: dict[int, anyio.Lock] = {}
        self._life = Lifecycle()

    def __repr__(self) -> str:
        """Count the sessions."""
        return f"<SessionPool {len(self._sessions)} sessions>"

    def __iter__(self) -> Iterator[Session]:
        """The sessions that are not closed yet."""
        return iter(list(self._sessions))

    def begin(self) -> None:
        """Serve: the coordinator is open."""
        self._life.open()
        # Not before: a coordinator that was made in a parent may be entered in each of its children.
        self._ids = LeaseIds()
        self.own_anchors = anchors(self._base) + self._ids.prefix.encode()
        direct = self._client.direct.within(RPC_TIMEOUT)
        self._watches = KeyWatches(self.own_anchors, direct=direct, clock=self._clock, ticker=self._ticker)
        self._renewer = LeaseRenewer(direct=direct, clock=self._clock, home=self.home, ticker=self._ticker)
        self.home.start("key watches", self._watches.run)

    async def shared(self, ttl: int) -> Session:
        """Return the session of a TTL that all locks share; a new one if it is lost, or there is none yet.

        Args:
            ttl: Seconds.

        Returns:
            The session; the pool closes it.

        Raises:
            TideoverError: As of `open`.
        """
        async with self._opening.setdefault(ttl, anyio.Lock(fast_acquire=True)):
            session = self.of_locks.get(ttl)
            if session is not None and session.lost:
                self._discard(session)
                session = None
            if session is None:
                session = self.of_locks[ttl] = await self.open(ttl, component="lock")
            return session

    async def open(self, ttl: int, *, strict: bool = False, component: Component = "session") -> Session:
        """Open a session that nobody else uses; whoever opens it closes it, with `close`.

        Args:
            ttl: Seconds that etcd waits for a renewal; whole.
            strict: Whether passing its deadline is the end of it, for good.
            component: On whose behalf.

        Returns:
            The session, renewed and watched from now on.

        Raises:
            TypeError: `ttl` is not a whole number.
            ValueError: `ttl` is too short.
            Unavailable: etcd is away.
            OutcomeUnknown: No verdict came in time; what may have been made ends by itself.
            PermissionDenied: This user may not write the session's own key.
            Closed: The coordinator is not entered, or closed.
        """
        rules = LeaseRules(ttl)
        self._life.check()
        watches, renewer = self._watches, self._renewer
        if self._ids is None or watches is None or renewer is None:
            raise Closed(NOT_ENTERED)
        lease_id = self._ids.draw()
        gateway = self._client.calls.of(component)
        direct = self._client.direct.within(rules.rpc_timeout)
        try:
            tenure = await self._grant(gateway, rules, lease_id, strict=strict)
            self._life.check()
        except BaseException as exc:
            # It may have been granted, and nobody wants it any more.
            if not isinstance(exc, CircuitOpen) and self._life.is_open:
                self.home.start(f"revoke {lease_id:x}", _revoke, direct, lease_id)
            if self._life.refusal is not None and isinstance(exc, TideoverError):
                # Closed meanwhile: what may have been granted ends by itself, and nobody knows what was asked.
                raise Closed(self._life.refusal) from exc
            raise
        holdings = SessionKeys(
            tenure,
            gateway=gateway,
            direct=direct,
            clock=self._clock,
            policy=self._policy,
            watches=watches,
        )
        session = Session(
            tenure,
            holdings,
            home=self.home,
            direct=direct,
            lookout=self._lookout,
            clock=self._clock,
            base=self._base,
            component=component,
        )
        self._sessions[session] = None
        session.bodies.start()
        renewer.add(tenure, holdings)
        return session

    async def close(self, session: Session) -> str | None:
        """Close a session; bounded in time. Return why its keys may still be in etcd; None if they are gone."""
        try:
            return await session.aclose(self._cluster.closing.seconds())
        finally:
            self._sessions.pop(session, None)
            session.bodies.stop()
            if self._renewer is not None:
                self._renewer.remove(session.tenure)

    async def aclose(self) -> None:
        """Close all sessions, and open no more."""
        self._life.close()
        with anyio.CancelScope(shield=True):
            async with anyio.create_task_group() as tasks:
                for session in self:
                    tasks.start_soon(self.close, session)
            if self._renewer is not None:
                await self._renewer.aclose()

    def reset(self, why: str, revision: int) -> None:
        """End all sessions: the cluster is another one, or has another history.

        Args:
            why: What proves it, in words.
            revision: Where that history is.
        """
        for session in self:
            session.lose(why, revision=revision)
        if self._renewer is not None:
            # The streams are of the history before.
            self.home.start("close streams", self._renewer.aclose)

    def poison(self, why: str) -> None:
        """Refuse everything: this is a forked child."""
        self._life.poison(why)
        for session in self:
            session.poison(why)
        self._sessions.clear()

    def _discard(self, session: Session) -> None:
        self.home.start("close a lost session", self.close, session)

    # Granting --------------------------------------------------------------------------------------------------

    async def _grant(self, gateway: Gateway, rules: LeaseRules, lease_id: int, *, strict: bool) -> LeaseState:
        """Grant a lease and make the session's own key under it."""
        deadline = self._clock.monotonic() + self._policy.timeout
        sent_at = self._clock.boot()
        granted = await self._settled(gateway, LeaseGrant(rules.ttl, lease_id), lease_id, deadline)
        full = anchors(self._base) + f"{lease_id:x}".encode()
        value = process_name().encode()
        put = Txn(
            (Compare(full, create_revision=0),),
            then=(Put(full, value, lease_id), Range(full)),
            otherwise=(Range(full), Range(full)),
        )
        while True:
            try:
                answered = await gateway.call(put, self._policy.within(self._left(deadline)))
            except OutcomeUnknown:
                if not await self._paused(deadline):
                    raise
            else:
                break
        # The id is nobody else's, so that whatever is there is ours: an earlier try of this.
        entry = answered.result.entries(1).entries.get(full, Entry(value, 0, 0))
        return LeaseState(
            Lease(rules, granted.granted, sent_at, strict=strict),
            lease_id=lease_id,
            anchor=LeasedKey("", full, entry),
            known=answered.result.header,
            clock=self._clock,
            member=self._cluster.active,
        )

    async def _settled(self, gateway: Gateway, grant: LeaseGrant, lease_id: int, deadline: float) -> LeaseResult:
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
                # It exists, if an earlier try was applied after all.
                if not unknown:
                    raise
            else:
                return answered.result
            asking = LeaseTimeToLive(lease_id)
            asked = await gateway.call(asking, self._policy.within(self._left(deadline)))
            if asked.result.ttl > 0:
                return asked.result

    def _left(self, deadline: float) -> float:
        return max(0.001, deadline - self._clock.monotonic())

    async def _paused(self, deadline: float) -> bool:
        """Wait before the next try; return False if there is no time for one."""
        if self._clock.monotonic() + _PAUSE >= deadline:
            return False
        await anyio.sleep(_PAUSE)
        return True


async def _revoke(direct: DirectCalls, lease_id: int) -> None:
    """Take back a lease that nobody waits for any more."""
    with anyio.CancelScope(shield=True), anyio.move_on_after(CLOSE_TIMEOUT):
        try:
            await direct.ask(LeaseRevoke(lease_id), timeout=CLOSE_TIMEOUT)
        except StoreFault:
            return
