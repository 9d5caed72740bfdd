"""What observable instruments show of the coordinators that are open, when somebody asks."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

from opentelemetry.metrics import CallbackOptions, Observation

from tideover.records import HealthState
from tideover.telemetry.scope import meter


class Observed(Protocol):
    """What an open coordinator shows to observable instruments."""

    @property
    def namespace(self) -> str:
        """The coordinator's namespace."""
        ...

    def observe_state(self) -> HealthState:
        """Return the health state now."""
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

    def observe_leaders(self) -> Mapping[tuple[str, str], int]:
        """Return how many elections are led here, by election and standing."""
        ...


_open: weakref.WeakSet[Observed] = weakref.WeakSet()


def observe(coordinator: Observed) -> None:
    """Show a coordinator through the observable instruments."""
    _open.add(coordinator)


def unobserve(coordinator: Observed) -> None:
    """Show a coordinator no longer."""
    _open.discard(coordinator)


def _observing(
    per_coordinator: Callable[[Observed], Iterable[Observation]],
) -> list[Callable[[CallbackOptions], Iterable[Observation]]]:
    def callback(_: CallbackOptions) -> Iterable[Observation]:
        for coordinator in list(_open):
            yield from per_coordinator(coordinator)

    return [callback]


def _observe_state(coordinator: Observed) -> Iterable[Observation]:
    now = coordinator.observe_state()
    for state in HealthState:
        yield Observation(int(state is now), {"tideover.component": "config", "tideover.state": state.value})


def _observe_reads(coordinator: Observed) -> Iterable[Observation]:
    for (source, degraded), count in coordinator.observe_reads().items():
        yield Observation(count, {"tideover.source": source, "tideover.degraded": degraded})


def _observe_age(coordinator: Observed) -> Iterable[Observation]:
    age = coordinator.observe_age()
    if age < float("inf"):
        yield Observation(age, {"db.namespace": coordinator.namespace})


def _observe_leaders(coordinator: Observed) -> Iterable[Observation]:
    for (election, standing), count in coordinator.observe_leaders().items():
        yield Observation(count, {"tideover.election": election, "tideover.standing": standing})


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
    "tideover.config.reads",
    callbacks=_observing(_observe_reads),
    unit="{read}",
    description="Configuration reads by source.",
)
meter.create_observable_gauge(
    "tideover.config.age",
    callbacks=_observing(_observe_age),
    unit="s",
    description="Age of the oldest followed prefix.",
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
