"""What `tide.discover(name)` gives: the endpoints of a service, and whose turn it is."""

from __future__ import annotations

import time
from collections.abc import Collection
from types import TracebackType

import anyio

from tideover import telemetry
from tideover.discovery.endpoint import Endpoint
from tideover.discovery.service import Service
from tideover.policies import StalenessLimit
from tideover.shown import quoted
from tideover.types import Source

# Seconds between two looks of a thread at whether a service was read.
_LOOK = 0.005


class ServiceView:
    """The endpoints of one service; made by `Coordinator.discover`, which documents it.

    All handles on a service share what is known of it, whose turn it is, and who is ejected.
    """

    def __init__(self, service: Service, limit: StalenessLimit | None) -> None:
        self._service = service
        self._limit = limit
        self._monotonic = service.monotonic

    def __repr__(self) -> str:
        """Show the service, where the list comes from, and how long it is."""
        source = self.source or "unknown"
        return f"<ServiceView {self.name!r} {source}, {len(self._service.endpoints)} endpoints>"

    @property
    def name(self) -> str:
        """The service."""
        return self._service.name

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """All endpoints, in the order of their instances; those with weight 0 and ejected ones too.

        Raises:
            EndpointsUnknown: Nothing was ever read, so that nobody can say whether there are any.
            TooStale: The list is older than `max_stale`, and the handle was to raise then.
            PermissionDenied: A quorum refuses to let this client read them.
            AuthenticationFailed: Nothing is known of them, because a quorum refuses the credentials.
            Closed: The coordinator is closed.

        When degraded:
            The last known ones, and the request is marked as degraded.
        """
        self._service.check(self._limit)
        return self._service.endpoints

    def pick(self, *, avoid: Collection[Endpoint] = ()) -> Endpoint:
        """Return the endpoint whose turn it is. No I/O; callable from any thread.

        Each has its weight's share of the turns, evenly spread. Those with weight 0 have none; neither do ejected
        ones. Before the first read it is picked from what an earlier process has left on disk: `await
        view.wait_for(1)` before it, or `connect(discover=[...])`.

        Args:
            avoid: Endpoints not to be picked as long as there is any other: those that a call has tried in vain.

        Returns:
            The endpoint.

        Raises:
            NoEndpoints: There is none; the message says whether that is known, and as of when.
            EndpointsUnknown: Nothing was ever read, or not yet. It is an `Unavailable` as well.
            TooStale: The list is older than `max_stale`, and the handle was to raise then.
            PermissionDenied: A quorum refuses to let this client read them.
            AuthenticationFailed: Nothing is known of them, because a quorum refuses the credentials.
            Closed: The coordinator is closed.

        When degraded:
            One of the last known endpoints, and the request is marked as degraded.
        """
        service, now = self._service, self._monotonic()
        if now >= service.checked_at or self._limit is not None:
            service.check(self._limit)
        return service.pick(now, avoid)

    def use(self, *, avoid: Collection[Endpoint] = ()) -> Use:
        """Pick an endpoint for the length of a block, and report how the block went.

            with view.use() as endpoint:
                response = await client.get(endpoint.url + "/invoices")
                response.raise_for_status()

        An exception that leaves the block is a failure of the endpoint, none is a success; cancellation says
        nothing about it. For other verdicts call `pick` and `report`.

        Args:
            avoid: As for `pick`.

        When degraded:
            As `pick`.
        """
        return Use(self, avoid)

    def report(self, endpoint: Endpoint, ok: bool) -> None:
        """Say how a call to an endpoint went. Callable from any thread.

        After three failures in a row it is not picked for 5 s, then for 10 s and so on up to 300 s, until it has
        been good for as long as it was away. Never more than half of those that can be picked are ejected.

        Args:
            endpoint: One that `pick` gave. What is reported of others is ignored.
            ok: Whether the endpoint did what it should.

        When degraded:
            The same: who really is gone while the list is frozen is found out like this.
        """
        self._service.report(endpoint, ok)

    def changes(self) -> EndpointChanges:
        """Return the list whenever it has changed, from now on: `async for endpoints in view.changes():`.

        When degraded:
            Silent; what changed meanwhile comes when etcd is back.
        """
        self._service.require_open()
        return EndpointChanges(self, self._service)

    async def wait_for(self, n: int = 1, *, timeout: float | None = None) -> tuple[Endpoint, ...]:
        """Wait until there are at least `n` endpoints, as etcd has them.

        As long as no outage is known, the list of an earlier process on disk does not count: what is waited for is
        etcd's. If that has not come when the time is over, it counts after all.

        Args:
            n: How many; 0 waits until it is known how many there are.
            timeout: Seconds to wait at the most; None waits for ever.

        Returns:
            The endpoints.

        Raises:
            TimeoutError: There were not.
            PermissionDenied: A quorum refuses to let this client read them.
            Closed: The coordinator was closed.
            WrongLoop: This is another event loop than the coordinator's.

        When degraded:
            Counts the last known ones, or waits.
        """
        service = self._service
        service.home.check(self)
        service.require_open()
        if service.awaited or not service.has(n):
            with telemetry.resolving(service.name):
                await self._wait_for(n, timeout)
        service.check(None)
        return service.endpoints

    async def _wait_for(self, n: int, timeout: float | None) -> None:
        service = self._service
        with anyio.move_on_after(timeout):
            while service.awaited or not service.has(n):
                await service.listed.wait()
                service.require_open()
        if not service.known:
            raise TimeoutError(f"the endpoints of {quoted(service.name)} are not known: {service.why_unknown()}")
        if not service.has(n):
            raise TimeoutError(f"{quoted(service.name)} has {len(service.endpoints)} of {n} endpoints")

    def wait_in_thread(self, *, timeout: float) -> None:
        """Wait, in a thread, as long as the first read of the list is still to come.

        Args:
            timeout: Seconds to wait at the most. In the event loop's own thread nothing is waited for.

        When degraded:
            Returns at once, or as soon as an outage is declared.
        """
        service, until = self._service, time.monotonic() + timeout
        while service.awaited and not service.home.loop.is_here and time.monotonic() < until:
            time.sleep(_LOOK)

    @property
    def synced(self) -> bool:
        """Whether anything was ever read, from etcd or from a snapshot."""
        return self._service.known

    @property
    def awaited(self) -> bool:
        """Whether the first read is still to come, so that `wait_for(0)` waits for it."""
        return self._service.awaited

    @property
    def source(self) -> Source | None:
        """The rung of the ladder the list stands on now; None if nothing was ever read."""
        return self._service.view.source

    @property
    def age(self) -> float:
        """Seconds since the list was last proven in sync; infinite if that is unknown."""
        return self._service.view.age

    @property
    def stale(self) -> bool:
        """Whether the list may differ from what a quorum would say now, or is older than `max_stale`."""
        old = self._limit is not None and self.age > self._limit.max_stale
        return old or self.source is not Source.LIVE

    @property
    def max_stale(self) -> float | None:
        """The limit given to `discover`; None if there is none."""
        return None if self._limit is None else self._limit.max_stale

    @property
    def ejected(self) -> tuple[Endpoint, ...]:
        """The endpoints that are not picked for a while, because calls to them have failed."""
        service = self._service
        service.readmit()
        return tuple(endpoint for endpoint in service.endpoints if endpoint in service.ejected)

    @property
    def held(self) -> tuple[Endpoint, ...]:
        """The endpoints in the list that etcd no longer has: their removal is held back for a while."""
        return self._service.held


class Use:
    """An endpoint for the length of a block; made by `ServiceView.use`."""

    def __init__(self, view: ServiceView, avoid: Collection[Endpoint]) -> None:
        self._view = view
        self._avoid = avoid
        self._endpoint: Endpoint | None = None

    def __repr__(self) -> str:
        """Show the endpoint."""
        return f"<Use of {self._view.name!r}: {self._endpoint.url if self._endpoint else 'not picked yet'}>"

    def __enter__(self) -> Endpoint:
        """Pick the endpoint."""
        self._endpoint = self._view.pick(avoid=self._avoid)
        return self._endpoint

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Report how the block went, unless it was cancelled."""
        endpoint, self._endpoint = self._endpoint, None
        if endpoint is not None and (exc is None or isinstance(exc, Exception)):
            self._view.report(endpoint, exc is None)


class EndpointChanges:
    """The endpoints of a service whenever they have changed; made by `ServiceView.changes`.

    A reader that is slower than they change sees the newest list, not every one.
    """

    def __init__(self, view: ServiceView, service: Service) -> None:
        # Held, or nobody would hold a handle on the service and it might lose its place.
        self._view = view
        self._service = service
        self._seen = service.version

    def __repr__(self) -> str:
        """Show the service."""
        return f"<EndpointChanges of {self._service.name!r}>"

    def __aiter__(self) -> EndpointChanges:
        """Return itself."""
        return self

    async def __anext__(self) -> tuple[Endpoint, ...]:
        """Return the endpoints when they have changed.

        Raises:
            StopAsyncIteration: The coordinator was closed.
            WrongLoop: This is another event loop than the coordinator's.

        When degraded:
            Nothing changes while etcd is away, but new endpoints that a surviving member knows of.
        """
        self._service.home.check(self)
        while self._service.version == self._seen:
            if self._service.closed is not None:
                raise StopAsyncIteration
            await self._service.listed.wait()
        self._seen = self._service.version
        return self._service.endpoints
