"""What a coordinator knows, for requirements: by the clock, at this instant, without I/O."""

from __future__ import annotations

from collections.abc import Iterable

from tideover.asgi.rules.requirements import Known, KnownService
from tideover.coordinator.coordinator import Coordinator, life_of
from tideover.coordinator.rules.situation import READ_ONLY
from tideover.types import HealthState, Standing

# Named here, because looking a member of an enumeration up takes as long as the rest of a decision.
_AVAILABLE = HealthState.AVAILABLE
# A tuple, because the hash of such a member takes longer than two comparisons.
_READ_ONLY = tuple(READ_ONLY)


class CoordinatorFacts:
    """The facts of one coordinator; see `rules.requirements.Facts`."""

    __slots__ = ("coordinator",)

    def __init__(self, coordinator: Coordinator) -> None:
        self.coordinator = coordinator

    @property
    def available(self) -> bool:
        return self.coordinator.health.state is _AVAILABLE

    @property
    def writable(self) -> bool:
        health = self.coordinator.health
        return health.state is _AVAILABLE and health.diagnosis not in _READ_ONLY

    @property
    def brief(self) -> str:
        return self.coordinator.health.brief

    def config(self, prefix: str) -> Iterable[Known]:
        return self.coordinator.config.views_under(prefix)

    def service(self, name: str) -> KnownService:
        return life_of(self.coordinator).parts.discovery.require(name)

    def standing(self, election: str) -> Standing | None:
        return self.coordinator.standing(election)
