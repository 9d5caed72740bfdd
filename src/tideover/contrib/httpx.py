"""httpx transports for `http://name.service/path`: the endpoint is discovered, and the next one tried if it fails.

    client = httpx.AsyncClient(transport=DiscoveryTransport())
    await client.get("http://billing.service/invoices/7")

What may be tried again is decided as RFC 9110 has it (section 9.2.2): what was never sent always, what may
have been done only if its method is idempotent, and never what has a body that cannot be sent twice. Each further
attempt goes to another endpoint, or after a pause to the same, within the request's own timeouts. For what was
sent it is under gRPC's retry throttling (gRFC A6): when most requests fail, they are not multiplied.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import lru_cache
from typing import Any, Generic, TypeVar

import anyio

from tideover import telemetry
from tideover.client.rules.backoff import delay_cap
from tideover.client.rules.retry_budget import RetryBudget
from tideover.coordinator.coordinator import Coordinator
from tideover.discovery.endpoint import Endpoint
from tideover.discovery.service_view import ServiceView
from tideover.errors import NoEndpoints, TideoverError
from tideover.extras import importing
from tideover.functions import current_for_reads
from tideover.policies import RetryPolicy
from tideover.shown import shown

with importing(__name__, extra="httpx"):
    import httpx

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
# How long to wait before an endpoint is asked again within one call.
_PAUSES = RetryPolicy()
# Octets that a path may have by RFC 9110, section 4.1; what is longer before the caller's own leads nowhere.
_LONGEST_ROOT = 8000
# What httpx, idna and urllib raise for text that is no URL, some only when they are asked for its parts.
_NO_URL = (httpx.InvalidURL, ValueError)
_SECURE = ("https", "wss")
_PHASES = ("connect", "read", "write", "pool")

_Sender = TypeVar("_Sender", httpx.AsyncBaseTransport, httpx.BaseTransport)


class _Discovering(Generic[_Sender]):
    """What both transports are: which hosts are services, what counts as a failure, and how often to try.

    Attributes:
        attempts: How many attempts to make at the most.
        failures: Status codes that count as failures of the endpoint.
        connect_timeout: Seconds for connecting to one endpoint, if the request itself allows more.
        budget: The budget for further attempts.
    """

    def __init__(
        self,
        coordinator: Coordinator | None = None,
        *,
        transport: _Sender | None = None,
        suffix: str = ".service",
        attempts: int = 3,
        failures: Collection[int] = (502, 503, 504),
        connect_timeout: float = 1.0,
        max_stale: float | None = None,
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
        self._transport: _Sender = self._ordinary() if transport is None else transport

    def __repr__(self) -> str:
        """Show what sends the requests."""
        return f"<{type(self).__name__} by {self._transport!r}>"

    def _ordinary(self) -> _Sender:
        """Make httpx's own transport."""
        raise NotImplementedError

    def _view(self, request: httpx.Request) -> ServiceView | None:
        """Return the service that a request is for; None if it is for an ordinary host."""
        name = request.url.host.removesuffix(self._suffix)
        if not name or name == request.url.host:
            return None
        tide = self._coordinator or current_for_reads()
        return tide.discover(name, max_stale=self._max_stale, on_stale="raise")


class _Unusable(httpx.UnsupportedProtocol):
    """The URL that an endpoint has registered leads nowhere for any caller; httpx has no closer word for it."""

    def __init__(self, url: str, why: str) -> None:
        super().__init__(f"{shown(url)!r} cannot be called: {why}")


class Call:
    """One request, and its attempts. Decides; the transports act.

    Args:
        rules: The rules.
        view: The service.
        request: The request, as the caller made it.
    """

    def __init__(self, rules: _Discovering[Any], view: ServiceView, request: httpx.Request) -> None:
        self._rules = rules
        self._view = view
        self._request = request
        self._once = None if isinstance(request.stream, httpx.ByteStream) else _Once(request.stream)
        self._began = time.monotonic()
        self._given: dict[str, float | None] = dict(request.extensions.get("timeout", {}))
        # One phase's timeout is what the caller is ready to wait for it; the attempts together take no longer.
        self._limit = max(self._given.get(kind) or math.inf for kind in _PHASES)
        self._timeouts: dict[str, float | None] = {}
        self._tried: list[Endpoint] = []
        self._unusable: list[Endpoint] = []

    def __repr__(self) -> str:
        """Show the request and what was tried."""
        return f"<Call {self._request.method} {self._request.url}, tried {[e.url for e in self._tried]}>"

    @property
    def _endpoint(self) -> Endpoint:
        return self._tried[-1]

    @property
    def patience(self) -> float:
        """Seconds to wait for the service's first read: what is left then is enough to connect."""
        return self._limit - min(self._rules.connect_timeout, self._limit / 2)

    def begin(self) -> None:
        """Choose the first endpoint.

        Raises:
            httpx.ConnectError: There is none; its cause is the `NoEndpoints`.
        """
        try:
            self._tried = [self._view.pick()]
        except NoEndpoints as exc:
            raise httpx.ConnectError(str(exc), request=self._request) from exc

    def attempt(self) -> httpx.Request:
        """Return the request for the endpoint whose turn it is.

        Raises:
            httpx.UnsupportedProtocol: It does not say where it is. Others write to the registry too.
            httpx.LocalProtocolError: It is without TLS, and the caller has asked for it; or the caller's path is
                too long.
        """
        given = self._request
        base = _base(self._endpoint.url)
        if isinstance(base, str):
            raise _Unusable(self._endpoint.url, base)
        if given.url.scheme in _SECURE and base.scheme not in _SECURE:
            raise httpx.LocalProtocolError(f"{given.url} asks for TLS, and {self._endpoint.url!r} is without")
        path = _root(base) + given.url.raw_path
        try:
            url = given.url.copy_with(scheme=base.scheme, host=base.host, port=base.port, raw_path=path)
        except httpx.InvalidURL as exc:
            raise httpx.LocalProtocolError(f"behind {shown(self._endpoint.url)!r}: {shown(str(exc))}") from exc
        headers = given.headers.copy()
        if headers.get("host") == given.url.netloc.decode("ascii"):
            # The caller has asked for no other; and servers know themselves by their own name.
            headers["host"] = url.netloc.decode("ascii")
        self._timeouts = self._limited()
        extensions = {**given.extensions, "timeout": self._timeouts}
        stream = self._once or given.stream
        return httpx.Request(given.method, url, headers=headers, stream=stream, extensions=extensions)

    def _limited(self) -> dict[str, float | None]:
        left = max(0.001, self._left())
        given = {kind: None if seconds is None else min(seconds, left) for kind, seconds in self._given.items()}
        longest = min(left, self._rules.connect_timeout)
        return {**given, "connect": min(given.get("connect") or longest, longest)}

    def _left(self) -> float:
        return self._began + self._limit - time.monotonic()

    def failed(self, error: httpx.TransportError) -> float | None:
        """Take in that an attempt failed.

        Returns:
            Seconds to wait before the next one; None if there is to be none.
        """
        error.request = self._request
        if not isinstance(error, _FAILURES):
            return None
        sent = not isinstance(error, _NEVER_SENT)
        if isinstance(error, httpx.UnsupportedProtocol):
            self._refuse(error)
        self._report(False, sent=sent)
        return self._go_on(sent=sent)

    def answered(self, response: httpx.Response) -> float | None:
        """Take in an answer.

        Returns:
            Seconds to wait before the next attempt, and close this answer; None if it is the caller's.

        Raises:
            httpx.RemoteProtocolError: It redirects to what is no URL. It has still to be closed.
        """
        if response.status_code not in self._rules.failures:
            # How reading the body goes is still to be seen.
            response.stream = _Body(response.stream, self._report)
        else:
            self._report(False)
            pause = self._go_on(sent=True, again="retry-after" not in response.headers)
            if pause is not None:
                return pause
        # It came in time: each part of its body has what the caller gives for one, not what is left.
        self._timeouts.update((kind, self._given[kind]) for kind in ("read", "write") if kind in self._given)
        if "location" in response.headers:
            self._put_as_called(response)
        return None

    def _put_as_called(self, response: httpx.Response) -> None:
        """Put where an answer leads into the caller's terms; what is no URL is left to the caller."""
        location, base = response.headers["location"], _base(self._endpoint.url)
        assert isinstance(base, httpx.URL)  # it has answered
        try:
            response.headers["location"] = _as_called(location, base, self._request.url)
        except _NO_URL as exc:
            # httpx looks at it even if the caller follows no redirects, and not all it then raises is its own.
            # No failure of the endpoint, which may only repeat what somebody has asked for.
            if response.has_redirect_location:
                text = f"the answer redirects to {shown(location)!r}: {shown(str(exc))}"
                raise httpx.RemoteProtocolError(text, request=self._request) from exc

    def _refuse(self, error: httpx.UnsupportedProtocol) -> None:
        """Never ask this endpoint within this call, and tell which one it is."""
        self._unusable.append(self._endpoint)
        named = isinstance(error, _Unusable)
        why = str(error) if named else f"{shown(self._endpoint.url)!r} cannot be called: {error}"
        telemetry.endpoint_rejected(self._view.name, why)

    def _report(self, ok: bool, *, sent: bool = True) -> None:
        if sent:
            # Trying another endpoint instead of a dead one multiplies nothing.
            self._rules.budget = self._rules.budget.after(succeeded=ok)
        self._view.report(self._endpoint, ok)

    def _go_on(self, *, sent: bool, again: bool = True) -> float | None:
        """Choose the endpoint of the next attempt; return how long to wait, or None if there is to be none.

        Args:
            sent: Whether the request was sent.
            again: Whether an endpoint may be asked twice.
        """
        asked = len(self._tried) - len(self._unusable)
        if asked >= self._rules.attempts or (self._once is not None and self._once.begun):
            return None
        if sent and not (self._rules.budget.allows_retry and self._request.method in _IDEMPOTENT):
            return None
        try:
            endpoint = self._view.pick(avoid=self._tried)
            if endpoint in self._unusable:
                endpoint = self._view.pick(avoid=self._unusable)
        except TideoverError:
            return None
        if endpoint in self._unusable:
            return None
        times = self._tried.count(endpoint)
        pause = random.random() * delay_cap(_PAUSES, times) if times else 0.0
        if (times and not again) or pause >= self._left():
            return None
        self._tried.append(endpoint)
        return pause


@lru_cache(maxsize=1000)
def _base(text: str) -> httpx.URL | str:
    """Return where an endpoint is, or why no request can be sent to it."""
    try:
        url = _checked(httpx.URL(text))
    except _NO_URL as exc:
        return shown(str(exc))
    if len(_root(url)) > _LONGEST_ROOT:
        return f"its path is longer than {_LONGEST_ROOT} octets"
    return url


def _checked(url: httpx.URL) -> httpx.URL:
    """Return a URL with a host that can be looked up, at a port that can be; httpx looks at neither before it
    connects.

    Raises:
        ValueError: One of them cannot.
    """
    if not url.host:  # decoded only now, and not all punycode means something
        raise ValueError("it names no host")
    # As `socket.getaddrinfo` does it: the labels of a name have from 1 to 63 characters.
    url.raw_host.decode("ascii").encode("idna")
    if url.port is not None and not 0 < url.port < 65536:
        raise ValueError(f"{url.port} is not a port from 1 to 65535")
    return url


def _root(base: httpx.URL) -> bytes:
    """Return what the paths of an endpoint begin with."""
    return base.raw_path.partition(b"?")[0].rstrip(b"/")


def _as_called(location: str, base: httpx.URL, called: httpx.URL) -> str:
    """Return where an answer leads as the caller would say it, like a reverse proxy (nginx's `proxy_redirect`).

    The endpoint says it in its own terms, and knows neither the service's name nor that callers leave out what its
    paths begin with.

    Args:
        location: What the endpoint says.
        base: The endpoint.
        called: What the caller has asked for.

    Raises:
        httpx.InvalidURL: It leads nowhere.
        ValueError: Likewise.
    """
    root = _root(base)
    target = _checked(base.copy_with(raw_path=root + called.raw_path).join(location))
    at_first = _checked(called.join(location))
    inside = target.raw_path.removeprefix(root)
    same_origin = (target.scheme, target.host, target.port) == (base.scheme, base.host, base.port)
    if same_origin and target.raw_path.startswith(root) and inside[:1] in (b"", b"/", b"?"):
        path = inside if inside.startswith(b"/") else b"/" + inside
        target = called.copy_with(raw_path=path, fragment=target.fragment or None)
    given = httpx.URL(location)
    # What has a scheme without a host, "http:a", httpx would complete in its own way, to what need not be a URL.
    is_whole = not given.scheme or bool(given.host)
    return location if is_whole and at_first == target else str(target)


class _Passed(httpx.AsyncByteStream, httpx.SyncByteStream):
    """A body that is passed on, and how reading it goes."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with self._reading():
            async for part in self._stream:
                yield part

    def __iter__(self) -> Iterator[bytes]:
        with self._reading():
            yield from self._stream

    def _reading(self) -> AbstractContextManager[None]:
        raise NotImplementedError


class _Once(_Passed):
    """The body of a request that can be sent only once.

    Attributes:
        begun: Whether anybody has begun to read it.
    """

    begun = False

    @contextmanager
    def _reading(self) -> Iterator[None]:
        self.begun = True
        yield


class _Body(_Passed):
    """The body of an answer: who breaks off in it has failed; if the caller is cancelled, that says nothing."""

    def __init__(self, stream: Any, finished: Callable[[bool], None]) -> None:
        super().__init__(stream)
        self._finished: Callable[[bool], None] | None = finished

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except _FAILURES:
            self._finish(False)
            raise
        except GeneratorExit:
            raise
        except BaseException:
            self._finished = None
            raise

    def _finish(self, ok: bool) -> None:
        finished, self._finished = self._finished, None
        if finished is not None:
            finished(ok)

    async def aclose(self) -> None:
        try:
            await self._stream.aclose()
        finally:
            self._finish(True)

    def close(self) -> None:
        try:
            self._stream.close()
        finally:
            self._finish(True)


class DiscoveryTransport(_Discovering[httpx.AsyncBaseTransport], httpx.AsyncBaseTransport):
    """Sends requests for `http://name.service/path` to an endpoint of the service, all others where they say.

    The endpoint's URL decides scheme, port and what the path begins with, but https:// is never sent without TLS.
    An answer's `Location` is put into the caller's terms. A failed attempt is reported, so that an endpoint which
    fails often is not picked for a while, and repeated at the next endpoint if that is safe.

    The first request for a service waits until etcd was asked for it or an outage is known, but leaves
    `connect_timeout` of its own timeout for the call; then the list counts that an earlier process left on disk.

    Args:
        coordinator: Whose services; None means that of `tideover.current`, at each request.
        transport: What sends the requests; None means httpx's own.
        suffix: What the host of a service ends with; what is before it is the service's name, in lower case.
        attempts: How many attempts to make at the most.
        failures: Status codes that count as failures of the endpoint.
        connect_timeout: Seconds for connecting to one endpoint, if the request itself allows more.
        max_stale: Seconds beyond which the list of endpoints is not used; None means no limit.

    Raises:
        ValueError: An option is out of range.

    When degraded:
        The last known endpoints are used. Where none is known a request raises `httpx.ConnectError`, whose cause
        is `EndpointsUnknown`, or `NoEndpoints` if that is a fact.
    """

    def _ordinary(self) -> httpx.AsyncBaseTransport:
        return httpx.AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; httpx calls this."""
        view = self._view(request)
        if view is None:
            return await self._transport.handle_async_request(request)
        call = Call(self, view, request)
        if view.awaited:
            with suppress(TimeoutError):  # then from what is on disk; `begin` says if there is nothing
                await view.wait_for(0, timeout=call.patience)
        call.begin()
        while True:
            try:
                response = await self._transport.handle_async_request(call.attempt())
            except httpx.TransportError as exc:
                pause = call.failed(exc)
                if pause is None:
                    raise
            else:
                try:
                    pause = call.answered(response)
                except BaseException:
                    await response.aclose()
                    raise
                if pause is None:
                    return response
                await response.aclose()
            await anyio.sleep(pause)

    async def aclose(self) -> None:
        """Close what sends the requests."""
        await self._transport.aclose()


class SyncDiscoveryTransport(_Discovering[httpx.BaseTransport], httpx.BaseTransport):
    """The same for `httpx.Client`, with the same options, in worker threads of the coordinator's event loop.

    A service has to be followed before: name it in `connect(discover=[...])`, or let a worker thread of the event
    loop (a synchronous route of FastAPI or Starlette) make the first request.

    Raises:
        ValueError: An option is out of range.

    When degraded:
        As `DiscoveryTransport`.
    """

    def _ordinary(self) -> httpx.BaseTransport:
        return httpx.HTTPTransport()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; httpx calls this."""
        view = self._view(request)
        if view is None:
            return self._transport.handle_request(request)
        call = Call(self, view, request)
        if view.awaited:
            view.wait_in_thread(timeout=call.patience)
        call.begin()
        while True:
            try:
                response = self._transport.handle_request(call.attempt())
            except httpx.TransportError as exc:
                pause = call.failed(exc)
                if pause is None:
                    raise
            else:
                try:
                    pause = call.answered(response)
                except BaseException:
                    response.close()
                    raise
                if pause is None:
                    return response
                response.close()
            time.sleep(pause)

    def close(self) -> None:
        """Close what sends the requests."""
        self._transport.close()
