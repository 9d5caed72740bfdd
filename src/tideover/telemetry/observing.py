"""What observable instruments show of the coordinators that are open, when somebody asks."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from opentelemetry.metrics import CallbackOptions, Observation

from tideover.telemetry.scope import meter
from tideover.types import Component, HealthState


class Observed(Protocol):
    """What an open coordinator shows to observable instruments."""

    @property
    def namespace(self) -> str:
        """The coordinator's namespace."""
        ...

    def observe_state(self) -> HealthState:
        """Return the health state now."""
        ...

    def observe_degraded_time(self) -> Mapping[HealthState, float]:
        """Return for how many seconds etcd has been in each of the states that are not well."""
        ...

    def observe_snapshots(self) -> Iterable[tuple[Component, float, int]]:
        """Return whose each snapshot on disk is, its age in seconds, and its size in bytes."""
        ...

    def observe_reads(self) -> Mapping[tuple[str, bool], int]:
        """Return how many reads there were, by source and whether they were degraded."""
        ...

    def observe_age(self) -> float:
        """Return the age in seconds of the oldest followed prefix."""
        ...

    def observe_endpoints(self) -> Mapping[tuple[str, str], int]:
        """Return how many endpoints can be picked, by service and source."""
        ...

    def observe_registrations(self) -> Mapping[tuple[str, str], int]:
        """Return how many endpoints are registered here, by service and state."""
        ...

    def observe_rejected(self) -> int:
        """Return how many values of the configuration are refused now: of keys and of bound objects."""
        ...

    def observe_candidates(self) -> Mapping[str, int]:
        """Return how often this process stands in each election, led or not."""
        ...

    def observe_members(self) -> Mapping[str, str]:
        """Return the version of each member of etcd, by endpoint; empty if it is unknown."""
        ...

    def observe_leaders(self) -> Mapping[tuple[str, str], int]:
        """Return how many elections are led here, by election and standing."""
        ...


# Not a WeakSet: its copy is no single step, and the exporter's thread makes one while coordinators come and go.
_open: set[weakref.ref[Observed]] = set()


def observe(coordinator: Observed) -> None:
    """Show a coordinator through the observable instruments."""
    _open.add(weakref.ref(coordinator, _open.discard))


def unobserve(coordinator: Observed) -> None:
    """Show a coordinator no longer."""
    _open.discard(weakref.ref(coordinator))


def _coordinators() -> list[Observed]:
    return [coordinator for each in list(_open) if (coordinator := each()) is not None]


def _observing(
    per_coordinator: Callable[[Observed], Iterable[Observation]],
) -> list[Callable[[CallbackOptions], Iterable[Observation]]]:
    def callback(_: CallbackOptions) -> Iterable[Observation]:
        for coordinator in _coordinators():
            yield from per_coordinator(coordinator)

    return [callback]


def _observe_state(coordinator: Observed) -> Iterable[Observation]:
    now = coordinator.observe_state()
    for state in HealthState:
        yield Observation(int(state is now), {"tideover.component": "config", "tideover.state": state.value})


def _observe_reads(coordinator: Observed) -> Iterable[Observation]:
    for (source, degraded), count in coordinator.observe_reads().items():
        yield Observation(count, {"tideover.source": source, "tideover.degraded": degraded})


def _observe_degraded_time(coordinator: Observed) -> Iterable[Observation]:
    for state, seconds in coordinator.observe_degraded_time().items():
        yield Observation(seconds, {"tideover.component": "config", "tideover.state": state.value})


def _observe_ages(_: CallbackOptions) -> Iterable[Observation]:
    # Of a gauge an SDK keeps the last observation: of several coordinators the oldest is shown.
    oldest: dict[str, float] = {}
    for coordinator in _coordinators():
        age, namespace = coordinator.observe_age(), coordinator.namespace
        if age < float("inf"):
            oldest[namespace] = max(age, oldest.get(namespace, 0.0))
    return [Observation(age, {"db.namespace": namespace}) for namespace, age in oldest.items()]


def _snapshots() -> Mapping[tuple[Component, str], list[tuple[float, int]]]:
    found: dict[tuple[Component, str], list[tuple[float, int]]] = {}
    for coordinator in _coordinators():
        for component, age, size in coordinator.observe_snapshots():
            found.setdefault((component, coordinator.namespace), []).append((age, size))
    return found


def _observe_snapshot_ages(_: CallbackOptions) -> Iterable[Observation]:
    for (component, namespace), files in _snapshots().items():
        age = max(age for age, _ in files)
        if age < float("inf"):
            yield Observation(age, {"tideover.component": component, "db.namespace": namespace})


def _observe_snapshot_sizes(_: CallbackOptions) -> Iterable[Observation]:
    for (component, namespace), files in _snapshots().items():
        size = sum(size for _, size in files)
        yield Observation(size, {"tideover.component": component, "db.namespace": namespace})


def _observe_leaders(coordinator: Observed) -> Iterable[Observation]:
    for (election, standing), count in coordinator.observe_leaders().items():
        named = {"db.namespace": coordinator.namespace, "tideover.election": election}
        yield Observation(count, {**named, "tideover.standing": standing})


def _observe_rejected(coordinator: Observed) -> Iterable[Observation]:
    yield Observation(coordinator.observe_rejected(), {"db.namespace": coordinator.namespace})


def _observe_candidates(coordinator: Observed) -> Iterable[Observation]:
    for election, count in coordinator.observe_candidates().items():
        yield Observation(count, {"db.namespace": coordinator.namespace, "tideover.election": election})


def _observe_members(_: CallbackOptions) -> Iterable[Observation]:
    # Several coordinators may know one member, and not all of them its version.
    known: dict[str, str] = {}
    for coordinator in _coordinators():
        for member, version in coordinator.observe_members().items():
            known[member] = version or known.get(member, "")
    for member, version in known.items():
        yield Observation(1, {"server.address": member, "tideover.backend.version": version or "unknown"})


def _observe_endpoints(coordinator: Observed) -> Iterable[Observation]:
    for (service, source), count in coordinator.observe_endpoints().items():
        yield Observation(count, {"tideover.service": service, "tideover.source": source})


def _observe_registrations(coordinator: Observed) -> Iterable[Observation]:
    for (service, state), count in coordinator.observe_registrations().items():
        yield Observation(count, {"tideover.service": service, "tideover.state": state})


meter.create_observable_up_down_counter(
    "tideover.component.status",
    callbacks=_observing(_observe_state),
    unit="{component}",
    description="1 for the health state that holds now, 0 for the others.",
)
meter.create_observable_counter(
    "tideover.degraded.time",
    callbacks=_observing(_observe_degraded_time),
    unit="s",
    description="For how long etcd has been in a state that is not well.",
)
meter.create_observable_gauge(
    "tideover.snapshot.age",
    callbacks=[_observe_snapshot_ages],
    unit="s",
    description="Age of the oldest snapshot on disk: what a restart without etcd would begin with.",
)
meter.create_observable_gauge(
    "tideover.snapshot.size",
    callbacks=[_observe_snapshot_sizes],
    unit="By",
    description="Size of the snapshots on disk.",
)
meter.create_observable_counter(
    "tideover.config.reads",
    callbacks=_observing(_observe_reads),
    unit="{read}",
    description="Configuration reads by source.",
)
meter.create_observable_gauge(
    "tideover.config.age",
    callbacks=[_observe_ages],
    unit="s",
    description="Age of the oldest followed prefix.",
)
meter.create_observable_up_down_counter(
    "tideover.config.rejected.active",
    callbacks=_observing(_observe_rejected),
    unit="{value}",
    description="Values refused now, in whose place an older one or a default is served.",
)
meter.create_observable_up_down_counter(
    "tideover.election.candidate.active",
    callbacks=_observing(_observe_candidates),
    unit="{candidate}",
    description="Candidates of this process, the one that leads among them.",
)
meter.create_observable_gauge(
    "tideover.backend.member.info",
    callbacks=[_observe_members],
    unit="{member}",
    description="1 for each member of etcd that is known here, with its version.",
)
meter.create_observable_up_down_counter(
    "tideover.election.leader",
    callbacks=_observing(_observe_leaders),
    unit="{leader}",
    description="Elections led here; over all processes the sum per election should be at most 1.",
)
meter.create_observable_up_down_counter(
    "tideover.discovery.endpoint.active",
    callbacks=_observing(_observe_endpoints),
    unit="{endpoint}",
    description="Endpoints that can be picked, by service and where the list comes from.",
)
meter.create_observable_up_down_counter(
    "tideover.discovery.registration.active",
    callbacks=_observing(_observe_registrations),
    unit="{registration}",
    description="Endpoints that this process has registered, by how far they are in etcd.",
)
