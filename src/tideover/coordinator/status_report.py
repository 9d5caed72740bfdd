"""The status report: what an operator asks first, gathered from all parts without I/O."""

from __future__ import annotations

import math
import os
import platform
import socket
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

from tideover.clock import Clock
from tideover.cluster.health import ClusterHealth
from tideover.cluster.member_status import count_members, describe_members
from tideover.cluster.state import ClusterState
from tideover.cluster.timeline import WINDOW
from tideover.config.config import Config
from tideover.config.keys import Keys
from tideover.config.listing import Listing
from tideover.coordinator.rules.rows import Stands
from tideover.coordinator.rules.situation import refusing
from tideover.coordinator.rules.telling import told
from tideover.discovery.discovery import Discovery
from tideover.elections.elections import Elections
from tideover.elections.jobs import Jobs
from tideover.epoch.tracker import EpochTracker
from tideover.home import Home
from tideover.locks.locks import Locks
from tideover.options import Options
from tideover.prefixes.followed import Followed
from tideover.prefixes.view import ViewRules
from tideover.registration.registrations import Registrations
from tideover.sessions.pool import SessionPool
from tideover.status import (
    MOST,
    HistoryStatus,
    IdentityStatus,
    KeyPage,
    LimitStatus,
    PrefixStatus,
    ProcessStatus,
    RejectedValue,
    SnapshotStatus,
    Statement,
    StatusReport,
)
from tideover.types import Phase
from tideover.version import VERSION


class Reporter:
    """Tells how one coordinator and its parts stand.

    Args:
        options: What it was given.
        clock: The clocks.
        cluster: The members.
        health: The state of etcd.
        identity: Which history etcd is in.
        home: The background tasks.
        followed: The followed prefixes of the configuration, in the order of `options.follow`.
        config: The configuration.
        sessions: The sessions.
        locks: The locks.
        elections: The candidacies.
        registrations: What is registered here.
        discovery: The services that are followed.
        outage_id: Returns the present outage's id.
        is_proxy: Returns whether a member is a grpc-proxy; None if not known.
        name: Returns the name of this process, for people.
    """

    def __init__(
        self,
        options: Options,
        *,
        clock: Clock,
        cluster: ClusterState,
        health: ClusterHealth,
        identity: EpochTracker,
        home: Home,
        followed: Sequence[Followed],
        config: Config,
        sessions: SessionPool,
        locks: Locks,
        elections: Elections,
        jobs: Jobs,
        registrations: Registrations,
        discovery: Discovery,
        outage_id: Callable[[], str],
        is_proxy: Callable[[str], bool | None],
        name: Callable[[], str],
    ) -> None:
        self._options = options
        self._clock = clock
        self._cluster = cluster
        self._health = health
        self._identity = identity
        self._home = home
        self._followed = followed
        self._config = config
        self._sessions = sessions
        self._locks = locks
        self._elections = elections
        self._jobs = jobs
        self._registrations = registrations
        self._discovery = discovery
        self._outage_id = outage_id
        self._is_proxy = is_proxy
        self._name = name
        self._listing = Listing(
            Keys(options.base, [followed.view for followed in followed]),
            {prefix: each.view for prefix, each in zip(options.follow, followed, strict=True)},
            limits=options.limits,
        )
        self._stands: Stands = {}

    def __repr__(self) -> str:
        """Show the state of etcd."""
        return f"<Reporter {self._health.state}>"

    def report(self, phase: Phase) -> StatusReport:
        """Return the report; see `Coordinator.status`."""
        report, self._stands = told(
            self._facts(),
            self._stands,
            now=self._clock.monotonic(),
            live_limit=ViewRules().live_limit,
            matter=self._cluster.sentence,
            base=self._options.base,
        )
        return replace(report, phase=phase, sentence=_NOT_ENTERED if phase is Phase.NEW else report.sentence)

    def _facts(self) -> StatusReport:
        """Return the report without words."""
        cluster, health = self._cluster, self._health
        locks, conflicts, lock_error = self._locks.status()
        stalls, last_stall = self._elections.stalls()
        rejected, more = self._rejected()
        limits = tuple(map(self._limit_status, sorted(self._options.limits)))
        known = [len(each.view.entries) for each in self._followed if each.view.known and not each.view.denied]
        return StatusReport(
            sentence="",
            state=health.state,
            diagnosis=health.diagnosis,
            since=health.since,
            seconds=health.seconds,
            next_probe=max(0.0, cluster.retry_at - self._clock.monotonic()),
            outage_id=self._outage_id(),
            namespace=self._options.namespace,
            profile=str(self._options.profile),
            pid=os.getpid(),
            members=describe_members(cluster, self._is_proxy),
            untold=tuple(f"{what}: {why}" for what, why in list(cluster.untold.items())),
            identity=self._identity_status(),
            config=tuple(map(self._prefix_status, self._options.follow, self._followed)),
            rejected=rejected,
            more={"rejected": more} if more else {},
            unfound=self._config.unfound,
            restarts=self._home.restarts,
            at=self._wall(0.0),
            headline=Statement(""),
            why="",
            announcement="",
            quorum=count_members(cluster),
            process=self._process(),
            history=self._history(),
            limits=limits,
            keys=sum(len(followed.view.entries) for followed in self._followed),
            keys_served=max(0, sum(known) - sum(limit.keys for limit in refusing(limits))),
            snapshots=self._snapshots(),
            sessions=tuple(session.report() for session in self._sessions),
            locks=locks,
            lock_waits=self._locks.waits(),
            lock_conflicts=conflicts,
            lock_error=lock_error,
            host_locks=self._locks.hosted,
            elections=self._elections.status(),
            jobs=self._jobs.status(),
            stalls=stalls,
            last_stall=last_stall,
            registrations=self._registrations.status(),
            services=self._discovery.status(),
            outage=cluster.timeline.outage,
            last_outage=cluster.timeline.last_outage,
        )

    def keys(self, containing: str, skip: int, limit: int) -> KeyPage:
        """Return some of the followed keys; see `Coordinator.config_keys`."""
        return self._listing.page(containing, skip, limit, rejected=self._config.rejected)

    def _wall(self, ago: float) -> datetime:
        return datetime.fromtimestamp(self._clock.wall() - ago, UTC)

    def _rejected(self) -> tuple[tuple[RejectedValue, ...], int]:
        """Return the first refused values, and how many more there are: others can make any number of them."""
        config, count = self._config.first_rejected(MOST)
        others = (
            *filter(None, [self._identity.overwritten]),
            *self._locks.rejected,
            *self._discovery.rejected,
        )
        found = (*config, *others[: MOST - len(config)])
        named = tuple(value if value.etcd_key else replace(value, etcd_key=value.key) for value in found)
        return named, count + len(others) - len(found)

    def _process(self) -> ProcessStatus:
        return ProcessStatus(
            pid=os.getpid(),
            host=socket.gethostname(),
            name=self._name(),
            started=self._wall(self._running),
            seconds=self._running,
            version=VERSION,
            python=platform.python_version(),
        )

    def _history(self) -> HistoryStatus:
        timeline, unsaid = self._cluster.timeline, Statement("")
        return HistoryStatus(
            window=WINDOW,
            recorded_since=self._wall(self._running),
            recorded_seconds=self._running,
            transitions=timeline.transitions(),
            leader_changes=timeline.leader_changes(),
            outages=0,
            outage_seconds=0.0,
            missed=timeline.missed,
            summary=unsaid,
            caption=unsaid,
        )

    @property
    def _running(self) -> float:
        """Seconds since the coordinator was entered."""
        return max(0.0, self._clock.monotonic() - self._cluster.timeline.began_at)

    def _snapshots(self) -> tuple[SnapshotStatus, ...]:
        ours = (followed.keeper for followed in self._followed if followed.keeper is not None)
        return tuple(keeper.report() for keeper in (*ours, *self._discovery.keepers()))

    def _limit_status(self, prefix: str) -> LimitStatus:
        limit = self._options.limits[prefix]
        ages = [
            followed.view.age
            for name, followed in zip(self._options.follow, self._followed, strict=True)
            if followed.view.known and (name.startswith(prefix) or prefix.startswith(name))
        ]
        age = max(ages, default=math.inf)
        return LimitStatus(
            prefix=prefix,
            max_stale=limit.max_stale,
            on_stale=limit.on_stale,
            age=age,
            # Of what nothing is known, nothing is too old.
            over=bool(ages) and age > limit.max_stale,
            keys=self._listing.count(prefix),
            then=_THEN[limit.on_stale],
        )

    def _identity_status(self) -> IdentityStatus:
        identity, reset = self._identity, self._identity.last_reset
        known = identity.known
        return IdentityStatus(
            cluster_id=f"{known.cluster_id:x}" if known.cluster_id else None,
            raft_term=known.raft_term,
            revision=known.revision,
            epoch=known.epoch,
            recorded=bool(known.history) and identity.overwritten is None,
            resets=identity.resets,
            last_reset=reset.reason if reset else None,
            last_reset_ago=self._clock.monotonic() - reset.seen_at if reset else None,
            foreign=tuple(identity.foreign),
            error=identity.error,
            reached=self._cluster.proof is not None,
        )

    def _prefix_status(self, prefix: str, followed: Followed) -> PrefixStatus:
        view, keeper = followed.view, followed.keeper
        limit = self._listing.limit_of(prefix)
        return PrefixStatus(
            prefix=prefix,
            source=view.source,
            revision=view.freshness.reached,
            age=view.age,
            keys=len(view.entries),
            denied=view.denied is not None,
            resets=view.resets,
            epoch=view.history.epoch,
            error=view.error,
            snapshot_error=keeper.error if keeper else None,
            etcd_prefix=view.name,
            limit=None if limit is None else self._limit_status(limit),
        )


_NOT_ENTERED = "not entered yet: use it inside `async with connect(...)`"
_THEN = {"raise": "raises TooStale", "default": "gives the default", "serve": "is served all the same"}
