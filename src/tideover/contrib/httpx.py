"""httpx transports for `http://name.service/path`: the endpoint is discovered, and the next one tried if it fails.

    client = httpx.AsyncClient(transport=DiscoveryTransport())
    await client.get("http://billing.service/invoices/7")

What they do is in `tideover.contrib.transports`; here are the classes that httpx accepts.
"""

from __future__ import annotations

from tideover.contrib.transports.bodies import PassedBody
from tideover.contrib.transports.library import Library
from tideover.contrib.transports.transport import AsyncDiscovering, SyncDiscovering
from tideover.extras import importing

with importing(__name__, extra="httpx"):
    import httpx

__all__ = ["DiscoveryTransport", "SyncDiscoveryTransport"]


class _Body(PassedBody, httpx.AsyncByteStream, httpx.SyncByteStream):
    """A body that httpx accepts."""


_LIBRARY = Library(httpx, _Body)


class DiscoveryTransport(
    AsyncDiscovering[httpx.AsyncBaseTransport, httpx.Request, httpx.Response], httpx.AsyncBaseTransport
):
    """Sends requests for `http://name.service/path` to an endpoint of the service, those for
    `http://name.leader/path` to who leads the election, and all others where they say.

    The endpoint's URL decides scheme, port and what the path begins with, but https:// is never sent without TLS.
    An answer's `Location` is put into the caller's terms. A failed attempt is reported, so that an endpoint which
    fails often is not picked for a while, and repeated at the next endpoint if that is safe.

    The first request for a service waits until etcd was asked for it or an outage is known, but leaves
    `connect_timeout` of its own timeout for the call; then the list counts that an earlier process left on disk.

    A request for a leader waits until there is one, for as long as its timeouts let it connect, and goes to the
    `address` that the leader campaigns with. A process that does not lead refuses it by 421 if it has
    `TideoverMiddleware`; then, or if nothing was sent, the next leader is asked, whatever the method.

    Args:
        coordinator: Whose services; None means that of `tideover.current`, at each request.
        transport: What sends the requests; None means httpx's own.
        suffix: What the host of a service ends with; what is before it is the service's name, percent-encoded
            where a host cannot have it: `pay%2Feu.service`.
        leader_suffix: What the host of a leader ends with; what is before it is the election's name, likewise.
        attempts: How many attempts to make at the most.
        failures: Status codes that count as failures of the endpoint.
        connect_timeout: Seconds for connecting to one endpoint, if the request itself allows more.
        max_stale: Seconds beyond which the list of endpoints is not used; None means no limit.

    Raises:
        ValueError: An option is out of range.
        TypeError: `transport` is one of httpx2; so does a request of a client of httpx2.

    When degraded:
        The last known endpoints are used. Where none is known a request raises `httpx.ConnectError`, whose cause
        is `EndpointsUnknown`, or `NoEndpoints` if that is a fact. A leader is asked as long as it may lead on.
    """

    library = _LIBRARY
    ordinary = httpx.AsyncHTTPTransport


class SyncDiscoveryTransport(
    SyncDiscovering[httpx.BaseTransport, httpx.Request, httpx.Response], httpx.BaseTransport
):
    """The same for `httpx.Client`, with the same options, in worker threads of the coordinator's event loop.

    A service has to be followed before: name it in `connect(discover=[...])`, or let a worker thread of the event
    loop (a synchronous route of FastAPI or Starlette) make the first request.

    Raises:
        ValueError: An option is out of range.

    When degraded:
        As `DiscoveryTransport`.
    """

    library = _LIBRARY
    ordinary = httpx.HTTPTransport
