"""The transports of `tideover.contrib.httpx` for httpx2, which goes on where httpx has stopped.

    client = httpx2.AsyncClient(transport=DiscoveryTransport())
    await client.get("http://billing.service/invoices/7")

The two libraries share no class: a client of the one takes no transport of the other. httpx is not needed here.
"""

from __future__ import annotations

from tideover.contrib.transports.bodies import PassedBody
from tideover.contrib.transports.library import Library
from tideover.contrib.transports.transport import AsyncDiscovering, SyncDiscovering
from tideover.extras import importing

with importing(__name__, extra="httpx2"):
    import httpx2

__all__ = ["DiscoveryTransport", "SyncDiscoveryTransport"]


class _Body(PassedBody, httpx2.AsyncByteStream, httpx2.SyncByteStream):
    """A body that httpx2 accepts."""


_LIBRARY = Library(httpx2, _Body)


class DiscoveryTransport(
    AsyncDiscovering[httpx2.AsyncBaseTransport, httpx2.Request, httpx2.Response], httpx2.AsyncBaseTransport
):
    """`tideover.contrib.httpx.DiscoveryTransport` for `httpx2.AsyncClient`: the same options, rules and errors.

    Raises:
        ValueError: An option is out of range.
        TypeError: `transport` is one of httpx; so does a request of a client of httpx.

    When degraded:
        As that of httpx, with the errors of httpx2.
    """

    library = _LIBRARY
    ordinary = httpx2.AsyncHTTPTransport


class SyncDiscoveryTransport(
    SyncDiscovering[httpx2.BaseTransport, httpx2.Request, httpx2.Response], httpx2.BaseTransport
):
    """`tideover.contrib.httpx.SyncDiscoveryTransport` for `httpx2.Client`: the same options, rules and errors.

    Raises:
        ValueError: An option is out of range.
        TypeError: `transport` is one of httpx; so does a request of a client of httpx.

    When degraded:
        As that of httpx, with the errors of httpx2.
    """

    library = _LIBRARY
    ordinary = httpx2.HTTPTransport
