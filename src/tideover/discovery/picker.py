"""Picks the next endpoint of a service, and ejects endpoints whose calls fail; callable from any thread."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Collection

from tideover import telemetry
from tideover.discovery.endpoint import Endpoint
from tideover.discovery.rules.ejection import EjectionRules, Track, ejected
from tideover.discovery.rules.rotation import Rotation

_RULES = EjectionRules()

# One registration of one instance: its successor starts without failures.
Incarnation = tuple[str, str]


class Picker:
    """The rotation of one service's endpoints.

    Attributes:
        ejected: The endpoints that are not picked for a while.
    """

    def __init__(self, service: str, *, monotonic: Callable[[], float], chance: Callable[[], float]) -> None:
        self.ejected: frozenset[Endpoint] = frozenset()
        self._service = service
        self._monotonic = monotonic
        self._chance = chance
        self._pickable: dict[Incarnation, Endpoint] = {}
        self._tracks: dict[Incarnation, Track] = {}
        self._rotation: Rotation[Endpoint] = Rotation((), chance=chance)
        self._next_return = math.inf
        self._turn = threading.RLock()

    def __len__(self) -> int:
        """Return how many endpoints are picked: neither ejected nor of weight 0."""
        self.readmit()
        return len(self._rotation)

    def set_endpoints(self, endpoints: Collection[Endpoint]) -> None:
        """Pick from other endpoints; those that stay keep their turns and their failures."""
        there = {(e.instance, e.incarnation): e for e in endpoints}
        with self._turn:
            self._pickable = {key: e for key, e in there.items() if e.weight > 0}
            self._tracks = {key: track for key, track in self._tracks.items() if key in there}
            self._rotate()

    def pick(self, now: float, avoid: Collection[Endpoint] = ()) -> Endpoint | None:
        """Return the next endpoint; None if there is none."""
        if now >= self._next_return:
            self.readmit()
        with self._turn:
            return self._rotation.next(avoid)

    def report(self, endpoint: Endpoint, ok: bool) -> None:
        """Apply a call's outcome."""
        key = endpoint.instance, endpoint.incarnation
        if ok and key not in self._tracks:
            return
        now = self._monotonic()
        with self._turn:
            if key not in self._pickable:
                return
            # Read under the lock: of two failures at the same time both count.
            track = self._tracks.get(key, Track())
            room = len(ejected(self._tracks, self._pickable, now, _RULES)) < _RULES.most(len(self._pickable))
            after = self._tracks[key] = track.report(ok, now, room=room, rules=_RULES)
        if now < after.until and after is not track:
            self._rotate()
            telemetry.endpoint_ejected(self._service, after.failures, after.length)

    def readmit(self) -> None:
        """End the ejections whose time is over."""
        if self._monotonic() >= self._next_return:
            self._rotate()

    def back_in(self, endpoint: Endpoint) -> float | None:
        """Return the seconds until an ejected endpoint is picked again; None for any other."""
        track = self._tracks.get((endpoint.instance, endpoint.incarnation))
        if track is None or endpoint not in self.ejected:
            return None
        return max(0.0, track.until - self._monotonic())

    def _rotate(self) -> None:
        """Rebuild the rotation: the list or the ejections have changed."""
        now = self._monotonic()
        with self._turn:
            out = ejected(self._tracks, self._pickable, now, _RULES)
            self.ejected = frozenset(self._pickable[key] for key in out)
            self._next_return = min((self._tracks[key].until for key in out), default=math.inf)
            having = ((e, e.weight) for key, e in self._pickable.items() if key not in out)
            self._rotation = Rotation(having, chance=self._chance, before=self._rotation)
