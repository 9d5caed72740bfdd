"""One followed service: the list of its endpoints, and whether callers may use it.

`prefixes.view` has the keys of etcd; `Service` makes a list of them, and `rules.removals` decides when an instance
leaves the list. The event loop alone changes the list; `picker` picks from it in any thread.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Final

import anyio

from tideover import telemetry
from tideover.broadcast import Broadcast
from tideover.client.client import Client
from tideover.cluster.rules.health import reason_of
from tideover.discovery.endpoint import Endpoint, decode, service_prefix
from tideover.discovery.picker import Picker
from tideover.discovery.rules.removals import Listing, RemovalRules
from tideover.errors import AuthenticationFailed, Closed, EndpointsUnknown, NoEndpoints, TooStale
from tideover.policies import StalenessLimit
from tideover.prefixes.followed import Following
from tideover.prefixes.rules import Verdict, judge
from tideover.request_record import Mark, present_record
from tideover.status import RejectedValue, duration
from tideover.types import Entry, HealthState, Source

COMPONENT: Final = "discovery"

_REMOVALS = RemovalRules()


def newest(known: Iterable[tuple[int, Endpoint]]) -> dict[str, Endpoint]:
    """Return the endpoint of each instance: the newest incarnation that is not leaving."""
    in_order = (endpoint for _, endpoint in sorted(known, key=lambda one: one[0]))
    return {endpoint.instance: endpoint for endpoint in in_order if not endpoint.leaving}


class Service:
    """One service.

    Many attributes: the list and its source, the keys it is made of, and what was last reported of them.

    Attributes:
        endpoints: All endpoints, in the order of their instances.
        awaited: Whether the list is about to be read for the first time: from etcd as long as no outage is known,
            else from the disk.
        listed: Fires when any of these has changed.
        checked_at: Until when the list needs no check, in monotonic seconds.
    """

    def __init__(self, name: str, client: Client, following: Following) -> None:
        self.name = name
        self.endpoints: tuple[Endpoint, ...] = ()
        self.version = 0
        self.known = False
        self.awaited = True
        self.listed = Broadcast()
        self.checked_at = -math.inf
        self.closed: str | None = None
        self.monotonic = client.clock.monotonic
        self.home = client.home
        self._client = client
        self.picker = Picker(name, monotonic=client.clock.monotonic, chance=client.random)
        self._decoded: dict[bytes, tuple[int, Endpoint]] = {}
        self._refused: dict[bytes, RejectedValue] = {}
        self._left: set[str] = set()
        self._changed = True
        self._trusted = False
        self._listing: Listing[Endpoint] = Listing()
        self._denied: object = None
        self._marked_context: object = None
        self.followed = following.follow(
            client.base + service_prefix(name),
            component=COMPONENT,
            on_change=self._apply,
            may_save=lambda: not self.held,
        )
        self.view = self.followed.view
        self._resets = self.view.resets
        self.health_changed()

    @property
    def held(self) -> tuple[Endpoint, ...]:
        """The listed endpoints that etcd no longer has."""
        # Read once: other threads ask, too.
        listing = self._listing
        return tuple(listing.listed[instance] for instance in sorted(listing.missing))

    @property
    def refused(self) -> tuple[RejectedValue, ...]:
        """The keys in etcd that are not valid endpoints."""
        return tuple(self._refused.values())

    def has(self, n: int) -> bool:
        """Return whether at least `n` endpoints are known; for 0, whether their number is known."""
        return self.known and len(self.endpoints) >= n

    def _apply(self, changes: Mapping[bytes, Entry | None], revision: int) -> None:
        """Apply changes of the view; `refresh` updates the list when all of them are known."""
        for key, entry in changes.items():
            self._decoded.pop(key, None)
            self._refused.pop(key, None)
            if entry is None:
                continue
            try:
                endpoint = decode(key.removeprefix(self._client.base.encode()).decode(), entry.value)
            except ValueError as exc:
                name = key.decode(errors="backslashreplace")
                self._refused[key] = RejectedValue(name, entry.mod_revision, str(exc))
                telemetry.endpoint_rejected(self.name, f"{exc} (revision {entry.mod_revision})")
            else:
                self._decoded[key] = entry.create_revision, endpoint
                if endpoint.leaving:
                    self._left.add(endpoint.instance)
        self._changed = True

    async def update(self) -> None:
        """Update the list with the view, until cancelled."""
        while True:
            changed = self.view.changed.next()
            self.refresh()
            with anyio.move_on_after(max(0.01, self._due_in())):
                await changed.wait()

    def _due_in(self) -> float:
        """Return the seconds until time alone may change the list, or end its being live."""
        return (
            min(self._listing.next_at(_REMOVALS), self.checked_at) - self.monotonic()
            if self._trusted
            else math.inf
        )

    def health_changed(self) -> None:
        """Apply another state of etcd."""
        if self._client.state.health.decided and self._client.state.health.state is not HealthState.AVAILABLE:
            self._suspend()
        self._marked_context = None
        self.refresh()

    def _suspend(self) -> None:
        self._listing = self._listing.suspend()
        self._changed = True

    def reset(self) -> None:
        """Hold back removals: etcd shows another history."""
        self._suspend()
        self.view.changed.fire()

    def refresh(self) -> None:
        """Update the list from the view and the time."""
        view, now = self.view, self.monotonic()
        if view.resets != self._resets:
            self._resets = view.resets
            self._suspend()
        trusted = view.source is Source.LIVE and view.denied is None
        # Until then `pick` checks nothing else, unless a disproof sets the time back.
        self.checked_at = view.freshness.synced_at + view.rules.live_limit if trusted else -math.inf
        if self.closed is not None:
            self.checked_at = -math.inf
            return
        known = view.synced, self.followed.awaited, view.denied
        if known != (self.known, self.awaited, self._denied):
            self.known, self.awaited, self._denied = known
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
            listed = self._listing.listed
            self.endpoints = tuple(listed[instance] for instance in sorted(listed))
            self.picker.set_endpoints(self.endpoints)
            self.version += 1
            self.listed.fire()
        if self._listing.missing and not held:
            telemetry.removals_held(self.name, len(self._listing.missing), len(self.endpoints))

    @property
    def pickable(self) -> int:
        """How many endpoints can be picked: neither ejected nor of weight 0."""
        return len(self.picker)

    def no_endpoints(self) -> NoEndpoints:
        """Return the error that says that no endpoint can be picked; raise if the list is not known."""
        self.require_known()
        age = self.view.age
        if self.awaited:
            return self._unknown("none on disk can be picked, and etcd's have not been read yet", age)
        drained = f"all {len(self.endpoints)} endpoints of {self.name!r} have weight 0"
        what = drained if self.endpoints else f"{self.name!r} has no endpoints"
        ago = f"{duration(age)} ago" if math.isfinite(age) else "an unknown time ago"
        when = "" if self.view.source is Source.LIVE else f", as of {ago}: {self._client.health.sentence}"
        return NoEndpoints(what + when, service=self.name, age=age)

    def check(self, limit: StalenessLimit | None) -> None:
        """Check whether the list may be used, and mark the request if the list is not live.

        Raises:
            Closed: The service is not followed any more.
            PermissionDenied: A quorum refuses to let this client read the endpoints.
            AuthenticationFailed: The list is not known, because a quorum refuses the credentials.
            EndpointsUnknown: The list is not known.
            TooStale: The list is older than the limit allows.
        """
        self.require_known()
        view = self.view
        age = view.age
        if limit is not None and judge(limit, age, has_default=False) is Verdict.RAISE:
            old = f"{duration(age)} old" if math.isfinite(age) else "of unknown age"
            raise TooStale(
                f"the endpoints of {self.name!r} are {old}, "
                f"more than max_stale={limit.max_stale} s: {self._client.health.sentence}",
                age=age,
                max_stale=limit.max_stale,
            )
        source = view.source
        if source is not None and source is not Source.LIVE:
            self._mark(source, age)

    def require_open(self) -> None:
        """Raise if the service is not followed any more, or may not be read; see `check`."""
        if self.closed is not None:
            raise Closed(self.closed)
        if self.view.denied is not None:
            raise self.view.denied

    def require_known(self) -> None:
        """Raise if the list is not known, or may not be read; see `check`."""
        self.require_open()
        if self.known:
            return
        if self._client.state.health.unauthorized:
            raise AuthenticationFailed(
                f"the endpoints of {self.name!r} are not known: {self._client.health.sentence}"
            )
        raise self._unknown(self.why_unknown())

    def why_unknown(self) -> str:
        """Return why the list is not known, or not yet."""
        if self._client.state.health.decided and self._client.state.health.state is not HealthState.AVAILABLE:
            return self._client.health.sentence
        return self.view.error or "they have not been read yet"

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
        health = self._client.state.health
        mark = Mark(source, age, reason_of(health.state, health.diagnosis), self._client.outage_id())
        if record is None:
            # Outside of a request there is no record, and each span is marked once.
            self._marked_context = context
        else:
            record.marks[COMPONENT] = mark
        telemetry.mark_span(mark, COMPONENT, record)

    def tasks(self) -> dict[str, Callable[[], Awaitable[object]]]:
        """Return the tasks that update the list, by name."""
        return {f"follow {self.view.name}": self.followed.run, f"update {self.view.name}": self.update}

    def close(self, why: str) -> None:
        """Refuse everything from now on, and end all iterations."""
        self.closed = why
        self.checked_at = -math.inf
        self.listed.fire()

    async def save(self) -> None:
        """Write the snapshot, unless the list has endpoints that etcd no longer has."""
        if self.followed.keeper is not None and not self.held:
            await self.followed.keeper.save()
