"""A session: keys in etcd that end with their owner, and the truth about until when they may be relied upon.

*Guarantee.* Until `deadline`, on the boot-time clock, no other session can have what stands under this one.
`check()` compares with that clock at every call, so that a process that stood still, or a machine that was
suspended, does not go on with what it believed before. A session that is lost never comes back: an owner that
still wants what it held opens another one.

*Not guaranteed.* etcd may take a living lease away early (see `rules`): then the watch on our own keys
tells within its delivery. And no check made here reaches into a resource elsewhere; that takes a fencing token.

One lease, renewed by the `LeaseRenewer` of all sessions; its keys are in `SessionKeys`, and watched by the
`KeyWatches` of all sessions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import anyio

from tideover import telemetry
from tideover.client.client import Client
from tideover.client.direct import DirectCalls
from tideover.errors import Closed, SessionLost
from tideover.sessions.key import LeasedKey, Notice
from tideover.sessions.keys import SessionKeys
from tideover.sessions.lease import LeaseState
from tideover.sessions.lookout import Lookout
from tideover.sessions.scopes import BoundScopes
from tideover.shown import quoted
from tideover.status import SessionStatus
from tideover.store.faults import FaultKind, StoreFault
from tideover.store.leases import LeaseRevoke
from tideover.store.operations import Range
from tideover.types import Component, SessionState

_ORPHANED = "orphaned by its owner"
_CLOSED = "closed by its owner"
# Seconds that giving a key back may take before it is left to the next renewal.
_GIVE_BACK = 2.0
# Seconds that are left at the end of closing for saying what went wrong.
_LAST_WORD = 0.05


class Session:
    """One lease in etcd, kept alive and proven, and the keys that stand under it.

    Made by `Coordinator.session`.

    Attributes:
        bodies: What is cancelled when it may not be relied upon any more.
        ended: Given when its owner is done with it.
    """

    def __init__(
        self,
        client: Client,
        tenure: LeaseState,
        holdings: SessionKeys,
        *,
        direct: DirectCalls,
        lookout: Lookout,
    ) -> None:
        self._tenure = tenure
        self._holdings = holdings
        self._home = client.home
        self._direct = direct
        self._clock = client.clock
        self._base = client.base
        self._poison: str | None = None
        self._closed = False
        self._forgotten = False
        self.bodies = BoundScopes(tenure, holdings, lookout=lookout, component=client.component)
        self._component: Component = client.component
        self._left_behind: str | None = None
        self.ended = Notice()

    def __repr__(self) -> str:
        """Show the lease, the state, the time left and the number of keys."""
        if self._poison is not None:
            return f"<Session {self._tenure.lease_id:x} of another process>"
        keys = len(list(self._holdings))
        return f"<Session {self._tenure.lease_id:x} {self.state}, {self._tenure.left:.1f} s left, {keys} keys>"

    # What may be believed --------------------------------------------------------------------------------------

    @property
    def tenure(self) -> LeaseState:
        """Its lease."""
        return self._tenure

    @property
    def lease_id(self) -> int:
        """The lease in etcd; `etcdctl` shows it in hexadecimal."""
        return self._alive.lease_id

    @property
    def ttl(self) -> int:
        """Seconds that etcd waits for a renewal, as asked for."""
        return self._alive.rules.ttl

    @property
    def renew_interval(self) -> float:
        """Seconds from one renewal to the next."""
        return self._alive.rules.renew_interval

    @property
    def deadline(self) -> float:
        """Until when the session may be relied upon, unless it is lost: seconds of the boot-time clock.

        That is `time.clock_gettime(time.CLOCK_BOOTTIME)`, or `time.monotonic()` where there is none. It moves
        with every proven renewal.
        """
        return self._alive.deadline

    @property
    def state(self) -> SessionState:
        """The state now, by the clock; see `SessionState`."""
        return self._alive.state

    @property
    def lost(self) -> Notice:
        """Given when the session is lost for good: `why = await session.lost`, or `if session.lost:`."""
        self._alive.settle()
        return self._tenure.lost

    @property
    def keys(self) -> tuple[LeasedKey, ...]:
        """The keys held, in the order they were made."""
        _ = self._alive
        return tuple(self._holdings)

    def check(self) -> None:
        """Return if what stands under the session may be relied upon at this very moment. No I/O, in any thread.

        Raises:
            SessionLost: It may not; the message says why.
            Closed: This is a forked child.

        When degraded:
            Passes until the deadline, then raises.
        """
        loss = self.loss()
        if loss is not None:
            raise loss

    def loss(self) -> SessionLost | None:
        """Return what `check` would raise; None if it would return."""
        return self._alive.loss()

    @property
    def silence(self) -> float:
        """Seconds since the last sign of life of what watches its keys; infinity if nothing does."""
        return self._holdings.silence

    def report(self) -> SessionStatus:
        """Return what `status()` shows of it."""
        lease = self._alive.lease
        now = self._clock.boot()
        return SessionStatus(
            lease_id=f"{self._tenure.lease_id:x}",
            ttl=lease.rules.ttl,
            state=self.state,
            seconds_left=max(0.0, lease.deadline - now) if lease.over is None else 0.0,
            keys=tuple(own.key for own in self._holdings),
            member=self._tenure.member,
            last_proof=max(0.0, now - self._tenure.proven_at),
            error=lease.over or lease.failing or lease.doubt(now),
            debris=self._holdings.debris,
            component=self._component,
        )

    # Keys ------------------------------------------------------------------------------------------------------

    async def put(self, key: str, value: str | bytes = b"") -> LeasedKey:
        """Make a key that ends with the session, or write one of its own again.

        A lost reply is settled before this returns: the key is there and is this session's, or this raises. What
        may be there all the same, now or later, is deleted before the session counts as proven again.

        Args:
            key: The key; `{namespace}/{key}` in etcd.
            value: Its value.

        Returns:
            The key, with its revisions and a notice of its end.

        Raises:
            KeyTaken: It exists and belongs to another owner.
            SessionLost: The session may not be relied upon.
            Unavailable: etcd is away.
            OutcomeUnknown: No verdict came in time; see above.
            PermissionDenied: This user may not write it.
            Closed: The session is closed, or this is a forked child.
            WrongLoop: This is another event loop than the coordinator's; nothing was sent.

        When degraded:
            Waits within the retry policy's timeout, and once an outage is declared raises `CircuitOpen` at once.
        """
        return await self.claim(key, value)

    async def claim(self, key: str, value: str | bytes = b"", *, reads: Sequence[Range] = ()) -> LeasedKey:
        """Do as `put`, and read in the same transaction; the answers are in `LeasedKey.reads`. Raises as `put`."""
        full = self._writable(key)
        return await self._holdings.write(key, full, value.encode() if isinstance(value, str) else value, reads)

    async def make(self, values: Mapping[str, bytes]) -> list[LeasedKey] | None:
        """Make many keys that end with the session, in one transaction.

        Args:
            values: Their values; as many as etcd takes in one transaction, one condition more than keys.

        Returns:
            The keys, in their order. None: nothing was written, because one of them exists, or its name is still
            to be cleared; `put` tells of each.

        Raises:
            TideoverError: As of `put`. None of them is held then; what may be there is deleted before the session
                counts as proven again.

        When degraded:
            As `put`.
        """
        return await self._holdings.make({(key, self._writable(key)): value for key, value in values.items()})

    def _writable(self, key: str) -> bytes:
        """Return a key's name in etcd, if something may be written under the session now."""
        self._home.check(self)
        self.check()
        if self._closed:
            raise Closed(f"{self!r} is being closed")
        if not key or "\0" in key:
            raise ValueError(f"a key must be text without NUL, and not empty, not {quoted(key)}")
        return f"{self._base}{key}".encode()

    async def delete(self, key: str | LeasedKey) -> bool:
        """Give a key back; one that the session does not hold is left alone.

        Args:
            key: The key.

        Returns:
            Whether it is known to be gone. If not, because etcd cannot be asked, it is deleted before the session
            counts as proven again.

        Raises:
            Closed: This is a forked child.
            WrongLoop: This is another event loop than the coordinator's; nothing was sent.

        When degraded:
            Tries for 2 s, breaker or not, then returns False.
        """
        self._home.check(self)
        own = key if isinstance(key, LeasedKey) else next((own for own in self._holdings if own.key == key), None)
        return True if own is None else await self._holdings.give_back(own, _GIVE_BACK)

    # Life ------------------------------------------------------------------------------------------------------

    def bind(self, scope: anyio.CancelScope, *, at_deadline: bool = True) -> None:
        """Cancel a scope as soon as the session may not be relied upon; `unbind` it when its body has ended.

        `at_deadline` says whether passing the deadline is reason enough, or only a loss for good.
        """
        self._home.check(self)
        self.bodies.bind(scope, at_deadline=at_deadline)

    def unbind(self, scope: anyio.CancelScope) -> None:
        """Do not cancel a scope any more."""
        self.bodies.unbind(scope)

    def lose(self, why: str, *, revision: int | None = None) -> None:
        """End the session for good, for a reason from outside.

        `revision` is where etcd is in another history, if that is it: what was made at a later one is not in it.
        """
        self._forgotten = revision is not None and revision < self._tenure.anchor.create_revision
        self._tenure.end(why)

    def orphan(self) -> None:
        """Keep the lease and its keys in etcd, but renew them no more.

        They go when the lease ends by itself, at the latest a TTL and a second after the last renewal. For this
        process the session is over: `lost` is given, and `check` raises.

        Raises:
            Closed: This is a forked child.
            WrongLoop: This is not the coordinator's event loop.

        When degraded:
            The same; nothing is sent.
        """
        self._home.check(self)
        self._closed = True
        self._finish(_ORPHANED)

    @property
    def orphaned(self) -> bool:
        """Whether `orphan` was called."""
        return self.ended.reason == _ORPHANED

    async def aclose(self, timeout: float) -> str | None:
        """Let writes under way come to their end, then take the lease and its keys away. Again is a no-op.

        `timeout` is seconds for all of it. What cannot be revoked ends by itself, a TTL after its last renewal.
        Returns why lease and keys may still be in etcd; None if they are known to be gone.
        """
        if self._closed or self._poison is not None:
            return self._left_behind
        self._home.check(self)
        self._closed = True
        keys = [own.key for own in self._holdings]
        self._left_behind = "etcd has not answered in time"
        until = anyio.current_time() + timeout
        with anyio.move_on_after(timeout, shield=True):
            try:
                with anyio.move_on_after(timeout / 2):
                    await self._holdings.drained()
            finally:
                # Before the lease is revoked, so that this is not taken for etcd's doing.
                self._finish(_CLOSED)
            self._left_behind = (
                None if self._forgotten else await self._revoke(keys, until - anyio.current_time() - _LAST_WORD)
            )
        return self._left_behind

    async def _revoke(self, keys: Sequence[str], timeout: float) -> str | None:
        """Revoke the lease; return why that may not have been done."""
        try:
            await self._direct.ask(LeaseRevoke(self._tenure.lease_id), timeout=timeout)
        except StoreFault as exc:
            if exc.fault.kind is FaultKind.LEASE_NOT_FOUND:
                return None
            self._tell_left(keys, exc.fault.brief)
            return exc.fault.brief
        return None

    def _tell_left(self, keys: Sequence[str], why: str) -> None:
        # A registration says so itself.
        if keys and self._component != "discovery":
            within = self._tenure.rules.ttl + 1
            telemetry.session_left(self._tenure.lease_id, keys, why, component=self._component, within=within)

    def _finish(self, why: str) -> None:
        if why == _ORPHANED:
            self.bodies.release()
        self._tenure.end(why)
        self.ended.give(why)
        for own in self._holdings:
            self._holdings.forget(own, why)
        if why == _CLOSED:
            self.bodies.close()

    def poison(self, why: str) -> None:
        """Refuse everything from now on: this is a forked child, and the session has stayed with the parent."""
        self._poison = why

    @property
    def _alive(self) -> LeaseState:
        if self._poison is not None:
            raise Closed(self._poison)
        return self._tenure
