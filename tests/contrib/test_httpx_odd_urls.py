"""What others have written through the httpx transports: Locations and registered URLs that lead nowhere."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import anyio.to_thread
import pytest

from tests.contrib.backend import Backend, Heard, reply, serving
from tests.contrib.libraries import library  # noqa: F401
from tests.contrib.test_httpx import Network, calling, published
from tideover import connect

if TYPE_CHECKING:
    import httpx

    from tideover.contrib.httpx import DiscoveryTransport, SyncDiscoveryTransport
else:
    from tests.contrib.libraries import DiscoveryTransport, SyncDiscoveryTransport, httpx

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("library")]

# No URL at all, no URL for httpx, no host for idna or for getaddrinfo, no port for a socket.
NOWHERE = (
    "http://xn--a/",
    "//xn--a:0/",
    "http://xn--/",
    "http:////[",
    "http://[",
    "http://[v1.x]/",
    "http://\N{DIGIT ONE FULL STOP}/",
    "http://a:port/",
    "http://a:99999999/",
    "http://a:-1/",
    f"http://a:{'1' * 5000}/",
    f"http://{'a' * 70}/",
    "http://a..b/",
    "\x7f",
    "////a",
    "mailto:somebody",
    "file:x",
    "x" * 66_000,
)
UNUSABLE = (*NOWHERE, "http://", "http:///x", "10.0.0.9:9", f"http://10.0.0.9:9/{'x' * 40_000}")


@pytest.fixture
def anyio_backend() -> str:
    """Run on asyncio, whose streams the servers are made of."""
    return "asyncio"


def one() -> httpx.Limits:
    """Return a pool that one lost connection uses up."""
    return httpx.Limits(max_connections=1)


async def lead_nowhere(heard: Heard, writer: asyncio.StreamWriter) -> None:
    """Answer /STATUS/N with a `Location` of NOWHERE, and anything else with 200."""
    _, status, n, *_ = [*heard.path.split("/"), "", ""]
    if n:
        location = NOWHERE[int(n) % len(NOWHERE)].encode()
        head = b"HTTP/1.1 %d So\r\nContent-Length: 4\r\nLocation: %b\r\n\r\nbody" % (int(status), location)
        writer.write(head)
    else:
        reply(writer, 200, b"fine")


@contextmanager
def only_httpx_errors(count: list[httpx.HTTPError]) -> Iterator[None]:
    """Let errors of httpx pass, and no others; a full pool is what this is about."""
    try:
        yield
    except httpx.PoolTimeout:
        raise
    except httpx.HTTPError as exc:
        count.append(exc)


def paths(rounds: int) -> list[str]:
    """Return the paths to ask for: each Location as a redirect and as the place of what was created."""
    return [f"/{status}/{n}" for n in range(rounds * len(NOWHERE)) for status in (302, 201)]


@pytest.mark.parametrize("follow", [False, True])
async def test_locations_that_lead_nowhere_cost_no_connection(follow: bool) -> None:
    """A `Location` that is no URL is left to the caller, or one of httpx's errors, and the pool is as before."""
    backend = Backend(lead_nowhere)
    async with serving(backend), connect(store=await published(backend.url)) as tide:
        transport = DiscoveryTransport(tide, transport=httpx.AsyncHTTPTransport(limits=one()))
        async with httpx.AsyncClient(
            transport=transport, timeout=httpx.Timeout(5, pool=0.5), follow_redirects=follow
        ) as client:
            errors: list[httpx.HTTPError] = []
            for path in paths(1):
                with only_httpx_errors(errors):
                    response = await client.get(f"http://billing.service{path}")
                    assert response.status_code in (200, 201, 302)
                    assert response.is_closed
            assert (await client.get("http://billing.service/")).text == "fine"
            assert {type(error) for error in errors} <= {httpx.RemoteProtocolError, httpx.ConnectError}
            assert max(len(str(error)) for error in errors) < 700
            assert not tide.discover("billing").ejected
            created = await client.get("http://billing.service/201/0")
            assert created.headers["location"] == NOWHERE[0]


async def test_the_synchronous_transport_loses_no_connection_either() -> None:
    """The same without async."""
    backend = Backend(lead_nowhere)
    async with serving(backend), connect(store=await published(backend.url)) as tide:
        await tide.discover("billing").wait_for(1, timeout=5)

        def work() -> str:
            transport = SyncDiscoveryTransport(tide, transport=httpx.HTTPTransport(limits=one()))
            with httpx.Client(transport=transport, timeout=httpx.Timeout(5, pool=0.5)) as client:
                for path in paths(1):
                    with only_httpx_errors([]):
                        assert client.get(f"http://billing.service{path}").is_closed
                return client.get("http://billing.service/").text

        assert await anyio.to_thread.run_sync(work) == "fine"
        assert not tide.discover("billing").ejected


async def test_unusable_endpoints_cost_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """Beside endpoints whose URLs lead nowhere, however many, calls are answered; they are ejected and named."""
    backend = Backend(lead_nowhere)
    async with serving(backend), connect(store=await published(*UNUSABLE, backend.url)) as tide:
        view = tide.discover("billing")
        await view.wait_for(len(UNUSABLE) + 1, timeout=5)
        transport = DiscoveryTransport(tide, transport=httpx.AsyncHTTPTransport(limits=one()))
        with caplog.at_level(logging.ERROR, logger="tideover"):
            async with httpx.AsyncClient(transport=transport, timeout=httpx.Timeout(5, pool=0.5)) as client:
                for _ in range(40):
                    assert (await client.post("http://billing.service/")).text == "fine"
        assert len(view.ejected) == (len(UNUSABLE) + 1) // 2
        assert backend.url not in {endpoint.url for endpoint in view.ejected}
    for url in UNUSABLE:
        assert any(repr(url[:100])[1:-1] in record.getMessage() for record in caplog.records), url[:100]
    assert max(len(record.getMessage()) for record in caplog.records) < 700


# For httpx the two left out are a host and a scheme, which another transport may know.
@pytest.mark.parametrize("url", sorted(set(UNUSABLE) - {"http://[", "10.0.0.9:9"}))
async def test_only_an_unusable_endpoint(url: str) -> None:
    """Where there is no other, the error is httpx's, says which URL, and comes at once."""
    network = Network()
    async with connect(store=await published(url)) as tide:
        await tide.discover("billing").wait_for(1, timeout=5)
        async with httpx.AsyncClient(transport=DiscoveryTransport(tide, transport=network)) as client:
            with pytest.raises(httpx.UnsupportedProtocol, match="cannot be called") as raised:
                await client.get("http://billing.service/")
    assert repr(url[:100])[1:-1] in str(raised.value)
    assert len(str(raised.value)) < 700
    assert not network.asked


async def test_a_path_of_the_callers_that_is_too_long() -> None:
    """The caller's own mistake is one of httpx's errors, and no failure of the endpoint."""
    async with calling(Network(), f"http://10.0.0.1:81/{'base' * 20}") as (client, tide):
        for _ in range(4):
            with pytest.raises(httpx.LocalProtocolError, match="too long"):
                await client.get("http://billing.service/" + "x" * 65_500)
        assert not tide.discover("billing").ejected
