"""What `tide.discover(name)` returns: the endpoints of a service, and the next one to call."""

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

# Seconds between two looks of a thread at the first read.
_LOOK = 0.005


class ServiceView:
    """The endpoints of one service; made by `Coordinator.discover`, which documents it.

    All handles on a service share its list, its rotation and its ejections.
    """

    def __init__(self, service: Service, limit: StalenessLimit | None) -> None:
        self._service = service
        self._limit = limit
        self._monotonic = service.monotonic

    def __repr__(self) -> str:
        """Show the service, the source of the list and its length."""
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
            EndpointsUnknown: The list was never read.
            TooStale: The list is older than `max_stale`, and the handle raises then.
            PermissionDenied: A quorum refuses to let this client read them.
            AuthenticationFailed: Nothing is known of them, because a quorum refuses the credentials.
            Closed: The coordinator is closed.

        When degraded:
            The last known ones, and the request is marked as degraded.
        """
        self._service.check(self._limit)
        return self._service.endpoints

    def pick(self, *, avoid: Collection[Endpoint] = ()) -> Endpoint:
        """Return the next endpoint. No I/O; callable from any thread.

        Each endpoint has its weight's share of the turns, evenly spread. Endpoints with weight 0 have none;
        neither do ejected ones. Before the first read the list is the one of an earlier process on disk: `await
        view.wait_for(1)` first, or `connect(discover=[...])`.

        Args:
            avoid: Endpoints to pick only if there is no other: those that a call has tried without success.

        Returns:
            The endpoint.

        Raises:
            NoEndpoints: There is none; the message says whether that is known, and as of when.
            EndpointsUnknown: The list was never read, or not yet. The error is an `Unavailable` as well.
            TooStale: The list is older than `max_stale`, and the handle raises then.
            PermissionDenied: A quorum refuses to let this client read them.
            AuthenticationFailed: Nothing is known of them, because a quorum refuses the credentials.
            Closed: The coordinator is closed.

        When degraded:
            One of the last known endpoints, and the request is marked as degraded.
        """
        service, now = self._service, self._monotonic()
        if now >= service.checked_at or self._limit is not None:
            service.check(self._limit)
        endpoint = service.picker.pick(now, avoid)
        if endpoint is None:
            raise service.no_endpoints()
        return endpoint

    def use(self, *, avoid: Collection[Endpoint] = ()) -> Use:
        """Pick an endpoint for the length of a block, and report how the block went.

            with view.use() as endpoint:
                response = await client.get(endpoint.url + "/invoices")
                response.raise_for_status()

        An exception that leaves the block is a failure of the endpoint, a block without one a success; a
        cancellation is neither. For other verdicts call `pick` and `report`.

        Args:
            avoid: As for `pick`.

        When degraded:
            As `pick`.
        """
        return Use(self, avoid)

    def report(self, endpoint: Endpoint, ok: bool) -> None:
        """Report the outcome of a call to an endpoint. Callable from any thread.

        After three failures in a row the endpoint is not picked for 5 s, then for 10 s and so on up to 300 s,
        until it has been good for as long as it was away. Never more than half of the pickable endpoints are
        ejected.

        Args:
            endpoint: An endpoint that `pick` returned. Reports on others are ignored.
            ok: Whether the endpoint did what it should.

        When degraded:
            The same: while the list is frozen, failed calls show which endpoints are gone.
        """
        self._service.picker.report(endpoint, ok)

    def changes(self) -> EndpointChanges:
        """Return the list whenever it has changed, from now on: `async for endpoints in view.changes():`.

        When degraded:
            Silent; what changed meanwhile comes when etcd is back.
        """
        self._service.require_open()
        return EndpointChanges(self, self._service)

    async def wait_for(self, n: int = 1, *, timeout: float | None = None) -> tuple[Endpoint, ...]:
        """Wait until there are at least `n` endpoints, as etcd has them.

        As long as no outage is known, the list of an earlier process on disk does not count: the call waits for
        etcd's. If that has not come when the time is over, the list on disk counts after all.

        Args:
            n: How many; 0 waits until the number of endpoints is known.
            timeout: Seconds to wait at the most; None waits without a limit.

        Returns:
            The endpoints.

        Raises:
            TimeoutError: There were fewer endpoints for the whole time.
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
        """Wait in a thread for the first read of the list.

        Args:
            timeout: Seconds to wait at the most. In the event loop's own thread the call returns at once.

        When degraded:
            Returns at once, or as soon as an outage is declared.
        """
        service, until = self._service, time.monotonic() + timeout
        while service.awaited and not service.home.loop.is_here and time.monotonic() < until:
            time.sleep(_LOOK)

    @property
    def synced(self) -> bool:
        """Whether the list was ever read, from etcd or from a snapshot."""
        return self._service.known

    @property
    def awaited(self) -> bool:
        """Whether the first read is still to come, so that `wait_for(0)` waits for it."""
        return self._service.awaited

    @property
    def source(self) -> Source | None:
        """The source of the list now; None if it was never read."""
        return self._service.view.source

    @property
    def age(self) -> float:
        """Seconds since the list was last proven in sync; infinite if that is unknown."""
        return self._service.view.age

    @property
    def stale(self) -> bool:
        """Whether the list may differ from a quorum's, or is older than `max_stale`."""
        old = self._limit is not None and self.age > self._limit.max_stale
        return old or self.source is not Source.LIVE

    @property
    def max_stale(self) -> float | None:
        """The limit given to `discover`; None if there is none."""
        return None if self._limit is None else self._limit.max_stale

    @property
    def ejected(self) -> tuple[Endpoint, ...]:
        """The endpoints that are not picked for a while, because calls to them have failed."""
        picker = self._service.picker
        picker.readmit()
        return tuple(endpoint for endpoint in self._service.endpoints if endpoint in picker.ejected)

    @property
    def held(self) -> tuple[Endpoint, ...]:
        """The listed endpoints that etcd no longer has: their removal is held back for a while."""
        return self._service.held


class Use:
    """An endpoint for the length of a block; made by `ServiceView.use`."""

    def __init__(self, view: ServiceView, avoid: Collection[Endpoint]) -> None:
        self._view = view
        self._avoid = avoid
        self._endpoint: Endpoint | None = None

    def __enter__(self) -> Endpoint:
        """Pick the endpoint."""
        self._endpoint = self._view.pick(avoid=self._avoid)
        return self._endpoint

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Report the outcome of the block, unless it was cancelled."""
        endpoint, self._endpoint = self._endpoint, None
        if endpoint is not None and (exc is None or isinstance(exc, Exception)):
            self._view.report(endpoint, exc is None)


class EndpointChanges:
    """The endpoints of a service after each change; made by `ServiceView.changes`.

    A reader slower than the changes sees the newest list, not every one.
    """

    def __init__(self, view: ServiceView, service: Service) -> None:
        # A reference to the handle: a service without handles may lose its place.
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
            While etcd is away only endpoints that a surviving member has learned of are new.
        """
        self._service.home.check(self)
        while self._service.version == self._seen:
            if self._service.closed is not None:
                raise StopAsyncIteration
            await self._service.listed.wait()
        self._seen = self._service.version
        return self._service.endpoints
