"""The locks of one coordinator: given and taken back, followed through outages, and closed."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import anyio

from tideover.broadcast import Broadcast
from tideover.client.client import Client
from tideover.client.parts import Part
from tideover.errors import Closed, LockTimeout
from tideover.locks.cohort import Cohort
from tideover.locks.context import LockContext
from tideover.locks.grant import Grant
from tideover.locks.host_queue import HostLocking, Hosts
from tideover.locks.journal import LockJournal
from tideover.locks.ledger import Ledger
from tideover.locks.ledger_file import LedgerFile
from tideover.locks.options import LockOptions, OnOutage
from tideover.locks.recovery import reconcile
from tideover.locks.warm_places import WarmPlaces
from tideover.locks.watchdog import Watchdog
from tideover.policies import Profile
from tideover.sessions.pool import SessionPool
from tideover.shown import quoted
from tideover.status import LockConflictStatus, LockStatus, LockWaitStatus, RejectedValue
from tideover.types import HealthState, LockMode

# Seconds between two notes in the ledger, during an outage, that what is held is still held.
_ALIVE_EVERY = 5.0
# Up to so many seconds after an outage until the ledger is published: many do that at the same time.
_PUBLISH_WITHIN = 1.0
# How many cohorts without a task are kept for a name that is wanted again.
_MOST_IDLE = 8
# A scope costs more than the rest of an attempt that has no need of one.
_NO_TIMEOUT: AbstractContextManager[object] = nullcontext()


class Locks(Part):
    """Gives the locks of one coordinator.

    `ledger_file` makes this process's ledger file from its name; None if nothing goes to disk. `on_outage` is what
    a lock does in an outage unless its options say otherwise.
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
        self.on_outage: OnOutage = "local" if profile == Profile.AVAILABILITY else "fail"
        self.home = client.home
        self._cluster = client.state
        owner = secrets.token_hex(8)
        self._ledger = Ledger(client, owner, ledger_file(owner) if ledger_file is not None else None)
        self._journal = LockJournal(self._ledger, client)
        self.context = LockContext(
            client,
            pool=pool,
            hosts=Hosts(hosts, chance=client.random, ticker=client.ticker),
            journal=self._journal,
            watchdog=Watchdog(client.home),
            warm=WarmPlaces(client.home, client.clock.monotonic),
            record_names=record_names,
            process_name=client.process_name,
        )
        self._cohorts: dict[tuple[str, int], Cohort] = {}
        # Those without a task, the oldest first.
        self._idle: dict[tuple[str, int], Cohort] = {}
        self._active: dict[Grant, Cohort] = {}
        self._used = False
        self._in_outage = False
        self._to_publish = False
        self._news = Broadcast()

    def __repr__(self) -> str:
        """Count what is held and waited for."""
        waiting = sum(cohort.waiting for cohort in self._cohorts.values())
        return f"<Locks {len(self._active)} held, {waiting} waited for>"

    async def acquire(self, name: str, options: LockOptions, *, inside: bool = False) -> Grant:
        """Wait for a lock; see `Coordinator.lock`.

        Args:
            inside: Whether the caller is inside a body of this very lock.

        Raises:
            RuntimeError: The caller would wait for itself, without end.
            TideoverError: As `Coordinator.lock` says.
        """
        context, clock = self.context, self.context.client.clock
        if context.lifecycle.refusal is not None:
            raise Closed(context.lifecycle.refusal)
        if inside and options.timeout is None:
            raise RuntimeError(f"{_of_itself(name)}, and this would wait for ever")
        if not self._used:
            self._used = True
            self._news.fire()
        cohort = self._cohorts.get((name, options.ttl)) or self._cohort(name, options.ttl)
        began, outcome = clock.monotonic(), "refused"
        grant: Grant | None = None
        try:
            with anyio.move_on_after(options.timeout) if options.timeout else _NO_TIMEOUT:
                grant = await cohort.acquire(options)
            if grant is None:
                why = self._why(cohort)
                raise LockTimeout(f"lock {name!r} was not to be had within {options.timeout:g} s: {why}")
            outcome = "ok" if grant.mode is LockMode.DISTRIBUTED else "local"
        except LockTimeout as exc:
            outcome = "timeout"
            if inside:
                raise LockTimeout(_of_itself(name)) from exc
            raise
        finally:
            self._journal.waited(outcome, clock.monotonic() - began)
        self._active[grant] = cohort
        self._journal.began(grant)
        return grant

    def _cohort(self, name: str, ttl: int) -> Cohort:
        key = name, ttl
        cohort = self._idle.pop(key, None)
        if cohort is None:
            cohort = Cohort(name, ttl, self.context, forget=partial(self._rest, key))
        # It may have rested for long, and in an outage nothing is asked before somebody is named.
        cohort.front.forget_others()
        self._cohorts[key] = cohort
        return cohort

    def _rest(self, key: tuple[str, int]) -> None:
        """Keep a cohort for a while that has no task."""
        cohort = self._cohorts.pop(key, None)
        if cohort is not None:
            self._idle[key] = cohort
            if len(self._idle) > _MOST_IDLE:
                del self._idle[next(iter(self._idle))]

    def _why(self, cohort: Cohort) -> str:
        if self._cluster.breakers.suspected or self._cluster.health.outage_declared:
            return self._cluster.sentence
        place = cohort.front.place
        held_here = place is not None and place.holder is not None
        return f"this process has it: {self.context.process_name()}" if held_here else cohort.front.others

    def release(self, grant: Grant) -> None:
        """Take a lock back; never waits."""
        cohort = self._active.pop(grant)
        self._journal.ended(grant)
        cohort.release(grant)

    def holder(self, name: str, options: LockOptions) -> str:
        """Return who has a lock that is waited for here, for people; empty if that is not known."""
        cohort = self._cohorts.get((name, options.ttl))
        return "" if cohort is None else cohort.front.holder or ""

    def health_changed(self) -> None:
        """Apply that an outage was declared or is over, at once; the same news again changes nothing."""
        outage = self._cluster.health.outage_declared
        if outage and not self._in_outage:
            self._journal.touched(self._active)
            for cohort in list(self._cohorts.values()):
                cohort.outage()
        elif self._in_outage and not outage:
            self._to_publish = True
            self._news.fire()
        self._in_outage = outage
        if not outage and self._journal.local:
            self._reconcile()

    def _reconcile(self) -> None:
        # At once after an outage: those that have waited for its end take a moment.
        for grant, cohort in list(self._active.items()):
            if grant.is_local and not grant.is_reconciled and not self.context.is_closed:
                grant.is_reconciled = self.home.start("lock: reconcile", reconcile, cohort, grant, self.context)

    async def run(self) -> None:
        """Follow the health, and keep the ledger, until cancelled."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._publish)
            while True:
                self.health_changed()
                if not await self._cluster.changed.wait(_ALIVE_EVERY if self._in_outage else None):
                    self._ledger.alive()

    async def _publish(self) -> None:
        """Publish the ledger after outages, and look at what others publish, once any lock was used."""
        while True:
            news = self._news.next()
            if self._used and not self._cluster.health.outage_declared and not self._cluster.health.unauthorized:
                if self._to_publish:
                    self._to_publish = False
                    await anyio.sleep(_PUBLISH_WITHIN * self.context.client.random())
                    await self._ledger.recovered()
                else:
                    await self._ledger.look()
            with anyio.move_on_after(self._ledger.pause if self._used else None):
                await news.wait()

    def begin(self) -> None:
        """Give locks from now on."""
        self.context.lifecycle.open()

    async def aclose(self, why: str) -> None:
        """Give no more locks, and wait until the keys are given back; bounded in time."""
        self.context.lifecycle.close(why)
        for cohort in list(self._cohorts.values()):
            cohort.close()
        self._cluster.changed.fire()
        with anyio.move_on_after(self._cluster.closing.seconds(), shield=True):
            for cohort in list(self._cohorts.values()):
                await cohort.front.released()
        await self._ledger.aclose(published=self._cluster.health.state is HealthState.AVAILABLE)
        self.context.hosts.close()
        # Bodies that still run lose their session, and have nothing to give back.
        self.context.is_closed = True

    def poison(self, why: str) -> None:
        """Refuse everything: this is a forked child."""
        self.context.lifecycle.poison(why)
        self._ledger.close()

    def status(self) -> tuple[tuple[LockStatus, ...], tuple[LockConflictStatus, ...], str | None]:
        """Return the locks held, the conflicts, and what does not work."""
        active = list(self._active.items())
        for grant, _ in active:
            grant.assess()
        locks = tuple(self._journal.describe(grant, cohort.waiting) for grant, cohort in active)
        return locks, self._journal.conflicts(), self._journal.error

    @property
    def hosted(self) -> bool:
        """Whether this machine has a place for host locks, as far as is known."""
        return self._journal.host_error is None

    def waits(self) -> tuple[LockWaitStatus, ...]:
        """Return what is waited for, and not held, here."""
        held = {grant.name for grant in list(self._active)}
        waits = (cohort.waits for cohort in list(self._cohorts.values()) if cohort.name not in held)
        return tuple(found for found in waits if found is not None)

    @property
    def rejected(self) -> tuple[RejectedValue, ...]:
        """Foreign values among the published holds, and foreign keys in queues that this process waits in."""
        waited = (each for cohort in list(self._cohorts.values()) for each in cohort.front.foreign)
        return (*self._ledger.rejected.values(), *waited)

    async def published_conflicts(self) -> tuple[LockConflictStatus, ...]:
        """Return all conflicts that follow from what all processes have published."""
        return await self._journal.published_conflicts()


def _of_itself(name: str) -> str:
    return f"lock {quoted(name)} is held by the very body that wants it again: a lock is not reentrant"
