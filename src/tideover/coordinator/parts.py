"""What a coordinator is made of, built in the order in which one part needs another."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from tideover import telemetry
from tideover.client.client import Client
from tideover.client.direct import DirectCalls
from tideover.client.gateway import Gateway
from tideover.client.lifecycle import Lifecycle
from tideover.client.namespaces import Namespaces
from tideover.client.parts import Part
from tideover.client.read_batching import Coalescer
from tideover.clock import Clock, system_boot_time
from tideover.cluster.dns import Names, Resolver
from tideover.cluster.health import ClusterHealth
from tideover.cluster.state import ClusterState
from tideover.config.config import Config, quorum_time
from tideover.config.listener import Listener
from tideover.discovery.discovery import Discovery
from tideover.elections.elections import Elections
from tideover.elections.jobs import Jobs
from tideover.elections.peers.listener import PeerListener
from tideover.elections.peers.network import Network
from tideover.elections.stall_watchdog import Watchdog
from tideover.epoch.marker import marker_key
from tideover.epoch.tracker import EpochTracker
from tideover.holders import ProcessName
from tideover.home import Home
from tideover.locks.host_locks import HostLocks
from tideover.locks.host_queue import HostLocking, MemoryHostLocks
from tideover.locks.ledger_file import LedgerFile
from tideover.locks.locks import Locks
from tideover.options import Options
from tideover.paths import default_state_folder
from tideover.prefixes.followed import Followed, Following
from tideover.prefixes.snapshotter import Snapshotter
from tideover.prefixes.view import View
from tideover.registration.registrations import Registrations
from tideover.sessions.pool import SessionPool
from tideover.store.protocol import Store
from tideover.ticker import Ticker
from tideover.types import Entry


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What lies around a coordinator, and tests replace: clocks, chance, and how names and candidates are reached.

    A resolver of None looks no names up; a network of None is HTTP.
    """

    clock: Clock
    random: Callable[[], float]
    resolver: Resolver | None
    network: Network | None


class Parts:
    """The parts of one coordinator.

    Many attributes, because this is the list of what there is: the report, and what opens, tells and closes all of
    them, take it as a whole.

    Args:
        owner: The coordinator, which jobs find as the current one.
        bootstrap: Configuration by full key, for keys of which neither etcd nor a snapshot knows anything.

    Attributes:
        store: The cluster, once there is a connection.
        listeners: Hear what becomes of the configuration.
        followed: The followed prefixes of the configuration, in the order of `options.follow`.
        accepted: What settings objects have accepted.
        peers: Where other candidates ask this process's; None without a failsafe.
    """

    def __init__(
        self,
        owner: object,
        options: Options,
        around: Surroundings,
        *,
        store: Store | None,
        bootstrap: Mapping[bytes, Entry],
    ) -> None:
        clock, random = around.clock, around.random
        self.options = options
        self.store = store
        self.names = Names(options.endpoints, around.resolver)
        self.listeners: list[Listener] = []
        self.outages = telemetry.Outages(clock.monotonic, degraded_reads=self._degraded_reads)
        self.client = client = self._make_client(clock, random)
        self.namespaces = Namespaces(options.namespace, gateway=client.calls, home=client.home)
        self.following = Following(
            client, options, identity=self.epoch, namespaces=self.namespaces, bootstrap=bootstrap
        )
        self.followed = self._follow_configuration()
        self.accepted = self.following.accepted()
        within = options.retry.within(quorum_time(options.retry.timeout))
        self.coalescer = Coalescer(client.calls, policy=within)
        # A plain attribute, and there from the start: every read goes through it.
        self.config = self._make_config()
        self.sessions = SessionPool(client, policy=options.retry)
        self.peers = self._make_peers(around.network)
        self.elections = Elections(
            client.of("election"), profile=options.profile, listener=self.peers, watchdog=self._make_watchdog()
        )
        self.jobs = Jobs(self.elections, coordinator=owner, client=client)
        self.locks = self._make_locks()
        discovery = client.of("discovery")
        self.registrations = Registrations(discovery, pool=self.sessions, patience=options.start_timeout)
        self.discovery = Discovery(discovery, names=options.discover, following=self.following)

    @property
    def each(self) -> tuple[Part, ...]:
        """All that is opened, told and closed in the same way, in that order."""
        return self.config, self.elections, self.sessions, self.locks, self.registrations, self.discovery

    @property
    def views(self) -> list[View]:
        """What is known of each followed prefix of the configuration."""
        return [followed.view for followed in self.followed]

    def snapshotters(self) -> list[Snapshotter]:
        """Return what keeps the followed configuration and services on disk."""
        ours = [followed.keeper for followed in self.followed if followed.keeper is not None]
        return [*ours, *self.discovery.keepers()]

    def is_proxy(self, member: str) -> bool | None:
        """Whether a member is a grpc-proxy; None if that is not known."""
        return None if self.store is None else self.store.is_proxy(member)

    def _make_client(self, clock: Clock, random: Callable[[], float]) -> Client:
        options = self.options
        members = tuple(self.store.members if self.store else options.endpoints)
        state = ClusterState(members, clock=clock, active=any_of(members, random), random=random)
        home = Home(chance=random, monotonic=clock.monotonic)
        self.epoch = EpochTracker(marker_key(options.namespace), cluster=state, writes=options.bookkeeping)
        return Client(
            calls=Gateway(state, policy=options.retry, namespace=options.namespace),
            direct=DirectCalls(state),
            state=state,
            health=ClusterHealth(state, home=home),
            clock=clock,
            random=random,
            home=home,
            ticker=Ticker(clock.monotonic),
            lifecycle=Lifecycle(),
            namespace=options.namespace,
            epoch=partial(getattr, self.epoch, "epoch"),
            outage_id=lambda: self.outages.outage_id,
            process_name=ProcessName(),
        )

    def _degraded_reads(self) -> int:
        return sum(count for (_, degraded), count in self.config.count_reads().items() if degraded)

    def _follow_configuration(self) -> list[Followed]:
        base, follow = self.options.base, self.following.follow
        exclude = tuple(base + prefix for prefix in self.options.exclude)

        def on_change(changes: Mapping[bytes, Entry | None], revision: int) -> None:
            self.config.take_changes(changes, revision)

        return [
            follow(base + prefix, component="config", on_change=on_change, exclude=exclude)
            for prefix in self.options.follow
        ]

    def _make_config(self) -> Config:
        return Config(
            self.client.of("config"),
            self.options,
            self.views,
            coalescer=self.coalescer,
            accepted=self.accepted,
            since=self._why_unknown,
            listeners=self.listeners,
        )

    def _why_unknown(self) -> str:
        """Say why a value is not known, or not fresh."""
        reading = any(not followed.restored for followed in self.followed)
        return self.client.health.sentence + ("; the snapshot is still being read" if reading else "")

    def _make_peers(self, network: Network | None) -> PeerListener | None:
        failsafe, endpoints = self.options.failsafe, self.options.endpoints
        if failsafe is None:
            return None
        return PeerListener(failsafe, towards=endpoints, monotonic=self.client.clock.monotonic, network=network)

    def _make_watchdog(self) -> Watchdog | None:
        # Its thread waits in real time, which a test's own clock knows nothing of.
        boot = self.client.clock.boot
        return Watchdog(boot, on_stall=self.options.on_stall) if boot is system_boot_time else None

    def _make_locks(self) -> Locks:
        options, members, folder = self.options, self.client.state.members, self._state_folder()
        hosts: HostLocking = (
            MemoryHostLocks(self.store, options.namespace)
            if folder is None
            else HostLocks(folder / "locks", members=members, namespace=options.namespace)
        )
        return Locks(
            self.client.of("lock"),
            profile=options.profile,
            pool=self.sessions,
            hosts=hosts,
            ledger_file=None if folder is None else partial(LedgerFile, self._ledger_folder(folder)),
            record_names=options.record_keys,
        )

    def _state_folder(self) -> Path | None:
        """Return the folder for host locks and the ledger; None for a fake cluster without one."""
        given = self.options.cache_dir
        if given is not None and given is not False:
            return Path(given)
        if self.store is not None:
            return None
        try:
            return default_state_folder()
        except OSError as exc:
            telemetry.locks_unhosted(str(exc))
            return Path(os.devnull)

    def _ledger_folder(self, folder: Path) -> Path:
        """Return the folder for the ledgers of this cluster and namespace: others' are not published there."""
        scope = "\0".join([self.options.namespace, *sorted(self.client.state.members)])
        return folder / "ledger" / hashlib.sha256(scope.encode()).hexdigest()[:32]


def any_of(members: Sequence[str], random: Callable[[], float]) -> str:
    """Return one of the members by chance, to begin with."""
    return members[int(random() * len(members))]
