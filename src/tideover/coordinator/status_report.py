"""The status report: what an operator asks first, gathered from all parts without I/O."""

from __future__ import annotations

import math
import os
import platform
import socket
from dataclasses import replace
from datetime import UTC, datetime

from tideover.cluster.member_status import count_members, describe_members
from tideover.cluster.timeline import WINDOW
from tideover.config.keys import Keys
from tideover.config.listing import Listing
from tideover.coordinator.parts import Parts
from tideover.coordinator.rules.rows import Stands
from tideover.coordinator.rules.situation import refusing
from tideover.coordinator.rules.telling import in_words
from tideover.prefixes.followed import Followed
from tideover.prefixes.view import ViewRules
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
    """Tells how one coordinator and its parts stand."""

    def __init__(self, parts: Parts) -> None:
        options = parts.options
        self._parts = parts
        self._client = parts.client
        self._options = options
        self._listing = Listing(
            Keys(options.base, parts.views),
            dict(zip(options.follow, parts.views, strict=True)),
            limits=options.limits,
        )
        self._stands: Stands = {}

    def report(self, phase: Phase) -> StatusReport:
        """Return the report; see `Coordinator.status`."""
        report, self._stands = in_words(
            self._facts(),
            self._stands,
            now=self._client.clock.monotonic(),
            live_limit=ViewRules().live_limit,
            matter=self._client.state.sentence,
            base=self._options.base,
        )
        return replace(report, phase=phase, sentence=_NOT_ENTERED if phase is Phase.NEW else report.sentence)

    def _facts(self) -> StatusReport:
        """Return the report without words."""
        cluster, health = self._client.state, self._client.health
        locks, conflicts, lock_error = self._parts.locks.status()
        stalls, last_stall = self._parts.elections.stalls()
        rejected, more = self._rejected()
        limits = tuple(map(self._limit_status, sorted(self._options.limits)))
        known = [
            len(each.view.entries) for each in self._parts.followed if each.view.known and not each.view.denied
        ]
        return StatusReport(
            sentence="",
            state=health.state,
            diagnosis=health.diagnosis,
            since=health.since,
            seconds=health.seconds,
            next_probe=max(0.0, cluster.breakers.retry_at - self._client.clock.monotonic()),
            outage_id=self._client.outage_id(),
            namespace=self._options.namespace,
            profile=str(self._options.profile),
            pid=os.getpid(),
            members=describe_members(cluster, self._parts.is_proxy),
            untold=tuple(f"{what}: {why}" for what, why in list(cluster.untold.items())),
            identity=self._identity_status(),
            config=tuple(map(self._prefix_status, self._options.follow, self._parts.followed)),
            rejected=rejected,
            more={"rejected": more} if more else {},
            unfound=self._parts.config.unfound,
            restarts=self._client.home.restarts,
            at=self._wall(0.0),
            headline=Statement(""),
            why="",
            announcement="",
            quorum=count_members(cluster),
            process=self._process(),
            history=self._history(),
            limits=limits,
            keys=sum(len(followed.view.entries) for followed in self._parts.followed),
            keys_served=max(0, sum(known) - sum(limit.keys for limit in refusing(limits))),
            snapshots=self._snapshots(),
            sessions=tuple(session.report() for session in self._parts.sessions),
            locks=locks,
            lock_waits=self._parts.locks.waits(),
            lock_conflicts=conflicts,
            lock_error=lock_error,
            host_locks=self._parts.locks.hosted,
            elections=self._parts.elections.status(),
            jobs=self._parts.jobs.status(),
            stalls=stalls,
            last_stall=last_stall,
            registrations=self._parts.registrations.status(),
            services=self._parts.discovery.status(),
            outage=cluster.timeline.outage,
            last_outage=cluster.timeline.last_outage,
        )

    def keys(self, containing: str, skip: int, limit: int) -> KeyPage:
        """Return some of the followed keys; see `Coordinator.config_keys`."""
        return self._listing.page(containing, skip, limit, rejected=self._parts.config.rejected)

    def _wall(self, ago: float) -> datetime:
        return datetime.fromtimestamp(self._client.clock.wall() - ago, UTC)

    def _rejected(self) -> tuple[tuple[RejectedValue, ...], int]:
        """Return the first refused values, and how many more there are: others can make any number of them."""
        config, count = self._parts.config.first_rejected(MOST)
        others = (
            *filter(None, [self._parts.epoch.overwritten]),
            *self._parts.locks.rejected,
            *self._parts.discovery.rejected,
        )
        found = (*config, *others[: MOST - len(config)])
        named = tuple(value if value.etcd_key else replace(value, etcd_key=value.key) for value in found)
        return named, count + len(others) - len(found)

    def _process(self) -> ProcessStatus:
        return ProcessStatus(
            pid=os.getpid(),
            host=socket.gethostname(),
            name=self._client.process_name(),
            started=self._wall(self._running),
            seconds=self._running,
            version=VERSION,
            python=platform.python_version(),
        )

    def _history(self) -> HistoryStatus:
        timeline, unsaid = self._client.state.timeline, Statement("")
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
        return max(0.0, self._client.clock.monotonic() - self._client.state.timeline.began_at)

    def _snapshots(self) -> tuple[SnapshotStatus, ...]:
        return tuple(keeper.report() for keeper in self._parts.snapshotters())

    def _limit_status(self, prefix: str) -> LimitStatus:
        limit = self._options.limits[prefix]
        ages = [
            followed.view.age
            for name, followed in zip(self._options.follow, self._parts.followed, strict=True)
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
        identity, reset = self._parts.epoch, self._parts.epoch.last_reset
        known = identity.known
        return IdentityStatus(
            cluster_id=f"{known.cluster_id:x}" if known.cluster_id else None,
            raft_term=known.raft_term,
            revision=known.revision,
            epoch=known.epoch,
            recorded=bool(known.history) and identity.overwritten is None,
            resets=identity.resets,
            last_reset=reset.reason if reset else None,
            last_reset_ago=self._client.clock.monotonic() - reset.seen_at if reset else None,
            foreign=tuple(identity.foreign),
            error=identity.error,
            reached=self._client.state.proof is not None,
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
