"""One service that is followed: its endpoints, whose turn it is, and who is ejected.

`prefixes.view` knows what etcd has; here it becomes a list. What is decided about it is in `rules`: when an
instance leaves (`removals`), who is not picked for a while (`ejection`), whose turn it is (`rotation`).

The event loop changes the list; `pick` and `report` may be called from any thread.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from typing import Final, Protocol

import anyio

from tideover import telemetry
from tideover.broadcast import Broadcast
from tideover.clock import Clock
from tideover.cluster.rules.health import reason_of
from tideover.cluster.state import ClusterState
from tideover.discovery.endpoint import Endpoint, decode
from tideover.discovery.rules.ejection import EjectionRules, Track, ejected
from tideover.discovery.rules.removals import Listing, RemovalRules
from tideover.discovery.rules.rotation import Rotation
from tideover.errors import AuthenticationFailed, Closed, EndpointsUnknown, NoEndpoints, TooStale
from tideover.home import Home
from tideover.policies import StalenessLimit
from tideover.prefixes.rules import Verdict, judge
from tideover.prefixes.snapshotter import Snapshotter
from tideover.prefixes.view import View
from tideover.request_record import Mark, present_record
from tideover.status import EndpointStatus, RejectedValue, ServiceStatus, duration
from tideover.types import Component, Entry, HealthState, Source

COMPONENT: Final = "discovery"

# How many endpoints of a service the status shows.
_MOST_LISTED = 100

_REMOVALS = RemovalRules()
_EJECTION = EjectionRules()

# One registration of one instance: its successor begins with a clean record.
Incarnation = tuple[str, str]
TakeChanges = Callable[[Mapping[bytes, Entry | None], int], None]


class Followed(Protocol):
    """A followed prefix, with its snapshot."""

    @property
    def view(self) -> View:
        """What is known of it."""
        ...

    @property
    def keeper(self) -> Snapshotter | None:
        """What keeps it on disk."""
        ...

    @property
    def restored(self) -> bool:
        """Whether it is known what is on disk."""
        ...

    @property
    def awaited(self) -> bool:
        """Whether more is about to be known than is now: from etcd for the first time, or else from the disk."""
        ...

    def tasks(self) -> dict[str, Callable[[], Awaitable[object]]]:
        """Return the tasks that keep it up to date."""
        ...


class Follow(Protocol):
    """Makes what follows a prefix."""

    def __call__(
        self, prefix: str, *, component: Component, on_change: TakeChanges, may_save: Callable[[], bool]
    ) -> Followed:
        """Return what follows `prefix`."""
        ...


def newest(known: Iterable[tuple[int, Endpoint]]) -> dict[str, Endpoint]:
    """Return each instance's endpoint: of several incarnations the one that came last, of those that stay.

    Args:
        known: Create revisions and endpoints.
    """
    in_order = (endpoint for _, endpoint in sorted(known, key=lambda one: one[0]))
    return {endpoint.instance: endpoint for endpoint in in_order if not endpoint.leaving}


class Service:
    """One service.

    Args:
        name: The service.
        base: What all keys begin with: the namespace.
        prefix: What its keys begin with, with the namespace.
        follow: Makes what follows a prefix.
        cluster: The health of the cluster.
        clock: The clocks.
        chance: Draws a number uniformly from [0, 1).
        outage_id: Returns the present outage's id; empty if there is none.
        why: Returns what is the matter with etcd, in words.
        home: The event loop it belongs to.

    Attributes:
        name: The service.
        home: The event loop it belongs to.
        followed: What keeps it up to date.
        endpoints: All endpoints, in the order of their instances.
        ejected: Those that are not picked for a while.
        version: How often the endpoints have changed.
        known: Whether they were ever read, from etcd or from a snapshot.
        awaited: Whether they are about to be read for the first time: from etcd as long as no outage is known,
            else from the disk.
        listed: Fires when any of these has changed.
        checked_at: Until when no look at the state is needed, in monotonic seconds.
        closed: Why it is not followed any more; None while it is.
    """

    def __init__(
        self,
        name: str,
        *,
        base: str,
        prefix: str,
        follow: Follow,
        cluster: ClusterState,
        clock: Clock,
        chance: Callable[[], float],
        outage_id: Callable[[], str],
        why: Callable[[], str],
        home: Home,
    ) -> None:
        self.name = name
        self.endpoints: tuple[Endpoint, ...] = ()
        self.ejected: frozenset[Endpoint] = frozenset()
        self.version = 0
        self.known = False
        self.awaited = True
        self.listed = Broadcast()
        self.checked_at = -math.inf
        self.closed: str | None = None
        self.monotonic = clock.monotonic
        self.home = home
        self._base = base.encode()
        self._cluster = cluster
        self._chance = chance
        self._outage_id = outage_id
        self._why = why
        self._decoded: dict[bytes, tuple[int, Endpoint]] = {}
        self._refused: dict[bytes, RejectedValue] = {}
        self._left: set[str] = set()
        self._changed = True
        self._trusted = False
        self._listing: Listing[Endpoint] = Listing()
        self._tracks: dict[Incarnation, Track] = {}
        self._rotation: Rotation[Endpoint] = Rotation((), chance=chance)
        self._next_return = math.inf
        self._turn = threading.RLock()
        self._denied: object = None
        self._marked_context: object = None
        self.followed = follow(
            prefix, component=COMPONENT, on_change=self._take_changes, may_save=lambda: not self.held
        )
        self._view = self.followed.view
        self._resets = self._view.resets
        self.health_changed()

    def __repr__(self) -> str:
        """Show the name, where the list comes from, and how long it is."""
        return f"<Service {self.name!r} {self._view.source or 'unknown'}, {len(self.endpoints)} endpoints>"

    # The list --------------------------------------------------------------------------------------------------

    @property
    def view(self) -> View:
        """What is known of its prefix."""
        return self._view

    @property
    def held(self) -> tuple[Endpoint, ...]:
        """The endpoints that etcd no longer has, and that are still in the list."""
        return tuple(self._listing.listed[instance] for instance in sorted(self._listing.missing))

    @property
    def refused(self) -> tuple[RejectedValue, ...]:
        """What is in etcd and cannot be used."""
        return tuple(self._refused.values())

    def has(self, n: int) -> bool:
        """Return whether at least `n` endpoints are known; of 0, whether it is known how many there are."""
        return self.known and len(self.endpoints) >= n

    def _take_changes(self, changes: Mapping[bytes, Entry | None], revision: int) -> None:
        """Take in what the view announces; the list follows when all of it is known."""
        for key, entry in changes.items():
            self._decoded.pop(key, None)
            self._refused.pop(key, None)
            if entry is None:
                continue
            try:
                endpoint = decode(key.removeprefix(self._base).decode(), entry.value)
            except ValueError as exc:
                name = key.decode(errors="backslashreplace")
                self._refused[key] = RejectedValue(name, entry.mod_revision, str(exc))
                telemetry.endpoint_rejected(self.name, f"{exc} (revision {entry.mod_revision})")
            else:
                self._decoded[key] = entry.create_revision, endpoint
                if endpoint.leaving:
                    self._left.add(endpoint.instance)
        self._changed = True

    async def tend(self) -> None:
        """Keep the list up to date with the view, until cancelled."""
        while True:
            changed = self._view.changed.next()
            self.refresh()
            with anyio.move_on_after(max(0.01, self._due_in())):
                await changed.wait()

    def _due_in(self) -> float:
        """Return seconds after which time alone may change the list, or whether it is live."""
        return (
            min(self._listing.next_at(_REMOVALS), self.checked_at) - self.monotonic()
            if self._trusted
            else math.inf
        )

    def health_changed(self) -> None:
        """Take in that the state of etcd has changed, or its history."""
        if self._cluster.health.decided and self._cluster.health.state is not HealthState.AVAILABLE:
            self._suspend()
        self._marked_context = None
        self.refresh()

    def _suspend(self) -> None:
        self._listing = self._listing.suspend()
        self._changed = True

    def reset(self) -> None:
        """Take in that etcd is in another history."""
        self._suspend()
        self._view.changed.fire()

    def refresh(self) -> None:
        """Bring the list up to date with the view and the time."""
        view, now = self._view, self.monotonic()
        if view.resets != self._resets:
            self._resets = view.resets
            self._suspend()
        trusted = view.source is Source.LIVE and view.denied is None
        # While it is proven, and nobody has said that it is not, `pick` looks at nothing else.
        self.checked_at = view.freshness.synced_at + view.rules.live_limit if trusted else -math.inf
        if self.closed is not None:
            self.checked_at = -math.inf
            return
        told = view.synced, self.followed.awaited, view.denied
        if told != (self.known, self.awaited, self._denied):
            self.known, self.awaited, self._denied = told
            self._changed = True
            self.listed.fire()
        if not (self._changed or trusted is not self._trusted or now >= self._listing.next_at(_REMOVALS)):
            return
        self._changed, self._trusted = False, trusted
        before, held = self._listing.listed, bool(self._listing.missing)
        left, self._left = self._left, set()
        self._listing = self._listing.observe(
            newest(self._decoded.values()), now, trusted=trusted, rules=_REMOVALS, left=left
        )
        if self._listing.listed != before:
            self._relist()
        if self._listing.missing and not held:
            telemetry.removals_held(self.name, len(self._listing.missing), len(self.endpoints))

    def _relist(self) -> None:
        listed = self._listing.listed
        self.endpoints = tuple(listed[instance] for instance in sorted(listed))
        there = {(e.instance, e.incarnation) for e in self.endpoints}
        with self._turn:
            self._tracks = {key: track for key, track in self._tracks.items() if key in there}
            self._rotate()
        self.version += 1
        self.listed.fire()

    # Picking ---------------------------------------------------------------------------------------------------

    def _rotate(self) -> None:
        """Work out anew whose turn it is: the list has changed, or who is ejected."""
        now = self.monotonic()
        pickable = {(e.instance, e.incarnation): e for e in self.endpoints if e.weight > 0}
        with self._turn:
            out = ejected(self._tracks, pickable, now, _EJECTION)
            self.ejected = frozenset(pickable[key] for key in out)
            self._next_return = min((self._tracks[key].until for key in out), default=math.inf)
            having = ((e, e.weight) for key, e in pickable.items() if key not in out)
            self._rotation = Rotation(having, chance=self._chance, before=self._rotation)

    def pick(self, now: float, avoid: Collection[Endpoint] = ()) -> Endpoint:
        """Return whose turn it is.

        Args:
            now: The time in monotonic seconds.
            avoid: Whom not to pick, as long as there is anybody else.

        Raises:
            NoEndpoints: There is nobody.
        """
        if now >= self._next_return:
            self.readmit()
        with self._turn:
            endpoint = self._rotation.next(avoid)
        if endpoint is None:
            raise self._nobody()
        return endpoint

    @property
    def pickable(self) -> int:
        """How many endpoints have turns: neither ejected nor of weight 0."""
        self.readmit()
        return len(self._rotation)

    def readmit(self) -> None:
        """Take those back whose ejection is over."""
        if self.monotonic() >= self._next_return:
            self._rotate()

    def _nobody(self) -> NoEndpoints:
        self.require_known()
        age = self._view.age
        if self.awaited:
            return self._unknown("none on disk can be picked, and etcd's have not been read yet", age)
        drained = f"all {len(self.endpoints)} endpoints of {self.name!r} have weight 0"
        what = drained if self.endpoints else f"{self.name!r} has no endpoints"
        ago = f"{duration(age)} ago" if math.isfinite(age) else "an unknown time ago"
        when = "" if self._view.source is Source.LIVE else f", as of {ago}: {self._why()}"
        return NoEndpoints(what + when, service=self.name, age=age)

    def report(self, endpoint: Endpoint, ok: bool) -> None:
        """Take in how a call went."""
        key = endpoint.instance, endpoint.incarnation
        if ok and key not in self._tracks:
            return
        now = self.monotonic()
        with self._turn:
            pickable = [(e.instance, e.incarnation) for e in self.endpoints if e.weight > 0]
            if key not in pickable:
                return
            # Read under the lock: of two failures at the same time both count.
            track = self._tracks.get(key, Track())
            room = len(ejected(self._tracks, pickable, now, _EJECTION)) < _EJECTION.most(len(pickable))
            after = self._tracks[key] = track.report(ok, now, room=room, rules=_EJECTION)
        if now < after.until and after is not track:
            self._rotate()
            telemetry.endpoint_ejected(self.name, after.failures, after.length)

    # Honesty ---------------------------------------------------------------------------------------------------

    def check(self, limit: StalenessLimit | None) -> None:
        """Look whether the list may be used, and mark the request if it is not live.

        Args:
            limit: How old it may be; None means of any age.

        Raises:
            Closed: It is not followed any more.
            PermissionDenied: A quorum refuses to let this client read it.
            AuthenticationFailed: Nothing is known of it, because a quorum refuses the credentials.
            EndpointsUnknown: Nothing is known of it.
            TooStale: It is older than the limit allows.
        """
        self.require_known()
        view = self._view
        age = view.age
        if limit is not None and judge(limit, age, has_default=False) is Verdict.RAISE:
            old = f"{duration(age)} old" if math.isfinite(age) else "of unknown age"
            raise TooStale(
                f"the endpoints of {self.name!r} are {old}, "
                f"more than max_stale={limit.max_stale} s: {self._why()}",
                age=age,
                max_stale=limit.max_stale,
            )
        source = view.source
        if source is not None and source is not Source.LIVE:
            self._mark(source, age)

    def require_open(self) -> None:
        """Raise if it is not followed any more, or may not be; see `check`."""
        if self.closed is not None:
            raise Closed(self.closed)
        if self._view.denied is not None:
            raise self._view.denied

    def require_known(self) -> None:
        """Raise if nothing is known, or nothing may be; see `check`."""
        self.require_open()
        if self.known:
            return
        if self._cluster.unauthorized:
            raise AuthenticationFailed(f"the endpoints of {self.name!r} are not known: {self._why()}")
        raise self._unknown(self.why_unknown())

    def why_unknown(self) -> str:
        """Return why nothing is known, or not yet."""
        if self._cluster.health.decided and self._cluster.health.state is not HealthState.AVAILABLE:
            return self._why()
        return self._view.error or "they have not been read yet"

    def _unknown(self, why: str, age: float = math.inf) -> EndpointsUnknown:
        text = f"the endpoints of {self.name!r} are not known: {why}"
        if self.awaited:
            named = f"discover=[{self.name!r}]"
            text += (
                f"; `await view.wait_for(1)` first, or let the start wait for them, by connect({named}) or "
                f"TideoverMiddleware({named})"
            )
        return EndpointsUnknown(text, service=self.name, age=age)

    def _mark(self, source: Source, age: float) -> None:
        record = present_record()
        if record is not None and COMPONENT in record.marks:
            return
        context = telemetry.current_context()
        if record is None and context is self._marked_context:
            return
        health = self._cluster.health
        mark = Mark(source, age, reason_of(health.state, health.diagnosis), self._outage_id())
        if record is None:
            # Outside a request there is no record: as long as the same span is current, it has been marked.
            self._marked_context = context
        else:
            record.marks[COMPONENT] = mark
        telemetry.mark_span(mark, COMPONENT, record)

    # Life ------------------------------------------------------------------------------------------------------

    def tasks(self) -> dict[str, Callable[[], Awaitable[object]]]:
        """Return the tasks that keep it up to date, by name."""
        return {**self.followed.tasks(), f"tend {self._view.name}": self.tend}

    def close(self, why: str) -> None:
        """Refuse everything from now on, and end all iterations.

        Args:
            why: What `Closed` says.
        """
        self.closed = why
        self.checked_at = -math.inf
        self.listed.fire()

    async def save(self) -> None:
        """Write what is known to disk."""
        if self.followed.keeper is not None and not self.held:
            await self.followed.keeper.save()

    def report_status(self) -> ServiceStatus:
        """Return how it stands."""
        view, keeper = self._view, self.followed.keeper
        return ServiceStatus(
            name=self.name,
            source=view.source,
            revision=view.freshness.reached,
            age=view.age,
            endpoints=len(self.endpoints),
            drained=sum(e.weight == 0 for e in self.endpoints),
            ejected=len(self.ejected),
            held=len(self._listing.missing),
            refused=tuple(refused.reason for refused in self.refused),
            denied=view.denied is not None,
            error=view.error,
            snapshot_error=keeper.error if keeper else None,
            listed=self._listed(),
        )

    def _listed(self) -> tuple[EndpointStatus, ...]:
        """Return the endpoints as the status shows them, those first that are not picked."""
        now, gone = self.monotonic(), frozenset(self._listing.missing)
        out = {
            (e.instance, e.incarnation): max(0.0, self._tracks[e.instance, e.incarnation].until - now)
            for e in self.ejected
        }
        found = []
        in_order = sorted(self.endpoints, key=lambda e: e.weight != 0 and (e.instance, e.incarnation) not in out)
        for e in in_order[:_MOST_LISTED]:
            back_in = out.get((e.instance, e.incarnation))
            use = "drained" if e.weight == 0 else "picked" if back_in is None else "ejected"
            found.append(EndpointStatus(e.instance, e.url, e.weight, use, e.instance in gone, back_in))
        return tuple(found)
