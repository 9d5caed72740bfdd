"""The locks of one coordinator: given, taken back, told of outages, and closed."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Any

import anyio

from tideover import telemetry
from tideover.broadcast import Broadcast
from tideover.client.client import Client
from tideover.client.lifecycle import Lifecycle
from tideover.client.parts import Part
from tideover.errors import CircuitOpen, LockConflict, LockLost, LockTimeout
from tideover.holders import process_name
from tideover.locks.cohort import Cohort
from tideover.locks.etcd_queue import EtcdQueue
from tideover.locks.grant import Grant
from tideover.locks.host_queue import HostLocking, Hosts
from tideover.locks.journal import LockJournal
from tideover.locks.ledger import Ledger, report_overlap
from tideover.locks.ledger_file import LedgerFile
from tideover.locks.lock import Lock
from tideover.locks.options import LockOptions, OnOutage, check_name, wish
from tideover.locks.recovery import reconcile
from tideover.policies import Profile
from tideover.sessions.key import anchors
from tideover.sessions.pool import SessionPool
from tideover.sessions.session import Session
from tideover.shown import quoted
from tideover.status import LockConflictStatus, LockStatus, LockWaitStatus, RejectedValue
from tideover.store.operations import Lane
from tideover.types import Diagnosis, HealthState, LockMode

# Seconds between two notes in the ledger, during an outage, that what is held is still held.
_ALIVE_EVERY = 5.0
# Up to so many seconds after an outage until the ledger is published: many do that at the same time.
_PUBLISH_WITHIN = 1.0


class Locks(Part):
    """Gives the locks of one coordinator.

    Args:
        client: The way to etcd.
        profile: What a lock does in an outage unless it says otherwise.
        pool: The sessions.
        hosts: What holds the host locks.
        ledger_file: Makes this process's ledger file from its name; None if nothing goes to disk.
        record_names: Whether spans may name locks.

    Attributes:
        clock: The clocks.
        home: The event loop they belong to.
        hosts: The host locks.
        changed: Fires when anything is known anew of etcd.
        name: Returns the name of this process, for people.
    """

    def __init__(
        self,
        client: Client,
        *,
        profile: str,
        pool: SessionPool,
        hosts: HostLocking,
        ledger_file: Callable[[str], LedgerFile] | None,
        record_names: bool,
    ) -> None:
        self._client = client
        self.clock = client.clock
        self.home = client.home
        self.hosts = Hosts(hosts, chance=client.random)
        self.changed = client.state.changed
        self.name = client.process_name
        self.chance = client.random
        self.epoch = client.epoch
        self.boot = client.clock.boot
        self._namespace = client.namespace
        self._base = client.base
        self._default: OnOutage = "local" if profile == Profile.AVAILABILITY else "fail"
        self._gateway = client.calls
        self._cluster = client.state
        self._pool = pool
        self._record_names = record_names
        owner = secrets.token_hex(8)
        self._ledger = Ledger(
            self._base,
            file=ledger_file(owner) if ledger_file is not None else None,
            owner=owner,
            where=process_name(),
            gateway=client.calls,
            clock=client.clock,
            report=report_overlap,
        )
        self._books = LockJournal(self._ledger, client.state, clock=client.clock, outage_id=client.outage_id)
        self._cohorts: dict[tuple[str, int], Cohort] = {}
        self._active: dict[Grant, Cohort] = {}
        self._life = Lifecycle()
        self._closed = False
        self._host_error: str | None = None
        self._used = False
        self._in_outage = False
        self._to_publish = False
        self._news = Broadcast()

    def __repr__(self) -> str:
        """Count what is held and waited for."""
        waiting = sum(cohort.waiting for cohort in self._cohorts.values())
        return f"<Locks {len(self._active)} held, {waiting} waited for>"

    def lock(
        self,
        name: str,
        ttl: int,
        timeout: float | None,
        on_outage: OnOutage | None,
        handover: bool,
        lock_delay: float,
    ) -> Lock:
        """Return a lock to be entered; see `Coordinator.lock`."""
        asked = self._default if on_outage is None else on_outage
        return Lock(self, check_name(name), wish(ttl, timeout, asked, handover, lock_delay))

    # Giving and taking back ------------------------------------------------------------------------------------

    async def acquire(self, name: str, wish: LockOptions, *, inside: bool = False) -> Grant:
        """Wait for a lock; see `Coordinator.lock`.

        Args:
            name: The lock.
            wish: What is wanted.
            inside: Whether the caller is inside a body of this very lock.

        Raises:
            RuntimeError: It would wait for itself, for ever.
            TideoverError: As `Coordinator.lock` says.
        """
        self._life.check()
        itself = f"lock {quoted(name)} is held by the very body that wants it again: a lock is not reentrant"
        if inside and wish.timeout is None:
            raise RuntimeError(f"{itself}, and this would wait for ever")
        if not self._used:
            self._used = True
            self._news.fire()
        cohort = self._cohorts.get((name, wish.ttl))
        if cohort is None:
            cohort = self._cohorts[name, wish.ttl] = Cohort(name, wish.ttl, self)
        began, outcome = self.clock.monotonic(), "refused"
        try:
            grant = await self._wait(cohort, wish)
            outcome = "ok" if grant.mode is LockMode.DISTRIBUTED else "local"
        except LockTimeout as exc:
            outcome = "timeout"
            if inside:
                raise LockTimeout(itself) from exc
            raise
        finally:
            self.settled(cohort)
            waited = self.clock.monotonic() - began
            telemetry.lock_waited(outcome, waited, degraded=self.outage_declared())
        self._enter(grant, cohort)
        return grant

    async def _wait(self, cohort: Cohort, wish: LockOptions) -> Grant:
        if not wish.timeout:
            return await cohort.acquire(wish)
        with anyio.move_on_after(wish.timeout):
            return await cohort.acquire(wish)
        raise LockTimeout(f"lock {cohort.name!r} was not to be had within {wish.timeout:g} s: {self._why(cohort)}")

    def acquiring(self, name: str) -> AbstractContextManager[object]:
        """Record a wait for etcd, or for this machine."""
        return telemetry.acquiring(self._namespace, name if self._record_names else None)

    def holder(self, name: str, wish: LockOptions) -> str:
        """Return who has a lock that is waited for here, for people; empty if that is not known."""
        cohort = self._cohorts.get((name, wish.ttl))
        return "" if cohort is None else cohort.front.holder or ""

    def _why(self, cohort: Cohort) -> str:
        if self._cluster.suspected or self.outage_declared():
            return self._cluster.sentence
        place = cohort.front.place
        held_here = place is not None and place.holder is not None
        return f"this process has it: {self.name()}" if held_here else cohort.front.others

    def _enter(self, grant: Grant, cohort: Cohort) -> None:
        self._active[grant] = cohort
        self._books.began(grant, outage=self.outage_declared())

    def release(self, grant: Grant) -> None:
        """Take a lock back; never waits."""
        cohort = self._active.pop(grant)
        self._books.ended(grant)
        cohort.release(grant)

    # What cohorts and holds need -------------------------------------------------------------------------------

    def queue(self, name: str) -> EtcdQueue:
        """Return etcd's line for a name."""
        return EtcdQueue(
            f"{self._base}locks/{name}/".encode(),
            anchors=anchors(self._base),
            gateway=self._gateway,
            direct=self._client.direct,
            cluster=self._cluster,
            chance=self.chance,
        )

    async def session(self, ttl: int) -> Session:
        """Return the session that all locks of a ttl share."""
        return await self._pool.shared(ttl)

    def refusal(self) -> CircuitOpen | None:
        """Return why calls are refused now; None if they are not.

        Raises:
            AuthenticationFailed: etcd refuses this client's credentials.
            Closed: The coordinator is closed.
        """
        self._life.check()
        if self._cluster.health.quorum.closed:
            return None
        try:
            self._gateway.admit(Lane.QUORUM)
        except CircuitOpen as exc:
            return exc
        return None

    def outage_declared(self) -> bool:
        """Whether an outage is declared."""
        return not self._cluster.health.quorum.closed and not self._cluster.unauthorized

    def is_away(self) -> bool:
        """Whether etcd is away: an outage is declared, or about to be, and it is no leader change."""
        health = self._cluster.health
        failing = health.quorum.failing_since is not None and health.diagnosis is not Diagnosis.UNAUTHORIZED
        return failing or self.outage_declared()

    async def recovery(self) -> None:
        """Wait until no outage is declared, or the coordinator is closed."""
        while self.outage_declared() and self._life.is_open:
            await self._cluster.changed.wait()

    def start(self, task: Callable[..., Awaitable[object]], *args: Any) -> bool:
        """Do something in the background; return whether that is still possible."""
        return not self._closed and self.home.start(f"lock: {task.__name__}", task, *args)

    def host_failed(self, error: OSError) -> None:
        """Take in that this machine has no place for host locks."""
        text = f"host locks do not work, so that no lock can be LOCAL here: {error}"
        if self._host_error != text:
            telemetry.locks_unhosted(f"host locks do not work: {error}", level=logging.ERROR)
        self._host_error = text

    def settled(self, cohort: object) -> None:
        """Take in that a cohort has nothing under way any more."""
        if isinstance(cohort, Cohort) and cohort.idle:
            self._cohorts.pop((cohort.name, cohort.ttl), None)

    def turned(self, grant: Grant, why: str) -> None:
        """Take in that a hold stands on other ground."""
        self._books.turned(grant, why)
        if grant.mode is LockMode.LOCAL and not self.outage_declared():
            # Should etcd be back before an outage is declared, nothing else would bring it to the front.
            self.start(reconcile, self._active[grant], grant, self)

    def ended(self, grant: Grant, error: LockLost | LockConflict) -> None:
        """Take in that a hold was lost while its body runs."""
        self._books.lost(grant, error)

    # Outages ---------------------------------------------------------------------------------------------------

    def health_changed(self) -> None:
        """Take in that an outage was declared or is over, in the very moment; the same news again is none."""
        outage = self.outage_declared()
        if outage == self._in_outage:
            return
        self._in_outage = outage
        if outage:
            self._books.touched(self._active)
            for cohort in list(self._cohorts.values()):
                cohort.outage()
            return
        # At once: those who have waited for the end of the outage take a moment.
        for grant, cohort in list(self._active.items()):
            if grant.is_local:
                self.start(reconcile, cohort, grant, self)
        self._to_publish = True
        self._news.fire()

    async def run(self) -> None:
        """Follow the health, and keep the ledger."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._tell)
            while True:
                self.health_changed()
                if not await self._cluster.changed.wait(_ALIVE_EVERY if self._in_outage else None):
                    self._ledger.alive()

    async def _tell(self) -> None:
        """Publish the ledger after outages, and look at what others publish, once any lock was used."""
        while True:
            news = self._news.next()
            if self._used and not self.outage_declared() and not self._cluster.unauthorized:
                if self._to_publish:
                    self._to_publish = False
                    await anyio.sleep(_PUBLISH_WITHIN * self.chance())
                    await self._ledger.recovered()
                else:
                    await self._ledger.look()
            with anyio.move_on_after(self._ledger.pause if self._used else None):
                await news.wait()

    # Life ------------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Serve: the coordinator is open."""
        self._life.open()

    async def aclose(self, why: str) -> None:
        """Give no more locks, and see what was given back out; bounded in time."""
        self._life.close(why)
        for cohort in list(self._cohorts.values()):
            cohort.close()
        self._cluster.changed.fire()
        with anyio.move_on_after(self._cluster.closing.seconds(), shield=True):
            for cohort in list(self._cohorts.values()):
                await cohort.front.released()
        await self._ledger.aclose(published=self._cluster.health.state is HealthState.AVAILABLE)
        self.hosts.close()
        # Bodies that still run lose their session, and have nothing to give back.
        self._closed = True

    def poison(self, why: str) -> None:
        """Refuse everything: this is a forked child."""
        self._life.poison(why)
        self._ledger.close()

    def status(self) -> tuple[tuple[LockStatus, ...], tuple[LockConflictStatus, ...], str | None]:
        """Return what `status()` shows: locks, conflicts, and what does not work."""
        locks = tuple(self._books.describe(grant, cohort.waiting) for grant, cohort in list(self._active.items()))
        return locks, self._books.conflicts(), self._host_error or self._ledger.error

    @property
    def hosted(self) -> bool:
        """Whether this machine has a place for host locks, as far as is known."""
        return self._host_error is None

    def waits(self) -> tuple[LockWaitStatus, ...]:
        """Return what is waited for, and not held, here."""
        held = {grant.name for grant in list(self._active)}
        waits = (cohort.waits for cohort in list(self._cohorts.values()) if cohort.name not in held)
        return tuple(found for found in waits if found is not None)

    @property
    def rejected(self) -> tuple[RejectedValue, ...]:
        """What is foreign where processes publish what they have held, and in the lines that are waited in."""
        waited = (each for cohort in list(self._cohorts.values()) for each in cohort.front.foreign)
        return (*self._ledger.rejected.values(), *waited)

    async def published_conflicts(self) -> tuple[LockConflictStatus, ...]:
        """Return all conflicts that follow from what all processes have published."""
        return await self._books.published_conflicts()
