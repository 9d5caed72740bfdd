"""One registration as a desired state: whatever happens, its key is put into etcd again.

1. Wait until etcd can be asked. After an outage, or when the lease was lost, wait for a share of a few seconds
   more, because all others come back at the same time.
2. Open a session of its own: so its lease never takes another registration with it, nor a lock.
3. Put the key, and again whenever what it is to say changes, or it was deleted by somebody.
4. When the session is lost, begin again. Nothing ends this but the owner.
5. At the end say that it leaves, and then give the lease up: a key that just vanishes is one whose owner may have
   been slow, and followers would hold it in their lists for a while.

In an outage nothing needs to be done: etcd keeps leases as long as it has no leader, and gives them their full
time again when it has one. The watch on the key tells when it is gone, and once a minute it is looked at all the
same: a key that was missed for whatever reason would be missed for ever.

The key ends in the incarnation, which nobody else has, and what is deleted is the lease of it. So an old process
takes nothing away from its successor.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace

import anyio

from tideover import telemetry
from tideover.broadcast import Signal
from tideover.client.gateway import Gateway
from tideover.clock import Clock
from tideover.cluster.state import Lanes
from tideover.discovery.endpoint import Endpoint
from tideover.errors import (
    Closed,
    KeyTaken,
    OutcomeUnknown,
    SessionLost,
    TideoverError,
    Unavailable,
)
from tideover.registration.registration import Registration
from tideover.registration.rules import Comeback, Setback, share_of
from tideover.sessions.key import Notice, OwnKey
from tideover.sessions.pool import SessionPool
from tideover.sessions.session import Session
from tideover.status import RegistrationStatus
from tideover.store.operations import Delete, Range
from tideover.store.transactions import Compare, Txn
from tideover.types import RegistrationState

# Seconds between two looks at a key that nobody has said anything about, full jitter above a half.
_LOOK_EVERY = 60.0
# Seconds for the last word, which is a courtesy: the key goes all the same.
_FAREWELL_TIMEOUT = 0.5
# Seconds by which etcd may end a lease late: it looks twice a second, and the leader of a moment ago has its own.
_LEASE_LATENESS = 1.5
# What may be otherwise at the next try. Every other error is a definite no.
_PASSING = (Unavailable, OutcomeUnknown, SessionLost)


class Publisher:
    """Keeps one endpoint in etcd.

    Args:
        registration: What is registered.
        base: What goes before the name of a key in etcd.
        pool: Where to open sessions.
        gateway: The way to etcd.
        lanes: Whether an outage is declared.
        clock: The clocks.
        chance: Draws a number uniformly from [0, 1).

    Attributes:
        endpoint: What is to be in etcd.
        changed: Fires when any of this changed.
        settled: Set once it is known how the first try went.
        unwanted: Set when it is to be given up, by whoever cannot wait for that.
        ended: Given when it is given up.
        error: Why it is not there, or not as it is to be; None while all is well.
        comebacks: How often it was put there again after it had been lost.
    """

    def __init__(
        self,
        registration: Registration,
        *,
        base: str,
        pool: SessionPool,
        gateway: Gateway,
        lanes: Lanes,
        clock: Clock,
        chance: Callable[[], float],
    ) -> None:
        self.endpoint = registration.endpoint(_draw())
        self.changed = Signal()
        self.settled = anyio.Event()
        self.unwanted = anyio.Event()
        self.ended = Notice()
        self.error: str | None = None
        self.comebacks = 0
        self._ttl = registration.ttl
        self._base = base
        self._pool = pool
        self._gateway = gateway
        self._lanes = lanes
        self._clock = clock
        self._chance = chance
        self._comeback = Comeback()
        self._session: Session | None = None
        self._own: OwnKey | None = None
        self._written: Endpoint | None = None
        self._news = Signal()
        self._since = clock.monotonic()
        self._was_there = False

    def __repr__(self) -> str:
        """Show the service, the instance and the state."""
        return f"<Publisher {self.endpoint.service!r} {self.endpoint.instance} {self.state}>"

    @property
    def state(self) -> RegistrationState:
        """The state now; see `RegistrationState`."""
        if self.ended:
            return RegistrationState.ENDED
        own, session = self._own, self._session
        if own is None or own.gone or session is None or session.lost:
            return RegistrationState.REFUSED if self._comeback.refused else RegistrationState.WAITING
        return RegistrationState.UNCONFIRMED if session.loss() else RegistrationState.REGISTERED

    @property
    def is_current(self) -> bool:
        """Whether etcd has what it is to have, as far as is known."""
        return self.state is RegistrationState.REGISTERED and self._written == self.endpoint

    def report(self) -> RegistrationStatus:
        """Return what `status()` shows of it."""
        endpoint = self.endpoint
        return RegistrationStatus(
            service=endpoint.service,
            instance=endpoint.instance,
            incarnation=endpoint.incarnation,
            url=endpoint.url,
            weight=endpoint.weight,
            state=self.state,
            seconds=self._clock.monotonic() - self._since,
            comebacks=self.comebacks,
            error=self.error or self._doubt(),
        )

    def _doubt(self) -> str | None:
        session = self._session
        loss = None if session is None or self.ended else session.loss()
        return None if loss is None else str(loss)

    def change(self, endpoint: Endpoint) -> None:
        """Let something else be in etcd."""
        self.endpoint = endpoint
        self._news.fire()

    # Coming to be there, and staying there ---------------------------------------------------------------------

    async def run(self) -> None:
        """Keep it there until cancelled."""
        while True:
            await self._ready()
            await self._drop()
            try:
                self._session = await self._pool.open(self._ttl, component="discovery")
            except TideoverError as exc:
                self._set_back(exc)
                continue
            await self._stay(self._session)

    async def close(self) -> None:
        """Take it away, and say what has become of it; bounded in time. `run` has ended."""
        session, own = self._session, self._own
        there = session is not None and own is not None and not own.gone
        left_behind: str | None = "etcd has not answered in time"
        try:
            if session is not None and there and self._usable:
                leaving = replace(self.endpoint, leaving=True)
                with anyio.move_on_after(_FAREWELL_TIMEOUT), suppress(TideoverError):
                    await session.put(leaving.key, leaving.encode())
            left_behind = await self._drop()
        finally:
            self._tell_end(left_behind, there=there)

    def _tell_end(self, left_behind: str | None, *, there: bool) -> None:
        endpoint, level = self.endpoint, logging.INFO
        if left_behind is None:
            what = "deregistered" if there else "given up while it was not in etcd"
        else:
            level = logging.WARNING
            why = left_behind if self._usable else self._lanes.sentence
            what = (
                f"given up, but not deregistered ({why}): its key {'stays' if there else 'may stay'} in etcd "
                f"for {self._ttl + _LEASE_LATENESS:g} s at the most, counted from when etcd has a leader again"
            )
        telemetry.registration_changed(endpoint.service, endpoint.instance, what, level=level)

    async def _drop(self) -> str | None:
        """Close the session that was used until now, if there is one.

        Returns:
            Why its keys may still be in etcd; None if they are gone.
        """
        session, self._session, self._own = self._session, None, None
        # A lost one, too: restored from a backup, its lease may be there again, with the key as it was.
        return None if session is None else await self._pool.close(session)

    async def _ready(self, session: Session | None = None) -> None:
        """Wait until it makes sense to try, or the session is lost: then there is another way to begin."""
        async with anyio.create_task_group() as tasks:
            if session is not None:
                tasks.start_soon(_cancel_at, session.lost, tasks.cancel_scope)
            await self._until_ready()
            tasks.cancel_scope.cancel()

    async def _until_ready(self) -> None:
        while True:
            if not self._usable:
                self._meet(Setback.OUTAGE, self._lanes.brief)
                while not self._usable:
                    await self._lanes.changed.wait()
            share = share_of(self.endpoint.incarnation)
            await anyio.sleep(self._comeback.delay(share=share, chance=self._chance()))
            if self._usable:
                return

    @property
    def _usable(self) -> bool:
        return self._lanes.health.quorum.closed

    async def _stay(self, session: Session) -> None:
        """Keep the key there as long as the session is not lost."""
        while not session.lost:
            news, own = self._news.next(), self._own
            if own is not None and own.gone:
                self._own = None
                if not session.lost:
                    self._comeback = self._comeback.lasted(self._clock.monotonic() - self._since)
                    self._meet(Setback.DELETED, f"its key is gone: {own.gone.reason}")
                    await self._ready(session)
            elif own is not None and self._written == self.endpoint:
                await self._watch(session, own, news)
            elif not await self._write(session):
                # What is to be written may be another thing by then, and possible.
                await self._ready(session)
        self._own = None
        self._meet(Setback.LOST, f"its lease has ended: {session.lost.reason}")

    async def _write(self, session: Session) -> bool:
        """Write what is to be there; return whether that was possible."""
        wanted = self.endpoint
        try:
            own = await session.put(wanted.key, wanted.encode())
        except KeyTaken:
            await self._give_way(session, wanted)
            return True
        except TideoverError as exc:
            if not session.lost:
                self._set_back(exc)
            return bool(session.lost)
        fresh, self._own, self._written = self._own is not own, own, wanted
        self._comeback, self.error = self._comeback.there(), None
        if fresh:
            self._since = self._clock.monotonic()
            self.comebacks += self._was_there
            self._tell("registered again" if self._was_there else "registered")
            self._was_there = True
        self.settled.set()
        self.changed.fire()
        return True

    async def _give_way(self, session: Session, taken: Endpoint) -> None:
        """Draw another incarnation, because there is a key of ours under a lease that is not.

        From a backup, for one: then it goes with its lease. If it has none, because it was mirrored or somebody
        has written it by hand, nobody else would ever delete it.
        """
        own, self._own = self._own, None
        if own is not None:
            await session.delete(own)
        full = f"{self._base}{taken.key}".encode()
        self.endpoint = replace(self.endpoint, incarnation=_draw())
        self._tell(f"its key {full!r} is there from another time; it is registered under another incarnation")
        read = Range(full, keys_only=True)
        try:
            await self._gateway.call(Txn((Compare(full, lease=0),), then=(Delete(full),), otherwise=(read,)))
        except TideoverError as exc:
            self._tell(f"{full!r} may stay although nobody holds it: {exc}", logging.WARNING)

    def _tell(self, what: str, level: int = logging.INFO) -> None:
        telemetry.registration_changed(self.endpoint.service, self.endpoint.instance, what, level=level)

    async def _watch(self, session: Session, own: OwnKey, news: anyio.Event) -> None:
        """Wait until there is something to do, and look at the key now and then."""
        with anyio.move_on_after(_LOOK_EVERY * (0.5 + 0.5 * self._chance())):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_cancel_at, own.gone, tasks.cancel_scope)
                tasks.start_soon(_cancel_at, session.lost, tasks.cancel_scope)
                tasks.start_soon(self._show_changes)
                await news.wait()
                tasks.cancel_scope.cancel()
            return
        if not await self._is_ours(session, own):
            self._written = None

    async def _show_changes(self) -> None:
        """Let those who wait see that the state has changed: it goes by the clock, and by the health."""
        shown = self.state
        while True:
            await self._lanes.changed.wait(1.0)
            if self.state is not shown:
                self._tell_doubt(shown, self.state)
                shown = self.state
                self.changed.fire()

    def _tell_doubt(self, before: RegistrationState, now: RegistrationState) -> None:
        if now is RegistrationState.UNCONFIRMED:
            why = self._doubt()
            self._tell(f"unconfirmed: its key stays in etcd as long as etcd is away ({why})", logging.WARNING)
        elif (before, now) == (RegistrationState.UNCONFIRMED, RegistrationState.REGISTERED):
            self._tell("confirmed again")

    async def _is_ours(self, session: Session, own: OwnKey) -> bool:
        """Look whether the key is as it was written, and ends with the lease."""
        condition = Compare(own.full, mod_revision=own.mod_revision, lease=session.lease_id)
        read = Range(own.full, keys_only=True)
        try:
            answered = await self._gateway.call(Txn((condition,), then=(read,), otherwise=(read,)))
        except TideoverError:
            return True
        return answered.result.succeeded

    # Setbacks --------------------------------------------------------------------------------------------------

    def _set_back(self, exc: TideoverError) -> None:
        if isinstance(exc, Closed):
            raise exc
        self._meet(Setback.FAILED if isinstance(exc, _PASSING) else Setback.REFUSED, str(exc))

    def _meet(self, setback: Setback, why: str) -> None:
        """Take in what has gone wrong, and say so once."""
        was_refused = self._comeback.refused
        self._comeback = self._comeback.after(setback)
        if setback is Setback.REFUSED and not was_refused:
            self._tell(f"refused: {why}", logging.ERROR)
        elif setback in (Setback.LOST, Setback.DELETED) or (setback is Setback.OUTAGE and self.error is None):
            self._tell(why, logging.WARNING)
        if setback in (Setback.LOST, Setback.DELETED):
            self._since = self._clock.monotonic()
        self.error = why
        if setback in (Setback.OUTAGE, Setback.REFUSED):
            self.settled.set()
        self.changed.fire()


async def _cancel_at(notice: Notice, scope: anyio.CancelScope) -> None:
    await notice.wait()
    scope.cancel()


def _draw() -> str:
    """Return the name of one incarnation: nobody else draws the same."""
    return secrets.token_hex(8)
