"""Observable instruments: what each open coordinator shows when metrics are exported."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from opentelemetry.metrics import CallbackOptions, Observation

from tideover.telemetry.scope import meter
from tideover.types import Component, HealthState


class Observed(Protocol):
    """What an open coordinator shows to observable instruments; its `Instruments` say what each is."""

    @property
    def namespace(self) -> str: ...
    def observe_state(self) -> HealthState: ...
    def observe_degraded_time(self) -> Mapping[HealthState, float]: ...
    def observe_snapshots(self) -> Iterable[tuple[Component, float, int]]: ...
    def observe_reads(self) -> Mapping[tuple[str, bool], int]: ...
    def observe_age(self) -> float: ...
    def observe_endpoints(self) -> Mapping[tuple[str, str], int]: ...
    def observe_registrations(self) -> Mapping[tuple[str, str], int]: ...
    def observe_rejected(self) -> int: ...
    def observe_candidates(self) -> Mapping[str, int]: ...
    def observe_members(self) -> Mapping[str, str]: ...
    def observe_leaders(self) -> Mapping[tuple[str, str], int]: ...


# Not a WeakSet, whose copy is not one step: the exporter's thread copies while coordinators open and close.
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
    rows: Callable[[Observed], Iterable[tuple[str | tuple[str | bool, ...], float]]],
    *names: str,
    namespaced: bool = False,
    component: Component | None = None,
) -> list[Callable[[CallbackOptions], Iterable[Observation]]]:
    """Return a callback with one observation for each row of each open coordinator.

    Args:
        rows: The labels and the number of each observation.
        namespaced: Whether the coordinator's namespace is an attribute as well.
    """
    fixed: dict[str, str] = {} if component is None else {"tideover.component": component}

    def callback(_: CallbackOptions) -> Iterable[Observation]:
        for coordinator in _coordinators():
            of = {**fixed, "db.namespace": coordinator.namespace} if namespaced else fixed
            for labels, number in rows(coordinator):
                labels = labels if isinstance(labels, tuple) else (labels,)
                # An exporter writes an enum's member as its name, so each becomes a text.
                values = (each if isinstance(each, bool) else str(each) for each in labels)
                yield Observation(number, {**of, **dict(zip(names, values, strict=True))})

    return [callback]


def _states(coordinator: Observed) -> Iterable[tuple[HealthState, int]]:
    now = coordinator.observe_state()
    return ((state, int(state is now)) for state in HealthState)


def _observe_ages(_: CallbackOptions) -> Iterable[Observation]:
    # Of a gauge an SDK keeps the last observation: of several coordinators the oldest is shown.
    oldest: dict[str, float] = {}
    for coordinator in _coordinators():
        age, namespace = coordinator.observe_age(), coordinator.namespace
        if age < float("inf"):
            oldest[namespace] = max(age, oldest.get(namespace, 0.0))
    return [Observation(age, {"db.namespace": namespace}) for namespace, age in oldest.items()]


def _observing_snapshots(
    measure: Callable[[list[tuple[float, int]]], float],
) -> list[Callable[[CallbackOptions], Iterable[Observation]]]:
    """Return a callback that measures the ages and sizes of each namespace's snapshots, by component."""

    def callback(_: CallbackOptions) -> Iterable[Observation]:
        found: dict[tuple[Component, str], list[tuple[float, int]]] = {}
        for coordinator in _coordinators():
            for component, age, size in coordinator.observe_snapshots():
                found.setdefault((component, coordinator.namespace), []).append((age, size))
        for (component, namespace), files in found.items():
            number = measure(files)
            if number < float("inf"):
                yield Observation(number, {"tideover.component": component, "db.namespace": namespace})

    return [callback]


def _observe_members(_: CallbackOptions) -> Iterable[Observation]:
    # Several coordinators may know one member, and not all of them its version.
    known: dict[str, str] = {}
    for coordinator in _coordinators():
        for member, version in coordinator.observe_members().items():
            known[member] = version or known.get(member, "")
    for member, version in known.items():
        yield Observation(1, {"server.address": member, "tideover.backend.version": version or "unknown"})


meter.create_observable_up_down_counter(
    "tideover.component.status",
    callbacks=_observing(_states, "tideover.state", component="config"),
    unit="{component}",
    description="1 for the health state that holds now, 0 for the others.",
)
meter.create_observable_counter(
    "tideover.degraded.time",
    callbacks=_observing(lambda tide: tide.observe_degraded_time().items(), "tideover.state", component="config"),
    unit="s",
    description="For how long etcd has been in a state that is not well.",
)
meter.create_observable_gauge(
    "tideover.snapshot.age",
    callbacks=_observing_snapshots(lambda files: max(age for age, _ in files)),
    unit="s",
    description="Age of the oldest snapshot on disk: what a restart without etcd would begin with.",
)
meter.create_observable_gauge(
    "tideover.snapshot.size",
    callbacks=_observing_snapshots(lambda files: sum(size for _, size in files)),
    unit="By",
    description="Size of the snapshots on disk.",
)
meter.create_observable_counter(
    "tideover.config.reads",
    callbacks=_observing(lambda tide: tide.observe_reads().items(), "tideover.source", "tideover.degraded"),
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
    callbacks=_observing(lambda tide: [((), tide.observe_rejected())], namespaced=True),
    unit="{value}",
    description="Values refused now, in whose place an older one or a default is served.",
)
meter.create_observable_up_down_counter(
    "tideover.election.candidate.active",
    callbacks=_observing(lambda tide: tide.observe_candidates().items(), "tideover.election", namespaced=True),
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
    callbacks=_observing(
        lambda tide: tide.observe_leaders().items(), "tideover.election", "tideover.standing", namespaced=True
    ),
    unit="{leader}",
    description="Elections led here; over all processes the sum per election should be at most 1.",
)
meter.create_observable_up_down_counter(
    "tideover.discovery.endpoint.active",
    callbacks=_observing(lambda tide: tide.observe_endpoints().items(), "tideover.service", "tideover.source"),
    unit="{endpoint}",
    description="Endpoints that can be picked, by service and where the list comes from.",
)
meter.create_observable_up_down_counter(
    "tideover.discovery.registration.active",
    callbacks=_observing(lambda tide: tide.observe_registrations().items(), "tideover.service", "tideover.state"),
    unit="{registration}",
    description="Endpoints that this process has registered, by how far they are in etcd.",
)
