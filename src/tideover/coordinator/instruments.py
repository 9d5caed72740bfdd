"""What observable instruments show of a coordinator that is open; see `telemetry.observing`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tideover.coordinator.parts import Parts
from tideover.types import Component, HealthState


class Instruments:
    """Shows one coordinator's parts, each method to one instrument."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self.namespace = parts.options.namespace

    def observe_state(self) -> HealthState:
        """Return the health state now."""
        return self._parts.client.health.state

    def observe_degraded_time(self) -> Mapping[HealthState, float]:
        """Return for how many seconds etcd has been in each of the states that are not well."""
        return self._parts.outages.degraded_seconds()

    def observe_snapshots(self) -> Iterable[tuple[Component, float, int]]:
        """Return whose each snapshot on disk is, its age in seconds, and its size in bytes."""
        return [(each.component, each.age, each.size) for each in self._parts.snapshotters()]

    def observe_reads(self) -> Mapping[tuple[str, bool], int]:
        """Return how many configuration reads there were, by source and whether they were degraded."""
        return self._parts.config.count_reads()

    def observe_age(self) -> float:
        """Return the age in seconds of the oldest followed prefix; infinite if unknown."""
        return max((view.age for view in self._parts.views), default=0.0)

    def observe_endpoints(self) -> Mapping[tuple[str, str], int]:
        """Return how many endpoints can be picked, by service and source."""
        return self._parts.discovery.active()

    def observe_registrations(self) -> Mapping[tuple[str, str], int]:
        """Return how many endpoints are registered here, by service and state."""
        return self._parts.registrations.count()

    def observe_rejected(self) -> int:
        """Return how many values of the configuration are refused now: of keys and of bound objects."""
        return self._parts.config.first_rejected(0)[1]

    def observe_candidates(self) -> Mapping[str, int]:
        """Return how often this process stands in each election, led or not."""
        return self._parts.elections.candidacies()

    def observe_members(self) -> Mapping[str, str]:
        """Return the version of each member of etcd, by endpoint; empty if it is unknown."""
        return self._parts.client.state.known_versions()

    def observe_leaders(self) -> Mapping[tuple[str, str], int]:
        """Return how many elections are led here, by election and standing."""
        return self._parts.elections.leading()
