"""Reports on configuration as a whole: read, changed, served without etcd, read again after that."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from tideover import telemetry
from tideover.client.client import Client
from tideover.prefixes.view import Origin, View
from tideover.types import HealthState, Source

_FROM = {Source.DISK: "disk", Source.MEMBER: "a surviving member"}


def _told_by(view: View) -> str:
    if view.origin is Origin.BOOTSTRAP:
        return "the bootstrap file"
    return _FROM.get(view.source, str(view.source)) if view.source is not None else ""


class News:
    """Reports each change of one coordinator's configuration once."""

    def __init__(self, views: Sequence[View], client: Client) -> None:
        self._views = views
        self._cluster = client.state
        self._clock = client.clock
        self._begun = False
        # Since when etcd cannot be read, in monotonic seconds, and the keys that have changed since.
        self._away_since: float | None = None
        self._changed: set[bytes] = set()

    @property
    def _is_away(self) -> bool:
        health = self._cluster.health
        return health.decided and health.state is not HealthState.AVAILABLE

    @property
    def _revision(self) -> int:
        return max((view.freshness.reached for view in self._views), default=0)

    def started(self) -> None:
        """Report the source of the configuration, if the start ended before etcd was read."""
        if self._begun or not self._views:
            return
        self._begun = True
        self._wait()
        known = [view for view in self._views if view.known]
        telemetry.config_restored(
            sum(len(view.entries) for view in known),
            max((view.age for view in known), default=math.inf),
            sorted(map(_told_by, known)),
            away=self._cluster.health.brief if self._is_away else None,
        )

    def changed(self, keys: Collection[bytes], revision: int) -> None:
        """Report changed keys, unless the report on the end of an outage will include them."""
        if self._away_since is not None:
            self._changed.update(keys)
        if self._begun and (self._away_since is None or self._is_away):
            telemetry.config_applied(len(keys), revision, first=False)

    def report(self) -> None:
        """Report what is new: called when health or freshness has changed."""
        if self._is_away:
            if self._away_since is None:
                self._wait()
            return
        if not self._views or not all(view.source is Source.LIVE or view.refused for view in self._views):
            return
        if self._away_since is not None and self._begun:
            seconds = self._clock.monotonic() - self._away_since
            telemetry.config_recovered(len(self._changed), self._revision, seconds)
        elif not self._begun:
            keys = sum(len(view.entries) for view in self._views)
            if keys:
                telemetry.config_applied(keys, self._revision, first=True)
        self._begun, self._away_since = True, None

    def _wait(self) -> None:
        self._away_since = self._clock.monotonic()
        self._changed.clear()
