"""httpx transports for `http://name.service/path`: the endpoint is discovered, and the next one tried if it fails.

    client = httpx.AsyncClient(transport=DiscoveryTransport())
    await client.get("http://billing.service/invoices/7")

What may be tried again is decided as RFC 9110 has it (section 9.2.2): what was never sent always, what may
have been done only if its method is idempotent, and never what has a body that cannot be sent twice. Each further
attempt goes to another endpoint, within the request's own timeouts. For what was sent it is under gRPC's retry
throttling (gRFC A6): when most requests fail, they are not multiplied.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import suppress

import httpx

from tideover.ambient import current_for_reads
from tideover.coordinator import Coordinator
from tideover.errors import NoEndpoints
from tideover.registry.endpoint import Endpoint
from tideover.registry.view import ServiceView
from tideover.resilience.budget import RetryBudget

_SUFFIX = ".service"
_IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
# Nothing was sent: the connection did not come about, or there is no way to make one to such a URL.
_NEVER_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.UnsupportedProtocol)
# The endpoint's failures, as opposed to the caller's own, such as a pool without a free connection.
_FAILURES = (
    httpx.NetworkError,
    httpx.ConnectTimeout,
    httpx.ReadTimeout,
    httpx.WriteTimeout,
    httpx.RemoteProtocolError,
    httpx.UnsupportedProtocol,
)
# Seconds in which the first answer about a service that was never asked for must come.
_FIRST_ANSWER = 1.0
_MOST_NAMES = 1000


class Rules:
    """Which hosts are services, what counts as a failure, and how often to try: the same for both transports.

    Args:
        coordinator: Whose services; None means that of `tideover.current`, at each request.
        suffix: What the host of a service ends with; what is before it is the service's name.
        attempts: How many endpoints to try at the most.
        failures: Status codes that count as failures of the endpoint.
        connect_timeout: Seconds for connecting to one endpoint, if the request itself allows more.
        max_stale: As for `Coordinator.discover`, with `on_stale="raise"`; None means no limit.
    """

    def __init__(
        self,
        coordinator: Coordinator | None,
        *,
        suffix: str,
        attempts: int,
        failures: Collection[int],
        connect_timeout: float,
        max_stale: float | None,
    ) -> None:
        if not suffix.startswith(".") or suffix != suffix.lower():
            raise ValueError(f"suffix must begin with a dot and be in lower case, not {suffix!r}")
        if attempts < 1:
            raise ValueError(f"attempts must be at least 1, not {attempts}")
        if not connect_timeout > 0:
            raise ValueError(f"connect_timeout must be more than 0 seconds, not {connect_timeout}")
        self.attempts = attempts
        self.failures = frozenset(failures)
        self.connect_timeout = connect_timeout
        self.budget = RetryBudget()
        self._coordinator = coordinator
        self._suffix = suffix
        self._max_stale = max_stale

    def __repr__(self) -> str:
        """Show what a service is, and how often it is tried."""
        return f"<Rules for *{self._suffix}, {self.attempts} attempts>"

    def view(self, request: httpx.Request) -> ServiceView | None:
        """Return the service that a request is for; None if it is for an ordinary host."""
        name = request.url.host.removesuffix(self._suffix)
        if not name or name == request.url.host:
            return None
        tide = self._coordinator or current_for_reads()
        return tide.discover(name, max_stale=self._max_stale, on_stale="raise")

    def spend(self, *, succeeded: bool) -> None:
        """Count an attempt in the budget for retries."""
        self.budget = self.budget.after(succeeded=succeeded)


class _Once(httpx.AsyncByteStream, httpx.SyncByteStream):
    """The body of a request that can be sent only once.

    Attributes:
        begun: Whether anybody has begun to read it.
    """

    def __init__(self, stream: httpx.AsyncByteStream | httpx.SyncByteStream) -> None:
        self._stream = stream
        self.begun = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        self.begun = True
        if isinstance(self._stream, httpx.AsyncByteStream):
            async for part in self._stream:
                yield part

    def __iter__(self) -> Iterator[bytes]:
        self.begun = True
        if isinstance(self._stream, httpx.SyncByteStream):
            yield from self._stream


class Call:
    """One request, and its attempts. Decides; the transports act.

    Args:
        rules: The rules.
        view: The service.
        request: The request, as the caller made it.
    """

    def __init__(self, rules: Rules, view: ServiceView, request: httpx.Request) -> None:
        self._rules = rules
        self._view = view
        self._request = request
        self._once = None if isinstance(request.stream, httpx.ByteStream) else _Once(request.stream)
        self._tried: list[Endpoint] = []
        self._began = time.monotonic()
        timeouts = request.extensions.get("timeout", {})
        limits = [timeouts.get(kind) for kind in ("connect", "read", "write", "pool")]
        # One phase's timeout is what the caller is ready to wait for it; the attempts together take no longer.
        self._limit = None if None in limits else max(limits, default=None)

    def __repr__(self) -> str:
        """Show the request and what was tried."""
        return f"<Call {self._request.method} {self._request.url}, tried {[e.url for e in self._tried]}>"

    def next(self) -> httpx.Request:
        """Return the request for the endpoint whose turn it is.

        Raises:
            httpx.ConnectError: There is no endpoint; its cause is the `NoEndpoints`.
            httpx.UnsupportedProtocol: None of those that were tried says where it is.
        """
        while True:
            try:
                endpoint = self._view.pick(avoid=self._tried)
            except NoEndpoints as exc:
                raise httpx.ConnectError(str(exc), request=self._request) from exc
            self._tried.append(endpoint)
            try:
                return self._addressed(httpx.URL(endpoint.url))
            except httpx.InvalidURL as exc:
                # Others write to the registry too: one such record must not cost callers their share of requests.
                error = httpx.UnsupportedProtocol(f"{endpoint.url!r}: {exc}", request=self._request)
                if not self.failed(error):
                    raise error from exc

    def _addressed(self, base: httpx.URL) -> httpx.Request:
        given = self._request
        path = base.raw_path.rstrip(b"/") + given.url.raw_path
        url = given.url.copy_with(scheme=base.scheme, host=base.host, port=base.port, raw_path=path)
        headers = given.headers.copy()
        if headers.get("host") == given.url.netloc.decode("ascii"):
            # The caller has asked for no other; and servers know themselves by their own name.
            headers["host"] = url.netloc.decode("ascii")
        extensions = {**given.extensions, "timeout": self._timeouts()}
        stream = self._once or given.stream
        return httpx.Request(given.method, url, headers=headers, stream=stream, extensions=extensions)

    def _timeouts(self) -> dict[str, float | None]:
        given: dict[str, float | None] = dict(self._request.extensions.get("timeout", {}))
        if self._limit is not None:
            left = max(0.001, self._left())
            given = {kind: left if seconds is None else min(seconds, left) for kind, seconds in given.items()}
        connect = given.get("connect")
        longest = self._rules.connect_timeout
        return {**given, "connect": longest if connect is None else min(connect, longest)}

    def _left(self) -> float:
        return float("inf") if self._limit is None else self._began + self._limit - time.monotonic()

    def failed(self, error: httpx.TransportError) -> bool:
        """Take in that an attempt failed; say whether to make another one."""
        if not isinstance(error, _FAILURES):
            return False
        sent = not isinstance(error, _NEVER_SENT)
        self._report(ok=False, sent=sent)
        return self._may_go_on(sent=sent)

    def answered(self, response: httpx.Response) -> bool:
        """Take in an answer; say whether to make another attempt, and close this one."""
        if response.status_code in self._rules.failures:
            self._report(ok=False)
            return self._may_go_on(sent=True)
        return False

    def finished(self, ok: bool) -> None:
        """Take in that the body of the answer was read, or that this has failed."""
        self._report(ok=ok)

    def _report(self, *, ok: bool, sent: bool = True) -> None:
        if sent:
            # Trying another endpoint instead of a dead one multiplies nothing.
            self._rules.spend(succeeded=ok)
        self._view.report(self._tried[-1], ok)

    def _may_go_on(self, *, sent: bool) -> bool:
        if len(self._tried) >= self._rules.attempts or self._left() <= 0:
            return False
        if self._once is not None and self._once.begun:
            return False
        return not sent or (self._rules.budget.allows_retry and self._request.method in _IDEMPOTENT)

    def body_of(self, response: httpx.Response) -> bool:
        """Whether the endpoint is still to be judged by how reading the body goes."""
        return response.status_code not in self._rules.failures


class _AsyncBody(httpx.AsyncByteStream):
    """The body of an answer; who breaks off in it has failed."""

    def __init__(self, stream: httpx.AsyncByteStream, finished: Callable[[bool], None]) -> None:
        self._stream = stream
        self._finished: Callable[[bool], None] | None = finished

    def _finish(self, ok: bool) -> None:
        finished, self._finished = self._finished, None
        if finished is not None:
            finished(ok)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for part in self._stream:
                yield part
        except _FAILURES:
            self._finish(False)
            raise

    async def aclose(self) -> None:
        try:
            await self._stream.aclose()
        finally:
            self._finish(True)


class _Body(httpx.SyncByteStream):
    """The same for the synchronous transport."""

    def __init__(self, stream: httpx.SyncByteStream, finished: Callable[[bool], None]) -> None:
        self._stream = stream
        self._finished: Callable[[bool], None] | None = finished

    def _finish(self, ok: bool) -> None:
        finished, self._finished = self._finished, None
        if finished is not None:
            finished(ok)

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._stream
        except _FAILURES:
            self._finish(False)
            raise

    def close(self) -> None:
        try:
            self._stream.close()
        finally:
            self._finish(True)


class DiscoveryTransport(httpx.AsyncBaseTransport):
    """Sends requests for `http://name.service/path` to an endpoint of the service, all others where they say.

    The endpoint's URL decides scheme, port and what the path begins with. A failed attempt is reported, so that an
    endpoint which fails often is not picked for a while, and repeated at the next endpoint if that is safe.

    Args:
        coordinator: Whose services; None means that of `tideover.current`, at each request.
        transport: What sends the requests; None means httpx's own.
        suffix: What the host of a service ends with; what is before it is the service's name, in lower case.
        attempts: How many endpoints to try at the most.
        failures: Status codes that count as failures of the endpoint.
        connect_timeout: Seconds for connecting to one endpoint, if the request itself allows more.
        max_stale: Seconds beyond which the list of endpoints is not used; None means no limit.

    Raises:
        ValueError: An option is out of range.

    When degraded:
        The last known endpoints are used. Where none is known a request raises `httpx.ConnectError`, whose cause
        is `EndpointsUnknown`, or `NoEndpoints` if that is a fact.
    """

    def __init__(
        self,
        coordinator: Coordinator | None = None,
        *,
        transport: httpx.AsyncBaseTransport | None = None,
        suffix: str = _SUFFIX,
        attempts: int = 3,
        failures: Collection[int] = (502, 503, 504),
        connect_timeout: float = 1.0,
        max_stale: float | None = None,
    ) -> None:
        self._rules = Rules(
            coordinator,
            suffix=suffix,
            attempts=attempts,
            failures=failures,
            connect_timeout=connect_timeout,
            max_stale=max_stale,
        )
        self._transport = transport or httpx.AsyncHTTPTransport()
        self._known_by: dict[str, float] = {}

    def __repr__(self) -> str:
        """Show what sends the requests."""
        return f"<DiscoveryTransport by {self._transport!r}>"

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; httpx calls this."""
        view = self._rules.view(request)
        if view is None:
            return await self._transport.handle_async_request(request)
        await self._meet(view)
        call = Call(self._rules, view, request)
        while True:
            attempt = call.next()
            try:
                response = await self._transport.handle_async_request(attempt)
            except httpx.TransportError as exc:
                exc.request = request
                if not call.failed(exc):
                    raise
                continue
            if call.answered(response):
                await response.aclose()
                continue
            if call.body_of(response) and isinstance(response.stream, httpx.AsyncByteStream):
                response.stream = _AsyncBody(response.stream, call.finished)
            return response

    async def _meet(self, view: ServiceView) -> None:
        """Give a service that was never asked for a moment to become known; only once, an outage may last."""
        if view.synced:
            return
        now = time.monotonic()
        if len(self._known_by) > _MOST_NAMES:
            self._known_by.clear()
        left = self._known_by.setdefault(view.name, now + _FIRST_ANSWER) - now
        if left > 0:
            with suppress(TimeoutError):
                await view.wait_for(0, timeout=left)

    async def aclose(self) -> None:
        """Close what sends the requests."""
        await self._transport.aclose()


class SyncDiscoveryTransport(httpx.BaseTransport):
    """The same for `httpx.Client`, in worker threads of the event loop that the coordinator lives in.

    A service has to be known to the coordinator before: call `tide.discover(name)` at the start, or let a worker
    thread of the event loop (a synchronous route of FastAPI or Starlette) make the first request.

    Args:
        coordinator: As for `DiscoveryTransport`.
        transport: What sends the requests; None means httpx's own.
        suffix: As for `DiscoveryTransport`.
        attempts: As for `DiscoveryTransport`.
        failures: As for `DiscoveryTransport`.
        connect_timeout: As for `DiscoveryTransport`.
        max_stale: As for `DiscoveryTransport`.

    Raises:
        ValueError: An option is out of range.

    When degraded:
        As `DiscoveryTransport`.
    """

    def __init__(
        self,
        coordinator: Coordinator | None = None,
        *,
        transport: httpx.BaseTransport | None = None,
        suffix: str = _SUFFIX,
        attempts: int = 3,
        failures: Collection[int] = (502, 503, 504),
        connect_timeout: float = 1.0,
        max_stale: float | None = None,
    ) -> None:
        self._rules = Rules(
            coordinator,
            suffix=suffix,
            attempts=attempts,
            failures=failures,
            connect_timeout=connect_timeout,
            max_stale=max_stale,
        )
        self._transport = transport or httpx.HTTPTransport()

    def __repr__(self) -> str:
        """Show what sends the requests."""
        return f"<SyncDiscoveryTransport by {self._transport!r}>"

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; httpx calls this."""
        view = self._rules.view(request)
        if view is None:
            return self._transport.handle_request(request)
        call = Call(self._rules, view, request)
        while True:
            attempt = call.next()
            try:
                response = self._transport.handle_request(attempt)
            except httpx.TransportError as exc:
                exc.request = request
                if not call.failed(exc):
                    raise
                continue
            if call.answered(response):
                response.close()
                continue
            if call.body_of(response) and isinstance(response.stream, httpx.SyncByteStream):
                response.stream = _Body(response.stream, call.finished)
            return response

    def close(self) -> None:
        """Close what sends the requests."""
        self._transport.close()
