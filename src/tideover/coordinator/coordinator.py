"""The coordinator: makes the parts, starts and supervises them, and closes them in reverse."""

from __future__ import annotations

import hashlib
import importlib
import os
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import anyio

from tideover import telemetry
from tideover.broadcast import first_of
from tideover.client.gateway import Gateway
from tideover.client.namespaces import Namespaces
from tideover.client.read_batching import Coalescer
from tideover.clock import Clock, system_boot_time
from tideover.cluster.alarms import Alarms
from tideover.cluster.dns import Names, Resolver, system_resolver
from tideover.cluster.health import ClusterHealth
from tideover.cluster.member_status import count_members
from tideover.cluster.member_sync import Roster
from tideover.cluster.monitor import Monitor
from tideover.cluster.rules.health import Health, HealthRules, found, reason_of
from tideover.cluster.state import Lanes
from tideover.config.config import Config, quorum_time
from tideover.config.listener import Listener
from tideover.coordinator.catalog import Catalog
from tideover.coordinator.primitives import Primitives
from tideover.coordinator.survey import Survey, foreign_values
from tideover.daemon_thread import in_daemon_thread
from tideover.discovery.discovery import Discovery
from tideover.elections.elections import Elections
from tideover.elections.jobs import Jobs
from tideover.elections.peers.listener import Desk
from tideover.elections.peers.network import Network
from tideover.elections.stall_watchdog import Watchdog
from tideover.epoch.checked_store import GuardedStore
from tideover.epoch.marker import marker_key
from tideover.epoch.tracker import Identity, Reset
from tideover.errors import AuthenticationFailed, Closed, NotSynced, PermissionDenied, Unreachable
from tideover.holders import process_name
from tideover.home import Home
from tideover.locks.host_locks import HostLocks
from tideover.locks.host_queue import HostLocking, MemoryHostLocks
from tideover.locks.ledger_file import LedgerFile
from tideover.locks.locks import Locks
from tideover.options import Options
from tideover.owner_task import OwnerTask
from tideover.paths import default_state_folder
from tideover.policies import Transport
from tideover.prefixes.bootstrap import read_bootstrap
from tideover.prefixes.followed import Following
from tideover.registration.registrations import Registrations
from tideover.sessions.pool import SessionPool
from tideover.status import KeyPage, RejectedValue, StatusReport
from tideover.store.operations import Range, RangeResult
from tideover.store.protocol import Store
from tideover.ticker import Ticker
from tideover.types import Component, Entry, HealthState, Phase, Source

if TYPE_CHECKING:
    from tideover.coordinator.status_report import Reporter
    from tideover.etcd.adapter import EtcdStore

# Seconds for each step of closing: a last snapshot, and the connections.
_CLOSE_TIMEOUT = 2.0

# Seconds at the start for the monitor to say what it has found, and for reading snapshots.
_TIE = 0.05
_DISK_TIMEOUT = 30.0

# Seconds at the start for looking up names; one that takes longer is left to grpc, and looked up again later.
_NAMES_TIMEOUT = 0.5

open_coordinators: set[Coordinator] = set()


class Coordinator(Primitives):
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

    Raises:
        ValueError: The bootstrap file is of no use.

    Attributes:
        config: The configuration; all it offers raises `Closed` outside the `async with` block.
        ending: Whether the application has heard that it is to end, and will close this soon.
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
        self._store = store
        # The same cluster over connections that large answers do not use.
        self._urgent = store
        self._clock = clock or Clock()
        self._chance = chance
        self._resolver = resolver or (system_resolver if store is None else None)
        self._network = network
        self.ending = False
        self._closed: str | None = None
        self._owner: OwnerTask | None = None
        self._roster: Roster | None = None
        self._bootstrap = _read_bootstrap(options)
        self._monitor: Monitor | None = None
        self._listeners: list[Listener] = []
        self._make()

    def _make(self) -> None:
        """Make the parts; some have what is unique to a process."""
        options, store, chance = self.options, self._store, self._chance
        self._home = Home(chance=chance, monotonic=self._clock.monotonic)
        self._ticker = Ticker(self._clock.monotonic)
        self._pid = os.getpid()
        self._outages = telemetry.Outages(
            self._clock.monotonic,
            degraded_reads=lambda: sum(n for (_, degraded), n in self.observe_reads().items() if degraded),
        )
        self._names = Names(options.endpoints, self._resolver)
        members = tuple(store.members) if store else tuple(options.endpoints)
        self._lanes = Lanes(members, clock=self._clock, active=self._any_of(members))
        self._health = ClusterHealth(self._lanes, home=self._home, clock=self._clock)
        self._identity = Identity(
            marker_key(options.namespace),
            lanes=self._lanes,
            clock=self._clock,
            chance=chance,
            writes=options.bookkeeping,
        )
        self._gateway = Gateway(
            self._lanes,
            policy=options.retry,
            clock=self._clock,
            chance=chance,
            namespace=options.namespace,
        )
        self._namespaces = Namespaces(options.namespace, gateway=self._gateway, home=self._home)
        self._following = Following(
            options,
            gateway=self._gateway,
            lanes=self._lanes,
            identity=self._identity,
            clock=self._clock,
            ticker=self._ticker,
            namespaces=self._namespaces,
            bootstrap=self._bootstrap,
        )
        excluded = tuple(options.base + prefix for prefix in options.exclude)
        self._followed = [
            self._following.follow(
                options.base + prefix, component="config", on_change=self._take_changes, exclude=excluded
            )
            for prefix in options.follow
        ]
        self._accepted = self._following.accepted()
        self._views = [followed.view for followed in self._followed]
        self._coalescer = Coalescer(self._gateway, policy=options.retry.within(quorum_time(options.retry.timeout)))
        self._sessions = SessionPool(
            self._gateway,
            self._lanes,
            clock=self._clock,
            chance=chance,
            policy=options.retry,
            base=f"{options.namespace}/",
            home=self._home,
            ticker=self._ticker,
        )
        self._desk = (
            Desk(
                options.failsafe, towards=options.endpoints, monotonic=self._clock.monotonic, network=self._network
            )
            if options.failsafe is not None
            else None
        )
        self._elections = Elections(
            options.namespace,
            profile=options.profile,
            home=self._home,
            gateway=self._gateway.of("election"),
            lanes=self._lanes,
            clock=self._clock,
            chance=chance,
            epoch=lambda: self.epoch,
            desk=self._desk,
            watchdog=self._make_watchdog(),
            name=self._process_name,
            outage_id=lambda: self._outages.outage_id,
            why=lambda: self._health.sentence,
        )
        self._jobs = Jobs(self._elections, coordinator=self, chance=chance, monotonic=self._clock.monotonic)
        self._registrations = Registrations(
            options.namespace,
            pool=self._sessions,
            gateway=self._gateway.of("discovery"),
            lanes=self._lanes,
            clock=self._clock,
            chance=chance,
            home=self._home,
            ticker=self._ticker,
            patience=options.start_timeout,
        )
        self._discovery = Discovery(
            options.namespace,
            names=options.discover,
            follow=self._following.follow,
            gateway=self._gateway.of("discovery"),
            lanes=self._lanes,
            clock=self._clock,
            chance=chance,
            home=self._home,
            outage_id=lambda: self._outages.outage_id,
            why=lambda: self._health.sentence,
        )
        self._locks = self._make_locks()
        # A plain attribute, and there from the start: every read goes through it.
        self.config = self._make_config()
        self._reporter: Reporter | None = None
        self._identity.subscribe(self._take_reset)

    def __repr__(self) -> str:
        """Show the namespace, the state and what is followed."""
        state = "closed" if self._closed else "not entered" if self._home.token is None else self._health.state
        return f"<Coordinator {self.options.namespace!r} {','.join(self.options.endpoints)} {state}>"

    # What it offers --------------------------------------------------------------------------------------------

    @property
    def health(self) -> ClusterHealth:
        """The state of etcd as this process sees it."""
        return self._health

    @property
    def loop(self) -> object:
        """The event loop it was entered in; None before."""
        return self._home.token

    @property
    def is_in_this_thread(self) -> bool:
        """Whether its event loop belongs to the thread that asks, and cannot be waited for there."""
        return self._home.loop.is_in_this_thread

    @property
    def namespace(self) -> str:
        """The namespace given to `connect`."""
        return self.options.namespace

    @property
    def namespaces(self) -> Namespaces:
        """What there is in etcd beside this namespace."""
        return self._namespaces

    @property
    def epoch(self) -> int:
        """How many histories of etcd there have been, for fencing: `(epoch, token)` only grows.

        Raised when etcd was restored, rebuilt or replaced, and by `tideover doctor --bump-epoch`. Before etcd was
        first reached it is what the last process here has left on disk, or 0.

        When degraded:
            The last epoch known.
        """
        return self._identity.epoch

    @property
    def catalog(self) -> Catalog:
        """What this namespace has in etcd, listed: keys, elections, locks."""
        return Catalog(self.namespace, self.options.base, gateway=self._gateway, home=self._home)

    def status(self) -> StatusReport:
        """Return everything an operator asks first. No I/O.

        When degraded:
            The same; this is what it is for.
        """
        return self._reports().report(self.phase)

    @property
    def phase(self) -> Phase:
        """How far its life has come."""
        if self._closed:
            return Phase.CLOSED
        if self._home.token is None:
            return Phase.NEW
        if self.ending:
            return Phase.ENDING
        return Phase.RUNNING if self in open_coordinators else Phase.STARTING

    def config_keys(self, containing: str = "", *, skip: int = 0, limit: int = 100) -> KeyPage:
        """Return some of the followed keys, each with how it stands, and never with its value. No I/O.

        Args:
            containing: What a key's name must have in it, as `get` names it; empty means nothing.
            skip: How many of the keys that match to leave out.
            limit: How many to return, from 1 to 1,000.

        Returns:
            The keys in their order, and how many there are.

        Raises:
            ValueError: `skip` is negative, or `limit` is out of range.

        When degraded:
            The same; each key says its source and age.
        """
        return self._reports().keys(containing, skip, limit)

    @property
    def store(self) -> Store | None:
        """The cluster that was handed in for tests, or the real etcd from the moment it is entered."""
        return self._store

    @property
    def live(self) -> bool:
        """Whether a quorum answers, and all that is followed is live."""
        views = (*self._views, *self._discovery.followed_views())
        return self._lanes.health.state is HealthState.AVAILABLE and all(v.source is Source.LIVE for v in views)

    async def until_live(self) -> None:
        """Wait until `live`, for as long as it takes."""
        self._home.check(self)
        await self._until(lambda: self.live)

    def declare_outage(self, cut_off: Callable[[], None]) -> None:
        """Declare at once that no member answers: for tests, see `tideover.testing.declare_outage`.

        Args:
            cut_off: Sees to it that none does; called in the event loop.

        Raises:
            Closed: The coordinator is not open.
        """
        monitor = self._monitor
        if self._closed or monitor is None:
            raise Closed(self._closed or f"{self!r}: enter it first")

        def declare() -> None:
            cut_off()
            monitor.declare()

        self._home.loop.call(declare)

    def end_outage(self, reconnect: Callable[[], None]) -> None:
        """Look at once whether members answer again: the end of what `declare_outage` has begun.

        Args:
            reconnect: Lets them answer; called in the event loop.
        """

        def end() -> None:
            reconnect()
            if self._monitor is not None:
                self._monitor.retry()

        self._home.loop.call(end, late=True)

    async def know_members(self, timeout: float) -> None:
        """Wait until the cluster's member list has been read, so that `status` shows it.

        Args:
            timeout: Seconds to wait at the most.

        When degraded:
            Waits in vain: the list is read only while etcd is available.
        """
        self._home.check(self)
        if self._roster is not None:
            with anyio.move_on_after(timeout):
                await self._roster.learned.wait()

    async def foreign_values(self) -> tuple[RejectedValue, ...]:
        """Ask etcd for all that others have written under the keys that tideover reads for itself.

        Everything goes on without them, and leaves them alone; delete or replace them. `status().rejected` has
        those that this process has come across, and refused values of the configuration.

        Returns:
            Up to 100 of them; those that this user may not read are not among them.

        Raises:
            Unavailable: etcd is away.
            AuthenticationFailed: A quorum refuses the credentials.

        When degraded:
            Raises; in a declared outage at once and without a packet.
        """
        self._home.check(self)
        return (await self.survey()).named

    async def survey(self, below: str = "") -> Survey:
        """Ask for what `foreign_values` returns, below a prefix or all of it, and how many more there are."""
        self._home.check(self)
        return await foreign_values(self.namespace, self._read_or_none, below=below)

    async def _read_or_none(self, op: Range) -> RangeResult | None:
        try:
            return (await self._gateway.call(op)).result
        except PermissionDenied:
            return None

    def _is_proxy(self, member: str) -> bool | None:
        return None if self._store is None else self._store.is_proxy(member)

    # Life ------------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Start; see `connect`."""
        if self._home.token is not None or self._closed:
            raise Closed(f"{self!r}: a coordinator is entered only once; call connect() again")
        if os.getpid() != self._pid:
            # Made before a fork, as by gunicorn --preload.
            self._make()
        self._home.enter()
        self._lanes.timeline.begin()
        if self._desk is not None:
            await self._desk.open()
        if self._store is None:
            self._store = etcd = await self._open_etcd()
            direct: Store = etcd.urgent()
        else:
            direct = self._store
        self._urgent = direct
        store, urgent = (GuardedStore(each, self._identity, clock=self._clock) for each in (self._store, direct))
        self._gateway.connect(store)
        background = self._background(store, urgent)
        if self._desk is not None:
            background["failsafe"] = self._desk.run
        background["identity"] = partial(self._identity.run, direct)
        self.config.open()
        for view in self._views:
            view.begin()
        self._owner = OwnerTask()
        try:
            tasks = await self._owner.open()
            self._home.open(tasks)
            self._sessions.start(urgent)
            self._elections.open(urgent)
            self._locks.open(urgent)
            self._registrations.open()
            self._discovery.open(store)
            for name, task in background.items():
                tasks.start_soon(self._home.run, name, task)
            await self._await_start()
            self.config.started()
            self._check_required()
        except BaseException:
            await self._stop()
            raise
        open_coordinators.add(self)
        self.config.refresh()
        telemetry.observe(self)
        return self

    def listen(self, listener: Listener) -> None:
        """Tell somebody what becomes of the configuration, from now on and to the end; callable in any thread.

        Args:
            listener: Who is told, in the event loop.
        """
        self._listeners.append(listener)

    async def _open_etcd(self) -> EtcdStore:
        """Look names up and connect."""
        options = self.options
        async with anyio.create_task_group() as tasks:
            if self._names.any:
                tasks.start_soon(self._names.look_up, min(_NAMES_TIMEOUT, options.start_timeout / 2))
            load = partial(_load_adapter, options.transport)
            with anyio.CancelScope(shield=True):
                adapter = await in_daemon_thread(load, name="tideover-import")
        store: EtcdStore = adapter.EtcdStore(
            self._names.addresses,
            tls=options.tls,
            username=options.username,
            password=options.password,
            pause=self._ticker.pause,
            transport=options.transport,
        )
        self._lanes.begin(store.members, self._any_of(store.members))
        return store

    def _any_of(self, members: Sequence[str]) -> str:
        return members[int(self._chance() * len(members))]

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop the background tasks, write a last snapshot, close the connections.

        Raises:
            WrongLoop: It was entered in another event loop, where it goes on.
        """
        if os.getpid() != self._pid:
            # A forked child: all of it is the parent's.
            return
        self._home.loop.check(self)
        await self._stop()

    async def _await_start(self) -> None:
        """Wait until all is live or etcd is known to be away, then, if not all is live, for what is on disk.

        For etcd `start_timeout` is waited at the most; the disk has a bound of its own.
        """
        with anyio.move_on_after(self.options.start_timeout):
            await self._until(lambda: self._started() and self._accepted.restored)
        # The first round of probes ends in the same moment, unless it was given next to none.
        with anyio.move_on_after(_TIE):
            await self._until(lambda: self._lanes.health.decided)
        with anyio.move_on_after(_DISK_TIMEOUT):
            await self._until(lambda: self._started() or self._restored)

    async def _until(self, done: Callable[[], bool]) -> None:
        while True:
            views = (view.changed.next() for view in self._views)
            events = [self._lanes.changed.next(), self._accepted.changed.next(), *views, *self._discovery.listed()]
            if done():
                return
            await first_of(events)

    @property
    def _restored(self) -> bool:
        config = all(followed.restored for followed in self._followed) and self._accepted.restored
        return config and self._discovery.restored

    def _started(self) -> bool:
        health, restored = self._lanes.health, self._restored
        if self._discovery.awaited:
            return False
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
                if not view.known:
                    text = f"require='config': nothing is known; {self._health.sentence}"
                    raise AuthenticationFailed(text) if self._lanes.unauthorized else NotSynced(view.name, text)

    async def _stop(self) -> None:
        open_coordinators.discard(self)
        telemetry.unobserve(self)
        self._closed = "the coordinator is closed"
        self._lanes.closing.begin()
        self._jobs.cancel()
        self.config.close(self._closed)
        self.config.refresh()
        self._discovery.close(self._closed)
        try:
            # First of all: a rolling deployment then costs milliseconds without a leader, not a ttl, and nobody is
            # sent here any more. All of it shares the closing budget.
            with anyio.CancelScope(shield=True):
                async with anyio.create_task_group() as closing:
                    closing.start_soon(self._registrations.close, self._closed)
                    closing.start_soon(self._elections.close, self._closed)
            await self._locks.aclose(self._closed)
            await self._sessions.aclose()
        finally:
            with anyio.CancelScope(shield=True):
                await self._end_background()
                if self._desk is not None:
                    await self._desk.aclose()
                for followed in self._followed:
                    if followed.keeper is not None:
                        with anyio.move_on_after(_CLOSE_TIMEOUT):
                            await followed.keeper.save()
                with anyio.move_on_after(_CLOSE_TIMEOUT):
                    await self._accepted.save()
                await self._discovery.save()
                if self._store is not None:
                    with anyio.move_on_after(_CLOSE_TIMEOUT):
                        await self._store.aclose()
            self._outages.close()
            self._health.close()
            self._home.loop.leave()

    async def _end_background(self) -> None:
        # Also where a native cancellation has cut the rest short.
        self._home.close()
        if self._owner is not None:
            await self._owner.aclose()

    def poison(self) -> None:
        """Refuse everything: this is a forked child, and connections and tasks have stayed with the parent."""
        self._closed = (
            f"this process ({os.getpid()}) was forked from the one that connected ({self._pid}): start processes "
            "with multiprocessing's `spawn` or `forkserver`, or fork before anybody connects, and connect in each"
        )
        self._home.poison(self._closed)
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
            home=self._home,
            gateway=self._gateway.of("lock"),
            lanes=self._lanes,
            pool=self._sessions,
            hosts=hosts,
            ledger_file=None if folder is None else partial(LedgerFile, self._ledger_folder(folder)),
            clock=self._clock,
            chance=self._chance,
            epoch=lambda: self.epoch,
            outage_id=lambda: self._outages.outage_id,
            record_names=options.record_keys,
            name=self._process_name,
        )

    def _process_name(self) -> str:
        """Return the name of this process, for people: with where it is reached, if it has said so."""
        registered = next((status.url for status in self._registrations.status()), "")
        advertised = self._desk.address if self._desk is not None and self._desk.options.advertise else ""
        return process_name(registered or advertised)

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
            telemetry.locks_unhosted(str(exc))
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
        self._sessions.reset(f"etcd is in another history: {reset.reason}", reset.revision)
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
            home=self._home,
            gateway=self._gateway.of("config"),
            coalescer=self._coalescer,
            lanes=self._lanes,
            clock=self._clock,
            limits=options.limits,
            cache=options.cache,
            retry=options.retry,
            namespace=options.namespace,
            record_keys=options.record_keys,
            accepted=self._accepted,
            outage_id=lambda: self._outages.outage_id,
            since=self._why_unknown,
            listeners=self._listeners,
        )

    def config_on_disk(self) -> dict[str, Entry]:
        """Return the followed configuration that a start without etcd begins with, by key. Blocks.

        That is what an earlier process has left on disk, and where it has left nothing, the bootstrap file.

        When degraded:
            The same.
        """
        base = self.options.base
        known: dict[str, Entry] = {}
        for followed in self._followed:
            keeper, view = followed.keeper, followed.view
            entries = view.at_start(None)[0] if keeper is None else keeper.peek()
            known |= {
                key.decode(errors="surrogateescape").removeprefix(base): entry for key, entry in entries.items()
            }
        return known

    def _reports(self) -> Reporter:
        """Return what makes reports; it and all its words are loaded when they are first asked for."""
        if self._reporter is None:
            self._reporter = self._make_reporter()
        return self._reporter

    def _make_reporter(self) -> Reporter:
        from tideover.coordinator.status_report import Reporter

        return Reporter(
            self.options,
            clock=self._clock,
            lanes=self._lanes,
            health=self._health,
            identity=self._identity,
            home=self._home,
            followed=self._followed,
            config=self.config,
            sessions=self._sessions,
            locks=self._locks,
            elections=self._elections,
            jobs=self._jobs,
            registrations=self._registrations,
            discovery=self._discovery,
            outage_id=lambda: self._outages.outage_id,
            is_proxy=self._is_proxy,
            name=self._process_name,
        )

    def _background(self, store: Store, urgent: Store) -> dict[str, Callable[[], Awaitable[object]]]:
        """Return the background tasks by name."""
        lanes, clock = self._lanes, self._clock
        monitor = self._monitor = Monitor(
            urgent,
            lanes,
            # Of what is followed, because a user may be allowed to read nothing else.
            probes=[
                Range((self.options.base + prefix).encode(), limit=1, keys_only=True)
                for prefix in self.options.follow or ("",)
            ],
            rules=_rules(self.options.tightest_limit),
            clock=clock,
            chance=self._chance,
            ticker=self._ticker,
            on_transition=self._transition,
            touch_every=self._following.rights_every if self.options.username is not None else None,
            start_patience=self.options.start_timeout,
        )
        roster = self._roster = Roster(
            # It must see who answers, strangers too.
            self._urgent or urgent,
            lanes,
            names=self._names,
            secure=self.options.tls is not None,
            sync=self.options.sync_members,
            clock=clock,
            chance=self._chance,
            ticker=self._ticker,
        )
        background: dict[str, Callable[[], Awaitable[object]]] = {
            "ticker": self._ticker.run,
            "monitor": monitor.run,
            "waiting": partial(lanes.waiting.run, monitor.still_answers),
            "roster": roster.run,
            "doubts": self._following.doubts.run,
            "alarms": Alarms(urgent, lanes, clock=clock, chance=self._chance).run,
            "coalesce": self._coalescer.run,
            "locks": self._locks.run,
            "accepted": self._accepted.run,
            "tend": self.config.tend,
        }
        for followed in self._followed:
            background |= followed.tasks(store)
        return background

    def _transition(self, before: Health, after: Health) -> None:
        outage_id = self._outages.transition(
            before.state,
            after.state,
            diagnosis=after.diagnosis,
            reason=reason_of(after.state, after.diagnosis),
            sentence=self._lanes.sentence,
            first=not before.decided,
            age=self.observe_age() if self._views else float("inf"),
        )
        self._lanes.timeline.transition(
            after.state,
            after.diagnosis,
            why=found(after.diagnosis, count_members(self._lanes), past=True),
            outage_id=self._outages.outage_id,
        )
        self._health.record(before.state, outage_id=outage_id)
        self.config.refresh()
        self._locks.health_changed()
        self._discovery.health_changed()

    # What observable instruments show --------------------------------------------------------------------------

    def observe_state(self) -> HealthState:
        """Return the health state now."""
        return self._health.state

    def observe_degraded_time(self) -> Mapping[HealthState, float]:
        """Return for how many seconds etcd has been in each of the states that are not well."""
        return self._outages.degraded_seconds()

    def observe_snapshots(self) -> Iterable[tuple[Component, float, int]]:
        """Return whose each snapshot on disk is, its age in seconds, and its size in bytes."""
        ours = (followed.keeper for followed in self._followed if followed.keeper is not None)
        return [(each.component, each.age, each.size) for each in (*ours, *self._discovery.keepers())]

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

    def observe_rejected(self) -> int:
        """Return how many values of the configuration are refused now: of keys and of bound objects."""
        return self.config.first_rejected(0)[1]

    def observe_candidates(self) -> Mapping[str, int]:
        """Return how often this process stands in each election, led or not."""
        return self._elections.candidacies()

    def observe_members(self) -> Mapping[str, str]:
        """Return the version of each member of etcd, by endpoint; empty if it is unknown."""
        return self._lanes.known_versions()

    def observe_leaders(self) -> Mapping[tuple[str, str], int]:
        """Return how many elections are led here, by election and standing."""
        return self._elections.leading()


def _read_bootstrap(options: Options) -> Mapping[bytes, Entry]:
    if options.bootstrap is None:
        return {}
    return read_bootstrap(Path(options.bootstrap), base=options.base, encryption=options.encryption)


def _rules(tightest_limit: float | None) -> HealthRules:
    """Return the numbers of the health state machine: a value is proven well before a limit would strike."""
    usual = HealthRules()
    if tightest_limit is None:
        return usual
    return replace(usual, idle_interval=min(usual.idle_interval, tightest_limit / 3))


def _load_adapter(transport: Transport | None) -> Any:
    """Return the module of the real etcd; its transport takes up to a tenth of a second to import: not in a loop."""
    importlib.import_module("tideover.etcd.transports").load(transport)
    return importlib.import_module("tideover.etcd.adapter")


def _poison_all() -> None:
    for coordinator in list(open_coordinators):
        coordinator.poison()
    open_coordinators.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_poison_all)
