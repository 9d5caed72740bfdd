"""The status report: what an operator asks first, gathered from all parts without I/O."""

from __future__ import annotations

import importlib.metadata
import math
import os
from collections.abc import Callable, Sequence
from functools import cache

from tideover.clock import Clock
from tideover.cluster.health import ClusterHealth
from tideover.cluster.member_sync import describe_members
from tideover.cluster.state import Lanes
from tideover.config.config import Config
from tideover.discovery.discovery import Discovery
from tideover.elections.elections import Elections
from tideover.elections.jobs import Jobs
from tideover.epoch.tracker import Identity
from tideover.holders import process_name
from tideover.home import Home
from tideover.locks.locks import Locks
from tideover.options import Options
from tideover.prefixes.followed import Followed
from tideover.prefixes.view import View
from tideover.registration.registrations import Registrations
from tideover.sessions.pool import SessionPool
from tideover.status import IdentityStatus, PrefixStatus, ServiceStatus, StatusReport, duration
from tideover.types import HealthState, Phase, RegistrationState, Source

_UNTOLD = "not entered yet: use it inside `async with connect(...)`"


class Reporter:
    """Tells how one coordinator and its parts stand.

    Args:
        options: What it was given.
        clock: The clocks.
        lanes: The members.
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
    """

    def __init__(
        self,
        options: Options,
        *,
        clock: Clock,
        lanes: Lanes,
        health: ClusterHealth,
        identity: Identity,
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
    ) -> None:
        self._options = options
        self._clock = clock
        self._lanes = lanes
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

    def __repr__(self) -> str:
        """Show the sentence."""
        return f"<Reporter {self.sentence()}>"

    def report(self, phase: Phase) -> StatusReport:
        """Return the report; see `Coordinator.status`."""
        lanes, health = self._lanes, self._health
        locks, conflicts, lock_error = self._locks.status()
        stalls, last_stall = self._elections.stalls()
        return StatusReport(
            sentence=_UNTOLD if phase is Phase.NEW else self.sentence(),
            state=health.state,
            diagnosis=health.diagnosis,
            since=health.since,
            seconds=health.seconds,
            next_probe=max(0.0, lanes.retry_at - self._clock.monotonic()),
            outage_id=self._outage_id(),
            namespace=self._options.namespace,
            profile=str(self._options.profile),
            pid=os.getpid(),
            members=describe_members(lanes, self._is_proxy),
            untold=tuple(f"{what}: {why}" for what, why in list(lanes.untold.items())),
            identity=self._identity_status(),
            config=tuple(map(self._prefix_status, self._options.follow, self._followed)),
            rejected=(
                *self._config.rejected,
                *filter(None, [self._identity.overwritten]),
                *self._locks.rejected,
                *self._discovery.rejected,
            ),
            unfound=self._config.unfound,
            restarts=self._home.restarts,
            sessions=tuple(session.report() for session in self._sessions),
            locks=locks,
            lock_conflicts=conflicts,
            lock_error=lock_error,
            elections=self._elections.status(),
            jobs=self._jobs.status(),
            stalls=stalls,
            last_stall=last_stall,
            registrations=self._registrations.status(),
            services=self._discovery.status(),
            phase=phase,
            process=process_name(),
            version=_version(),
        )

    def sentence(self) -> str:
        """Return the situation in a sentence or two, for people."""
        text = self._lanes.sentence
        if self._health.state is not HealthState.AVAILABLE:
            text += f"; {self._health.state} for {duration(self._health.seconds)}"
        foreign = list(self._identity.foreign)
        wrong = [f"{member} belongs to another cluster and is not used." for member in foreign]
        proxies = [member for member in self._lanes.members if self._is_proxy(member)]
        behind = [f"{', '.join(proxies)} is an etcd grpc-proxy: leases are refused."] if proxies else []
        config = (_describe(followed.view) for followed in self._followed)
        services = filter(None, map(_describe_service, self._discovery.status()))
        led = (f"{name!r} is led here, {standing}." for name, standing in self._elections.leading())
        absent = (
            f"{status.service!r} is not registered: {status.error or 'it is about to be'}."
            for status in self._registrations.status()
            if status.state in (RegistrationState.WAITING, RegistrationState.REFUSED)
        )
        unfound = (
            f"etcd has never had a key under {self._options.base + prefix!r}: settings there are the defaults."
            for prefix in self._config.unfound
        )
        failed = (
            f"What runs while leading {job.name!r} has failed ({job.error}), and is a candidate again in "
            f"{duration(job.again_in)}."
            for job in self._jobs.status()
            if job.again_in is not None
        )
        return f"{text}. " + " ".join([*wrong, *config, *unfound, *services, *led, *failed, *absent, *behind])

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
        )

    def _prefix_status(self, prefix: str, followed: Followed) -> PrefixStatus:
        view, keeper = followed.view, followed.keeper
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
        )


@cache
def _version() -> str:
    try:
        return importlib.metadata.version("tideover")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


_SERVED = {
    Source.LIVE: "live",
    Source.MEMBER: "served from a surviving member",
    Source.MEMORY: "served from memory",
    Source.DISK: "served from disk",
}


def _describe(view: View) -> str:
    source = view.source
    if view.denied is not None:
        return f"Config {view.name!r} may not be read: etcd denies it to this user."
    if source is None:
        return f"Config {view.name!r} has never been read."
    age = (
        ""
        if source is Source.LIVE
        else f", {duration(view.age)} old"
        if math.isfinite(view.age)
        else ", of unknown age"
    )
    return f"Config {view.name!r} is {_SERVED[source]}{age}."


def _describe_service(service: ServiceStatus) -> str:
    """Return what there is to be said about a service; empty if all is well with it."""
    if service.denied:
        return f"The endpoints of {service.name!r} may not be read: etcd denies them to this user."
    if service.source is None:
        return f"The endpoints of {service.name!r} have never been read."
    held = f", {service.held} of them no longer in etcd" if service.held else ""
    if service.source is Source.LIVE:
        return f"{service.name!r} has {_counted(service.endpoints)}{held}." if held else ""
    age = f"{duration(service.age)} old" if math.isfinite(service.age) else "of unknown age"
    if service.endpoints == 0:
        listed = f"The empty list of {service.name!r} is"
    elif service.endpoints == 1:
        listed = f"The endpoint of {service.name!r} is"
    else:
        listed = f"The {service.endpoints} endpoints of {service.name!r} are"
    return f"{listed} {_SERVED[service.source]}, {age}{held}."


def _counted(endpoints: int) -> str:
    return "1 endpoint" if endpoints == 1 else f"{endpoints} endpoints"
