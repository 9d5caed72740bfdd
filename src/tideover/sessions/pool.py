"""The sessions of one coordinator: opened, supervised, shared where that is wanted, and closed.

Locks share one session per TTL, and registrations others: who of them shares which, `registration.keeper` decides.
"""

from __future__ import annotations

from collections.abc import Iterator

import anyio

from tideover.client.client import Client
from tideover.client.direct import DirectCalls
from tideover.client.lifecycle import NOT_ENTERED, Lifecycle
from tideover.client.parts import Part
from tideover.cluster.closing_budget import CLOSE_TIMEOUT
from tideover.errors import CircuitOpen, Closed, TideoverError
from tideover.policies import RetryPolicy
from tideover.sessions.granting import LeaseGrants
from tideover.sessions.key import anchors
from tideover.sessions.key_watch import KeyWatches
from tideover.sessions.keys import SessionKeys
from tideover.sessions.lease_ids import LeaseIds
from tideover.sessions.lookout import Lookout
from tideover.sessions.renewal import LeaseRenewer
from tideover.sessions.rules import RPC_TIMEOUT, LeaseRules
from tideover.sessions.session import Session
from tideover.store.faults import StoreFault
from tideover.store.leases import LeaseRevoke
from tideover.types import Component


class SessionPool(Part):
    """Opens sessions and sees to it that none is left behind."""

    def __init__(self, client: Client, *, policy: RetryPolicy) -> None:
        self._client = client
        self._cluster = client.state
        self._clock = client.clock
        self._policy = policy
        self.home = client.home
        self._ticker = client.ticker
        self._grants = LeaseGrants(client.state, clock=client.clock, policy=policy, base=client.base)
        self._lookout = Lookout(client.ticker, client.clock)
        self._renewer: LeaseRenewer | None = None
        self.own_anchors = b""  # what their anchors begin with, and no others; empty before `begin`
        self._ids: LeaseIds | None = None
        self._watches: KeyWatches | None = None
        self._sessions: dict[Session, None] = {}
        self.of_locks: dict[int, Session] = {}  # shared by locks, by ttl; they may be lost
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
        self.own_anchors = anchors(self._client.base) + self._ids.prefix.encode()
        direct = self._client.direct.within(RPC_TIMEOUT)
        self._watches = KeyWatches(self.own_anchors, direct=direct, clock=self._clock, ticker=self._ticker)
        self._renewer = LeaseRenewer(direct=direct, clock=self._clock, home=self.home, ticker=self._ticker)
        self.home.start("key watches", self._watches.run)

    async def shared(self, ttl: int) -> Session:
        """Return the session that all locks of a TTL share; a new one if it is lost, or there is none yet.

        The pool closes the session. Raises `TideoverError` as `open` does.
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
        """Open a session that is not shared; its opener closes it, with `close`.

        The session is renewed and watched from now on. A `strict` one ends for good when its deadline passes.

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
        client = self._client.of(component)
        direct = client.direct.within(rules.rpc_timeout)
        try:
            tenure = await self._grants.grant(client.calls, rules, lease_id, strict=strict)
            self._life.check()
        except BaseException as exc:
            # The lease may have been granted, and has no owner.
            if not isinstance(exc, CircuitOpen) and self._life.is_open:
                self.home.start(f"revoke {lease_id:x}", _revoke, direct, lease_id)
            if self._life.refusal is not None and isinstance(exc, TideoverError):
                # Closed meanwhile: what may have been granted ends by itself.
                raise Closed(self._life.refusal) from exc
            raise
        holdings = SessionKeys(
            tenure,
            gateway=client.calls,
            direct=direct,
            clock=self._clock,
            policy=self._policy,
            watches=watches,
        )
        session = Session(client, tenure, holdings, direct=direct, lookout=self._lookout)
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
        """End all sessions: the cluster is another one, or has another history."""
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


async def _revoke(direct: DirectCalls, lease_id: int) -> None:
    """Revoke a lease that has no owner."""
    with anyio.CancelScope(shield=True), anyio.move_on_after(CLOSE_TIMEOUT):
        try:
            await direct.ask(LeaseRevoke(lease_id), timeout=CLOSE_TIMEOUT)
        except StoreFault:
            return
