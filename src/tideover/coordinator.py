"""The coordinator: makes the parts, starts and supervises them, and closes them in reverse."""

from __future__ import annotations

import hashlib
import importlib
import logging
import os
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import anyio
import anyio.lowlevel
import anyio.to_thread
from anyio.abc import TaskGroup

from tideover import telemetry
from tideover.clock import Clock, system_boot_time
from tideover.configs.config import Config, quorum_time
from tideover.core.alarms import Alarms
from tideover.core.coalesce import Coalescer
from tideover.core.gateway import Gateway
from tideover.core.guard import GuardedStore
from tideover.core.identity import Identity, Reset
from tideover.core.lanes import Lanes
from tideover.core.marker import marker_key
from tideover.core.monitor import Monitor
from tideover.core.pool import SessionPool
from tideover.core.roster import Roster
from tideover.core.signal import first_of
from tideover.disk.folder import default_state_folder
from tideover.disk.hostlock import HostLocks
from tideover.disk.ledger import LedgerFile
from tideover.elections.leadership import Leadership
from tideover.elections.owner import Election, Elections
from tideover.elections.owner import OnOutage as ElectionOutage
from tideover.elections.watchdog import Watchdog
from tideover.errors import AuthenticationFailed, Closed, NotSynced, Unreachable
from tideover.etcd.names import Names, Resolver, system_resolver
from tideover.etcd.operations import Range
from tideover.etcd.store import Store
from tideover.failsafe.desk import Desk
from tideover.following import Following
from tideover.health import ClusterHealth
from tideover.locks.host import HostLocking, MemoryHostLocks
from tideover.locks.lock import Lock
from tideover.locks.owner import Locks
from tideover.locks.wish import OnOutage as OnLockOutage
from tideover.options import Options
from tideover.peers.wire import Network
from tideover.records import Entry, HealthState, Source
from tideover.registry.discovery import Discovery
from tideover.registry.owner import Registrations
from tideover.registry.registered import Registered, RegistrationBlock
from tideover.registry.registration import Registration
from tideover.registry.view import ServiceView
from tideover.reporting import Reporter
from tideover.resilience.health import Health, HealthRules, reason_of
from tideover.sessions import OnOutage, SessionBlock
from tideover.status import LockConflictStatus, StatusReport
from tideover.supervisor import Supervisor

_log = logging.getLogger("tideover")

# Seconds for each step of closing: a last snapshot, and the connections.
_CLOSE_TIMEOUT = 2.0

# Seconds at the start for looking up names; one that takes longer is left to grpc, and looked up again later.
_NAMES_TIMEOUT = 0.5

open_coordinators: set[Coordinator] = set()


class Coordinator:
    """One service's connection to its coordination: a single-use async context manager.

    Made by `connect`, which documents the options. Entering starts the background tasks, leaving stops them,
    writes a last snapshot and closes the connections.

    Args:
        options: The validated options.
        store: The cluster, instead of the real etcd at the options' endpoints: for tests.
        clock: The clocks.
        chance: Draws a number uniformly from [0, 1).
        resolver: Looks names up; None means the system's, or none with a store that was handed in.
        network: How candidates talk to each other, instead of HTTP: for tests.

    Attributes:
        config: The configuration; all it offers raises `Closed` outside the `async with` block.
    """

    def __init__(
        self,
        options: Options,
        *,
        store: Store | None = None,
        clock: Clock | None = None,
        chance: Callable[[], float] = random.random,
        resolver: Resolver | None = None,
        network: Network | None = None,
    ) -> None:
        self.options = options
        self._loop: object = None
        self._store = store
        self._clock = clock or Clock()
        self._chance = chance
        self._pid = os.getpid()
        self._tasks: TaskGroup | None = None
        self._roster: Roster | None = None
        self._closed: str | None = None
        self._outages = telemetry.Outages()
        self._names = Names(options.endpoints, resolver or (system_resolver if store is None else None))
        members = tuple(store.members) if store else tuple(options.endpoints)
        self._lanes = Lanes(members, clock=self._clock, active=self._any_of(members))
        self._health = ClusterHealth(self._lanes, clock=self._clock)
        self._identity = Identity(
            marker_key(options.namespace),
            lanes=self._lanes,
            clock=self._clock,
            chance=chance,
            writes=options.bookkeeping,
        )
        self._supervisor = Supervisor(chance=chance, monotonic=self._clock.monotonic)
        self._gateway = Gateway(
            self._lanes,
            policy=options.retry,
            clock=self._clock,
            chance=chance,
            namespace=options.namespace,
        )
        self._following = Following(
            options, gateway=self._gateway, lanes=self._lanes, identity=self._identity, clock=self._clock
        )
        excluded = tuple(options.base + prefix for prefix in options.exclude)
        self._followed = [
            self._following.follow(options.base + prefix, on_change=self._take_changes, exclude=excluded)
            for prefix in options.follow
        ]
        self._views = [followed.view for followed in self._followed]
        self._coalescer = Coalescer(self._gateway, policy=options.retry.within(quorum_time(options.retry.timeout)))
        self._sessions = SessionPool(
            self._gateway,
            self._lanes,
            clock=self._clock,
            chance=chance,
            policy=options.retry,
            base=f"{options.namespace}/",
            supervise=self._supervisor.run,
        )
        self._desk = (
            Desk(options.failsafe, towards=options.endpoints, monotonic=self._clock.monotonic, network=network)
            if options.failsafe is not None
            else None
        )
        self._elections = Elections(
            options.namespace,
            profile=options.profile,
            gateway=self._gateway,
            lanes=self._lanes,
            clock=self._clock,
            chance=chance,
            epoch=lambda: self.epoch,
            desk=self._desk,
            watchdog=self._make_watchdog(),
        )
        self._registrations = Registrations(
            options.namespace,
            pool=self._sessions,
            gateway=self._gateway,
            lanes=self._lanes,
            clock=self._clock,
            chance=chance,
            supervise=self._supervisor.run,
            patience=options.start_timeout,
        )
        self._discovery = Discovery(
            options.namespace,
            follow=self._following.follow,
            gateway=self._gateway,
            lanes=self._lanes,
            clock=self._clock,
            chance=chance,
            supervise=self._supervisor.run,
            outage_id=lambda: self._outages.outage_id,
            why=lambda: self._health.sentence,
        )
        self._locks = self._make_locks()
        # A plain attribute, and there from the start: every read goes through it.
        self.config = self._make_config()
        self._reporter = Reporter(
            options,
            clock=self._clock,
            lanes=self._lanes,
            health=self._health,
            identity=self._identity,
            supervisor=self._supervisor,
            followed=self._followed,
            config=self.config,
            sessions=self._sessions,
            locks=self._locks,
            elections=self._elections,
            registrations=self._registrations,
            discovery=self._discovery,
            outage_id=lambda: self._outages.outage_id,
            is_proxy=self._is_proxy,
        )
        self._identity.subscribe(self._take_reset)

    def __repr__(self) -> str:
        """Show the namespace, the state and what is followed."""
        state = "closed" if self._closed else "not entered" if self._loop is None else self._health.state
        return f"<Coordinator {self.options.namespace!r} {','.join(self.options.endpoints)} {state}>"

    # What it offers --------------------------------------------------------------------------------------------

    @property
    def health(self) -> ClusterHealth:
        """The state of etcd as this process sees it."""
        return self._health

    @property
    def loop(self) -> object:
        """The event loop it was entered in; None before."""
        return self._loop

    @property
    def namespace(self) -> str:
        """The namespace given to `connect`."""
        return self.options.namespace

    @property
    def epoch(self) -> int:
        """How many histories of etcd there have been, for fencing: `(epoch, token)` only grows.

        Raised when etcd was restored, rebuilt or replaced, and by `tideover doctor --bump-epoch`. Before etcd was
        first reached it is what the last process here has left on disk, or 0.

        When degraded:
            The last epoch known.
        """
        return self._identity.epoch

    def leader(
        self,
        name: str,
        *,
        ttl: float = 15.0,
        on_outage: ElectionOutage | None = None,
        address: str = "",
        value: str = "",
    ) -> Leadership:
        """Wait until elected, then run a body while this process leads: `async with tide.leader("x") as term:`.

        Of all candidates for the name one leads. When the body is left the office is given up, and another
        candidate has it within milliseconds; when this process dies, after `ttl` and a tenth of it, at least 1 s.
        The body runs in a cancel scope: it is cancelled when the leadership is lost.

        Args:
            name: The election, such as `"reaper"`; slashes may divide it.
            ttl: Seconds after which a leader that cannot renew leads no more, more than 4.5. The same for all
                candidates, please.
            on_outage: What the leader does when etcd is away for longer than its ttl: `"step_down"`; or `"peers"`,
                which needs `connect(failsafe=...)`, and lead on as long as all other candidates promise not to
                take over; or `"stay"` and be `UNCONFIRMED`. The same for all candidates. None means
                `"step_down"` with the profile `"safety"`, or `"peers"` if there is a failsafe, and `"stay"` with
                `"availability"`.
            address: Where this process can be reached; `Election.observe` shows it to others.
            value: What else others are to see.

        Returns:
            A context manager, for one use; entering waits and gives the `Term`.

        Raises:
            ValueError: An option is out of range, or `"peers"` was asked for without a failsafe.
            ElectionMismatch: When entering: the election's record says another `on_outage`.
            RecordCorrupt: When entering: the record cannot be read.
            PermissionDenied: When entering: this user may not read or write the record.
            Closed: When entering: the coordinator is not open.
            LeadershipLost: When leaving: the body has outlived the leadership. An exception of the body is kept,
                and the loss becomes a note on it.

        When degraded:
            Nobody is elected without a quorum: entering waits. Who leads already goes on: under `"step_down"`
            until the deadline, which under `"peers"` the other candidates may move; under `"stay"` until it sees
            that another was elected; when etcd is back, with the same token.
        """
        return self._elections.leader(name, ttl=ttl, on_outage=on_outage, address=address, value=value)

    def election(self, name: str) -> Election:
        """Return a handle on an election: `campaign`, `proclaim`, `resign`, `observe`, `current`.

        Args:
            name: The election.

        Raises:
            ValueError: That is no name.

        When degraded:
            Its methods say.
        """
        return self._elections.election(name)

    def status(self) -> StatusReport:
        """Return everything an operator asks first. No I/O.

        When degraded:
            The same; this is what it is for.
        """
        return self._reporter.report(entered=self._loop is not None)

    def lock(
        self,
        name: str,
        *,
        ttl: int = 15,
        timeout: float | None = None,
        on_outage: OnLockOutage | None = None,
        handover: bool = True,
        lock_delay: float = 0.0,
    ) -> Lock:
        """Return a lock, to be entered: `async with tide.lock("orders/42", timeout=5) as held:`.

        Entering the body means holding the lock. The body is cancelled at its next await when the lock is lost:
        when its lease could not be proven until the deadline, or etcd says that its key is gone. Leaving it then
        raises `LockLost`, even if the body has ended by itself; an exception of the body is kept, and ours becomes
        a note on it. Whoever must not act on a lost lock without an await calls `held.check()`, and what is
        elsewhere is fenced by `held.token` or `held.guard()`.

        Coroutines of this process hand the lock on among themselves without asking etcd, in order, as long as
        nobody elsewhere waits for it: see `handover`.

        Args:
            name: The lock; slashes may divide it. `{namespace}/locks/{name}/` in etcd, in the layout of etcd's own
                `concurrency` package, so that `etcdctl lock` and services in Go contend for it.
            ttl: Whole seconds after which etcd gives the lock of a process that has died to the next one; 5 at
                the least.
            timeout: Seconds to wait at the most; None waits for ever, 0 not at all.
            on_outage: What to do while an outage is declared. `"fail"`: refuse. `"wait"`: wait for its end, within
                the timeout. `"local"`: be content with a lock among the processes of this machine, held in the
                mode `LOCAL`; one that is held when the outage begins becomes LOCAL at its deadline instead of
                being lost. After the outage a LOCAL lock becomes DISTRIBUTED if nobody else has it, and else is
                lost by `LockConflict`. None means `"fail"` with the profile `"safety"` and `"local"` with
                `"availability"`.
            handover: Whether the lock may be handed on inside this process. With False each holder has a key of
                its own, and `held.revision` grows strictly: for names shared with clients that fence by it.
            lock_delay: Seconds to wait on, after the holder before has vanished with its lease instead of letting
                go: it may not know yet.

        Returns:
            The lock, for one use; entering gives what is held.

        Raises:
            TypeError: An option is of the wrong type.
            ValueError: An option is out of range, or that is no name.
            RuntimeError: When entering: this is within the body of the same lock, and without a timeout it would
                wait for itself for ever.
            LockUnavailable: When entering: an outage is declared, and the lock was to `"fail"`; or it was to be
                `"local"` and this machine has no place for host locks.
            LockTimeout: When entering: it was not to be had in time.
            PermissionDenied: When entering: this user may not write the lock's key.
            AuthenticationFailed: When entering: a quorum refuses the credentials.
            SpaceExhausted: When entering: etcd's quota is used up.
            Closed: When entering: the coordinator is not entered, or closed, or this is a forked child.
            LockLost: When leaving: see above.
            LockConflict: When leaving: see above.

        When degraded:
            Until an outage is declared (3 s) entering waits. Then it does as `on_outage` says, without a packet.
        """
        return self._locks.lock(name, ttl, timeout, on_outage, handover, lock_delay)

    def register(
        self,
        name: str,
        url: str,
        *,
        metadata: Mapping[str, str] | None = None,
        weight: float = 1.0,
        ttl: int = 15,
        instance: str | None = None,
    ) -> RegistrationBlock:
        """Register an endpoint of a service: `async with tide.register("api", "http://10.0.0.7:8000") as here:`.

        Whatever happens meanwhile, it is there as long as the block lasts: after an outage of hours, when etcd was
        rebuilt from nothing or restored from a backup, or when somebody has deleted its key, it is put there again
        as soon as that is possible. After an outage all do so within 2.5 s, each at a moment of its own. Leaving
        the block takes it away; a process that dies is gone after its `ttl` and a second.

        Args:
            name: The service, such as `"api"`.
            url: Where others reach this instance, with the port, such as `"http://10.0.0.7:8000"`.
            metadata: What else it says about itself, text to text, such as `{"zone": "a"}`.
            weight: Its share of the traffic, compared with the others' weights. 0 means none.
            ttl: Whole seconds after which it is gone when its process has died; 5 at the least.
            instance: Which instance it is: of several registrations of one instance the newest counts. None means
                host and port of the URL, so that a process started in place of another one takes its place.

        Returns:
            A block, for one use; entering gives a `Registered`. It waits for etcd, `start_timeout` at the most.

        Raises:
            TypeError: An option is of the wrong type.
            ValueError: An option is out of range, or others could not reach that URL.
            Closed: When entering: the coordinator is not entered, or closed, or this is a forked child.

        When degraded:
            Entering returns at once, and so does an etcd's refusal, such as for want of rights: `here.registered`
            is False, `here.status` says why, and it is registered as soon as possible. What is in etcd already
            stays there in an outage.
        """
        return self._registrations.block(Registration(name, url, metadata or {}, weight, ttl, instance))

    @property
    def registrations(self) -> tuple[Registered, ...]:
        """What is registered here, the middleware's included."""
        return self._registrations.handles()

    def begin_registration(self, registration: Registration) -> Registered:
        """Begin to register something for as long as the coordinator is open: for the middleware.

        Args:
            registration: What it is.

        Returns:
            The handle; nothing is in etcd yet.

        Raises:
            Closed: The coordinator is not open.
        """
        return self._registrations.start(registration)

    def discover(
        self, name: str, *, max_stale: float | None = None, on_stale: Literal["serve", "raise"] = "serve"
    ) -> ServiceView:
        """Return the endpoints of a service, kept up to date: `tide.discover("billing").pick()`. No I/O.

        The first call for a service begins to follow it in the background; wait for the first answer with
        `await view.wait_for(1)` where there may be none on disk. All handles share what is known.

        What is registered is listed at once. What is gone has left the list at once in ordinary times; after an
        outage, or when many go together, after some time: see "Service discovery" in the documentation.

        Args:
            name: The service.
            max_stale: Seconds since the list was last proven in sync, beyond which it counts as stale even if
                nothing else is wrong; None means no limit.
            on_stale: What happens beyond that: `"serve"` the list all the same, or `"raise"` `TooStale`.

        Returns:
            The handle, good until the coordinator is closed.

        Raises:
            TypeError: The name or the limit is of the wrong type.
            ValueError: That is no name, or an option is out of range.
            NotFollowed: The service is not followed yet, and cannot be from here: 256 others are, with handles in
                use, or this is a thread that the coordinator's event loop knows nothing of.
            Closed: The coordinator is not open.

        When degraded:
            The same handle. Its list is frozen, labelled with source and age, and never emptied by an outage; a
            process that starts in one has it from disk.
        """
        return self._discovery.discover(name, max_stale=max_stale, on_stale=on_stale)

    async def services(self) -> Mapping[str, int]:
        """Ask etcd which services there are, and how many registrations each has.

        Returns:
            Service to count, in the order of their names.

        Raises:
            Unavailable: etcd is away.
            PermissionDenied: A quorum refuses to let this client read them.
            AuthenticationFailed: A quorum refuses the credentials.

        When degraded:
            Raises: nobody but a quorum knows all of them. What is followed here is in `status().services`.
        """
        return await self._discovery.count()

    async def lock_conflicts(self) -> tuple[LockConflictStatus, ...]:
        """Return which locks two processes held at the same time, or may have, because etcd was away.

        That is what follows from the holds that all processes have published in the last seven days;
        `status().lock_conflicts` has those in which this process had a part.

        Raises:
            Unavailable: etcd is away.
            PermissionDenied: This user may not read `{namespace}/tideover/ledger/`.
            AuthenticationFailed: A quorum refuses the credentials.
            Closed: The coordinator is not open.

        When degraded:
            Raises; in a declared outage at once and without a packet.
        """
        return await self._locks.published_conflicts()

    async def know_members(self, timeout: float) -> None:
        """Wait until the cluster's member list has been read, so that `status` shows it.

        Args:
            timeout: Seconds to wait at the most.

        When degraded:
            Waits in vain: the list is read only while etcd is available.
        """
        if self._roster is not None:
            with anyio.move_on_after(timeout):
                await self._roster.learned.wait()

    def session(self, *, ttl: int = 15, on_outage: OnOutage = "lose") -> SessionBlock:
        """Return a session, to be entered: `async with tide.session(ttl=15) as session:`.

        A session is a lease in etcd, kept alive and proven, with the keys that stand under it. The body runs as
        long as the session may be relied upon: it is cancelled at its next await when the deadline passes or
        etcd says that the lease has ended. Leaving it then raises `SessionLost`, even if the body has ended by
        itself; an exception of the body is kept, and ours becomes a note on it. Leaving takes the keys away.

        Args:
            ttl: Whole seconds for which etcd waits for a renewal; 5 at the least. After a crash the keys stay
                for so long.
            on_outage: `"lose"`: passing the deadline is the loss, for good. `"wait"`: the session is SUSPENDED
                then, `check()` raises, but the body goes on; the same lease comes back with the cluster, unless
                a quorum says that it has ended.

        Returns:
            The session's block.

        Raises:
            TypeError: `ttl` is not a whole number.
            ValueError: `ttl` is too short, or `on_outage` is none of the two words.
            Unavailable: When entering: etcd is away.
            OutcomeUnknown: When entering: no verdict came in time; what may have been made ends by itself.
            PermissionDenied: When entering: this user may not write `{namespace}/tideover/sessions/`.
            SessionLost: When leaving: see above.
            Closed: When entering: the coordinator is not entered, or closed, or this is a forked child.

        When degraded:
            Entering waits within the retry policy's timeout, and raises `CircuitOpen` at once when an outage is
            declared. A session that is open is tried on: see `on_outage`.
        """
        return SessionBlock(self._sessions, ttl, on_outage=on_outage)

    def _is_proxy(self, member: str) -> bool | None:
        return None if self._store is None else self._store.is_proxy(member)

    # Life ------------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Start; see `connect`."""
        if self._loop is not None or self._closed:
            raise Closed(f"{self!r}: a coordinator is entered only once; call connect() again")
        began = self._clock.monotonic()
        self._loop = anyio.lowlevel.current_token()
        if self._desk is not None:
            await self._desk.open()
        if self._store is None:
            self._store = await self._open_store()
        store = GuardedStore(self._store, self._identity, clock=self._clock)
        self._gateway.connect(store)
        background = self._background(store)
        if self._desk is not None:
            background["failsafe"] = self._desk.run
        background["identity"] = partial(self._identity.run, self._store)
        self.config.open()
        tasks = anyio.create_task_group()
        await tasks.__aenter__()
        self._tasks = tasks
        self._sessions.start(store, tasks)
        self._elections.open(store, tasks)
        self._locks.open(store, tasks)
        self._registrations.open(tasks)
        self._discovery.open(store, tasks)
        try:
            for name, task in background.items():
                tasks.start_soon(self._supervisor.run, name, task)
            await self._await_start(began)
            self._check_required()
        except BaseException:
            await self._stop()
            raise
        open_coordinators.add(self)
        telemetry.observe(self)
        return self

    async def _open_store(self) -> Store:
        """Look names up and connect."""
        options = self.options
        async with anyio.create_task_group() as tasks:
            if self._names.any:
                tasks.start_soon(self._names.look_up, min(_NAMES_TIMEOUT, options.start_timeout / 2))
            # grpc takes a tenth of a second to import: not before it is needed, and not on the event loop.
            adapter = await anyio.to_thread.run_sync(importlib.import_module, "tideover.etcd.adapter")
        store: Store = adapter.EtcdStore(
            self._names.addresses, tls=options.tls, username=options.username, password=options.password
        )
        self._lanes.begin(store.members, self._any_of(store.members))
        return store

    def _any_of(self, members: Sequence[str]) -> str:
        return members[int(self._chance() * len(members))]

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop the background tasks, write a last snapshot, close the connections."""
        await self._stop()

    async def _await_start(self, began: float) -> None:
        """Wait until all is live or etcd is known to be away, at the latest until `start_timeout` is over."""
        with anyio.move_on_after(began + self.options.start_timeout - self._clock.monotonic()):
            while True:
                events = [self._lanes.changed.next(), *(view.changed.next() for view in self._views)]
                if self._started():
                    break
                await first_of(events)

    def _started(self) -> bool:
        health, restored = self._lanes.health, all(followed.restored for followed in self._followed)
        if not health.decided or health.state is HealthState.UNAVAILABLE:
            return health.decided and restored
        if health.state is HealthState.DEGRADED:
            return restored and all(view.synced or view.error for view in self._views)
        return self._lanes.alarms is not None and all(
            view.denied or view.source is Source.LIVE for view in self._views
        )

    def _check_required(self) -> None:
        if self.options.require == "etcd" and self._health.state is not HealthState.AVAILABLE:
            away = AuthenticationFailed if self._lanes.unauthorized else Unreachable
            raise away(f"require='etcd': {self._health.sentence}")
        if self.options.require == "config":
            for view in self._views:
                if not view.synced:
                    text = f"require='config': nothing is known; {self._health.sentence}"
                    raise AuthenticationFailed(text) if self._lanes.unauthorized else NotSynced(view.name, text)

    async def _stop(self) -> None:
        open_coordinators.discard(self)
        telemetry.unobserve(self)
        self._closed = "the coordinator is closed"
        self.config.close(self._closed)
        self._discovery.close(self._closed)
        try:
            # First of all: a rolling deployment then costs milliseconds without a leader, not a ttl, and nobody is
            # sent here any more.
            with anyio.move_on_after(_CLOSE_TIMEOUT, shield=True):
                async with anyio.create_task_group() as closing:
                    closing.start_soon(self._registrations.close, self._closed)
                    closing.start_soon(self._elections.close, self._closed)
            await self._locks.aclose(self._closed)
            await self._sessions.aclose()
            if self._tasks is not None:
                self._tasks.cancel_scope.cancel()
                await self._tasks.__aexit__(None, None, None)
        finally:
            with anyio.CancelScope(shield=True):
                if self._desk is not None:
                    await self._desk.aclose()
                for followed in self._followed:
                    if followed.keeper is not None:
                        with anyio.move_on_after(_CLOSE_TIMEOUT):
                            await followed.keeper.save()
                await self._discovery.save()
                if self._store is not None:
                    with anyio.move_on_after(_CLOSE_TIMEOUT):
                        await self._store.aclose()
            self._outages.close()

    def poison(self) -> None:
        """Refuse everything: this is a forked child, and connections and tasks have stayed with the parent."""
        self._closed = (
            f"this process ({os.getpid()}) was forked from the one that connected ({self._pid}); "
            "connect after the fork, for example in the application's lifespan"
        )
        self.config.close(self._closed)
        self._sessions.poison(self._closed)
        self._elections.poison(self._closed)
        self._locks.poison(self._closed)
        self._registrations.poison(self._closed)
        self._discovery.close(self._closed)

    # Parts -----------------------------------------------------------------------------------------------------

    def _make_watchdog(self) -> Watchdog | None:
        # Its thread waits in real time, which a test's own clock knows nothing of.
        boot = self._clock.boot
        return Watchdog(boot, on_stall=self.options.on_stall) if boot is system_boot_time else None

    def _make_locks(self) -> Locks:
        options = self.options
        folder = self._state_folder()
        hosts: HostLocking = (
            MemoryHostLocks(self._store, options.namespace)
            if folder is None
            else HostLocks(folder / "locks", members=self._lanes.members, namespace=options.namespace)
        )
        return Locks(
            options.namespace,
            profile=options.profile,
            gateway=self._gateway,
            lanes=self._lanes,
            pool=self._sessions,
            hosts=hosts,
            ledger_file=None if folder is None else partial(LedgerFile, self._ledger_folder(folder)),
            clock=self._clock,
            chance=self._chance,
            epoch=lambda: self.epoch,
            outage_id=lambda: self._outages.outage_id,
            record_names=options.record_keys,
        )

    def _state_folder(self) -> Path | None:
        """Return the folder for host locks and the ledger; None for a fake cluster without one."""
        given = self.options.cache_dir
        if given is not None and given is not False:
            return Path(given)
        if self._store is not None:
            return None
        try:
            return default_state_folder()
        except OSError as exc:
            _log.warning("tideover: no lock can be LOCAL here: %s", exc)
            return Path(os.devnull)

    def _ledger_folder(self, folder: Path) -> Path:
        """Return the folder for the ledgers of this cluster and namespace: others' are not published there."""
        scope = "\0".join([self.options.namespace, *sorted(self._lanes.members)])
        return folder / "ledger" / hashlib.sha256(scope.encode()).hexdigest()[:32]

    def _take_changes(self, changes: Mapping[bytes, Entry | None], revision: int) -> None:
        self.config.take_changes(changes, revision)

    def _take_reset(self, reset: Reset) -> None:
        self.config.forget_answers()
        self._elections.reset()
        self._sessions.reset(f"etcd is in another history: {reset.reason}")
        for view in self._views:
            view.changed.fire()
        self._discovery.reset()

    def _why_unknown(self) -> str:
        """Say why a value is not known, or not fresh."""
        reading = any(not followed.restored for followed in self._followed)
        return self._health.sentence + ("; the snapshot is still being read" if reading else "")

    def _make_config(self) -> Config:
        options = self.options
        return Config(
            options.base,
            self._views,
            gateway=self._gateway,
            coalescer=self._coalescer,
            lanes=self._lanes,
            clock=self._clock,
            limits=options.limits,
            exclude=options.exclude,
            cache=options.cache,
            retry=options.retry,
            namespace=options.namespace,
            record_keys=options.record_keys,
            outage_id=lambda: self._outages.outage_id,
            since=self._why_unknown,
        )

    def _background(self, store: Store) -> dict[str, Callable[[], Awaitable[object]]]:
        """Return the background tasks by name."""
        lanes, clock = self._lanes, self._clock
        monitor = Monitor(
            store,
            lanes,
            # Of what is followed, because a user may be allowed to read nothing else.
            probes=[
                Range((self.options.base + prefix).encode(), limit=1, keys_only=True)
                for prefix in self.options.follow or ("",)
            ],
            rules=_rules(self.options.tightest_limit),
            clock=clock,
            chance=self._chance,
            on_transition=self._transition,
            touch_every=self._following.rights_every if self.options.username is not None else None,
        )
        roster = self._roster = Roster(
            # It must see who answers, strangers too.
            self._store or store,
            lanes,
            names=self._names,
            secure=self.options.tls is not None,
            sync=self.options.sync_members,
            clock=clock,
            chance=self._chance,
        )
        background: dict[str, Callable[[], Awaitable[object]]] = {
            "monitor": monitor.run,
            "waiting": lanes.waiting.run,
            "roster": roster.run,
            "alarms": Alarms(store, lanes, chance=self._chance).run,
            "coalesce": self._coalescer.run,
            "locks": self._locks.run,
        }
        for followed in self._followed:
            background |= followed.tasks(store)
            background[f"tend {followed.view.name}"] = partial(self.config.tend, followed.view)
        return background

    def _transition(self, before: Health, after: Health) -> None:
        self._outages.transition(
            before.state,
            after.state,
            reason=reason_of(after.state, after.diagnosis),
            sentence=self._lanes.sentence,
            first=not before.decided,
        )
        self.config.refresh()
        self._locks.health_changed()
        self._discovery.health_changed()

    # What observable instruments show --------------------------------------------------------------------------

    def observe_state(self) -> HealthState:
        """Return the health state now."""
        return self._health.state

    def observe_reads(self) -> Mapping[tuple[str, bool], int]:
        """Return how many configuration reads there were, by source and whether they were degraded."""
        return self.config.count_reads()

    def observe_age(self) -> float:
        """Return the age in seconds of the oldest followed prefix; infinite if unknown."""
        return max((view.age for view in self._views), default=0.0)

    def observe_endpoints(self) -> Mapping[tuple[str, str], int]:
        """Return how many endpoints can be picked, by service and source."""
        return self._discovery.active()

    def observe_registrations(self) -> Mapping[tuple[str, str], int]:
        """Return how many endpoints are registered here, by service and state."""
        return self._registrations.count()

    def observe_leaders(self) -> Mapping[tuple[str, str], int]:
        """Return how many elections are led here, by election and standing."""
        return self._elections.leading()


def _rules(tightest_limit: float | None) -> HealthRules:
    """Return the numbers of the health state machine: a value is proven well before a limit would strike."""
    usual = HealthRules()
    if tightest_limit is None:
        return usual
    return replace(usual, idle_interval=min(usual.idle_interval, tightest_limit / 3))


def _poison_all() -> None:
    for coordinator in list(open_coordinators):
        coordinator.poison()
    open_coordinators.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_poison_all)
