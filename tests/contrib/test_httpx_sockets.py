"""The httpx transports over real connections: redirects, streams, pools, and what breaks at which moment."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import pytest

from tests.contrib.backend import Backend, Heard, reply, serving, stream
from tests.contrib.libraries import library  # noqa: F401
from tests.contrib.test_httpx import published
from tideover import connect
from tideover.discovery.service_view import ServiceView

if TYPE_CHECKING:
    import httpx

    from tideover.contrib.httpx import DiscoveryTransport, SyncDiscoveryTransport
else:
    from tests.contrib.libraries import DiscoveryTransport, SyncDiscoveryTransport, httpx

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("library")]


@pytest.fixture
def anyio_backend() -> str:
    """Run on asyncio, whose streams the servers are made of."""
    return "asyncio"


@asynccontextmanager
async def calling(
    *backends: Backend, base: str = "", **options: object
) -> AsyncIterator[tuple[httpx.AsyncClient, ServiceView]]:
    """Give a client of the service that these servers are."""
    async with serving(*backends):
        async with connect(store=await published(*(backend.url + base for backend in backends))) as tide:
            view = tide.discover("billing")
            await view.wait_for(len(backends), timeout=5)
            async with httpx.AsyncClient(transport=DiscoveryTransport(tide), **options) as client:  # type: ignore[arg-type]
                yield client, view


async def plain(heard: Heard, writer: asyncio.StreamWriter) -> None:
    """Answer with the path."""
    reply(writer, 200, b"" if heard.method == "HEAD" else heard.path.encode())


# Where answers lead ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("location", "path"),
    [
        ("/base/end?a=b", "/base/end?a=b"),
        ("end", "/base/a/end"),
        ("../end", "/base/end"),
        ("{url}/base/end", "/base/end"),
        ("{url}/base", "/base/"),
        ("//{netloc}/base/end", "/base/end"),
        ("?page=2", "/base/a/b?page=2"),
        ("{url}/login", "/login"),
        ("/login", "/login"),
        ("/basement", "/basement"),
        ("http:end", "/base/a/end"),
    ],
)
async def test_redirects_lead_where_the_endpoint_meant(location: str, path: str) -> None:
    """Relative, absolute, inside of the endpoint's base path or outside: the endpoint gets the path it meant."""

    async def answer(heard: Heard, writer: asyncio.StreamWriter) -> None:
        if heard.path == "/base/a/b":
            url = f"http://{heard.headers['host']}"
            reply(writer, 307, Location=location.format(url=url, netloc=heard.headers["host"]))
        else:
            await plain(heard, writer)

    async with calling(Backend(answer), base="/base", follow_redirects=True) as (client, _):
        response = await client.get("http://billing.service/a/b")
        assert (response.status_code, response.text) == (200, path)
        assert len(response.history) == 1


async def test_inside_the_service_a_redirect_keeps_its_name_and_the_credentials() -> None:
    """What a framework builds from `Host` becomes the service's again: discovered, with `Authorization`."""

    async def answer(heard: Heard, writer: asyncio.StreamWriter) -> None:
        if heard.path == "/a":
            reply(writer, 307, Location=f"http://{heard.headers['host']}/a/")
        else:
            reply(writer, 200, heard.headers.get("authorization", "none").encode())

    backends = Backend(answer), Backend(answer)
    async with calling(*backends, follow_redirects=True, auth=("me", "secret")) as (client, _):
        response = await client.get("http://billing.service/a")
        assert response.text.startswith("Basic ")
        assert str(response.url) == "http://billing.service/a/"
    assert [len(backend.heard) for backend in backends] == [1, 1]


async def test_a_redirect_elsewhere_is_left_alone() -> None:
    """Another host, another scheme, another port, or what is no URL: the caller sees what the endpoint said."""
    said = ["http://127.0.0.1:1/a", "https://example.org/", "/same", "same", "http://[", "#there"]
    left = list(said)

    async def answer(heard: Heard, writer: asyncio.StreamWriter) -> None:
        reply(writer, 201, Location=left.pop(0))

    async with calling(Backend(answer)) as (client, _):
        assert [(await client.get("http://billing.service/x")).headers["location"] for _ in said] == said


# Time -----------------------------------------------------------------------------------------------------------


async def test_a_slow_stream_is_not_cut_because_there_was_another_attempt() -> None:
    """The read timeout is for each part of a body, however little time the first attempt has left."""
    asked: list[Heard] = []

    async def answer(heard: Heard, writer: asyncio.StreamWriter) -> None:
        asked.append(heard)
        if len(asked) == 1:
            await asyncio.sleep(0.7)
            reply(writer, 503)
        else:
            await stream(writer, b"a", b"b", b"c", pause=0.5)

    async with calling(Backend(answer), Backend(answer), timeout=1) as (client, view):
        async with client.stream("GET", "http://billing.service/") as response:
            assert [part async for part in response.aiter_bytes()] == [b"a", b"b", b"c"]
        assert len(asked) == 2
        assert not view.ejected


async def test_a_stream_that_stands_still_is_cut() -> None:
    """Longer than the read timeout nobody waits for a part of a body; three times, and the endpoint is ejected."""

    async def answer(heard: Heard, writer: asyncio.StreamWriter) -> None:
        await stream(writer, b"a", pause=60)

    async with calling(Backend(answer), Backend(plain), timeout=0.1) as (client, view):
        cut = 0
        for _ in range(6):
            try:
                await client.get("http://billing.service/")
            except httpx.ReadTimeout:
                cut += 1
        assert cut == 3
        assert len(view.ejected) == 1


async def test_who_is_asked_again_is_asked_after_a_pause() -> None:
    """A single endpoint that is in trouble does not get all attempts within a moment."""
    times: list[float] = []

    async def answer(heard: Heard, writer: asyncio.StreamWriter) -> None:
        times.append(time.monotonic())
        reply(writer, 503)

    async with calling(Backend(answer)) as (client, _view):
        pauses = []
        for _ in range(3):
            times.clear()
            assert (await client.get("http://billing.service/")).status_code == 503
            pauses += [after - before for before, after in itertools.pairwise(times)]
    # Drawn from [0, 0.1) and [0, 0.2) three times each: a sum that small has a probability of less than 10^-8.
    assert len(pauses) == 6
    assert sum(pauses) > 0.02


@pytest.mark.parametrize("others", [0, 1])
async def test_who_says_when_to_come_back_is_not_asked_before(others: int) -> None:
    """After `Retry-After` only another endpoint is asked; if there is none, the answer is the caller's."""

    async def answer(heard: Heard, writer: asyncio.StreamWriter) -> None:
        reply(writer, 503, Retry_After="5")

    busy = Backend(answer)
    async with calling(busy, *[Backend(plain)] * others) as (client, _):
        for _ in range(4):
            assert (await client.get("http://billing.service/")).status_code == (200 if others else 503)
    assert 1 <= len(busy.heard) <= 4


# Connections ----------------------------------------------------------------------------------------------------


async def test_connections_are_used_again() -> None:
    """Requests one after the other share one connection for each endpoint, whatever the method."""

    async def answer(heard: Heard, writer: asyncio.StreamWriter) -> None:
        if heard.path == "/304":
            reply(writer, 304, ETag='"1"')
        elif heard.path == "/204":
            writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        else:
            await plain(heard, writer)

    backend = Backend(answer)
    async with calling(backend) as (client, view):
        for method in ("GET", "HEAD", "OPTIONS", "POST", "DELETE"):
            response = await client.request(method, "http://billing.service/x")
            assert (response.status_code, response.text) == (200, "" if method == "HEAD" else "/x")
        assert (
            await client.get("http://billing.service/304", headers={"If-None-Match": '"1"'})
        ).status_code == 304
        assert (await client.get("http://billing.service/204")).status_code == 204
        assert not view.ejected
    assert backend.connections == 1


async def test_a_connection_that_the_server_has_closed_meanwhile_costs_nothing() -> None:
    """A server that ends connections between requests: no call fails, a POST neither, and nobody is ejected."""

    async def answer(heard: Heard, writer: asyncio.StreamWriter) -> bool:
        await plain(heard, writer)
        return False

    backend = Backend(answer)
    async with calling(backend) as (client, view):
        for n in range(6):
            assert (await client.request("POST" if n % 2 else "GET", "http://billing.service/x")).text == "/x"
            await asyncio.sleep(0.02)
        assert not view.ejected
    assert backend.connections == 6


async def test_a_server_that_ends_without_an_answer() -> None:
    """The connection ends where the answer should be: a GET is asked elsewhere, a POST fails."""

    async def answer(heard: Heard, writer: asyncio.StreamWriter) -> bool:
        return False

    async with calling(Backend(answer), Backend(plain)) as (client, _):
        assert {(await client.get("http://billing.service/x")).text for _ in range(2)} == {"/x"}
    async with calling(bad := Backend(answer)) as (client, _):
        with pytest.raises(httpx.RemoteProtocolError):
            await client.post("http://billing.service/x")
    assert len(bad.heard) == 1


async def test_nobody_listens() -> None:
    """A port that refuses connections costs a streamed upload nothing: it was not begun."""

    async def parts() -> AsyncIterator[bytes]:
        for part in (b"one", b"two"):
            yield part

    async def answer(heard: Heard, writer: asyncio.StreamWriter) -> None:
        reply(writer, 200, heard.body)

    dead, alive = Backend(plain), Backend(answer)
    async with serving(dead):
        pass
    async with serving(alive), connect(store=await published(dead.url, alive.url)) as tide:
        async with httpx.AsyncClient(transport=DiscoveryTransport(tide)) as client:
            for _ in range(4):
                assert (await client.post("http://billing.service/", content=parts())).text == "onetwo"


async def test_who_gives_up_within_a_body_says_nothing() -> None:
    """Cancelled while a body stands still: no failure, no success either, and the connection is not used again."""

    async def answer(heard: Heard, writer: asyncio.StreamWriter) -> None:
        await stream(writer, b"a", pause=60 if heard.path == "/slow" else 0)

    backend, fine = Backend(answer), Backend(plain)
    async with calling(backend, fine) as (client, view):
        (bad,) = (e for e in view.endpoints if e.url == backend.url)
        for _ in range(2):
            view.report(bad, False)
        while sum(heard.path == "/slow" for heard in backend.heard) < 3:
            with anyio.move_on_after(0.05):
                await client.get("http://billing.service/slow")
        assert not view.ejected
        view.report(bad, False)
        assert view.ejected == (bad,)
        assert (await client.get("http://billing.service/x")).status_code == 200


async def test_who_leaves_a_stream_early_is_content() -> None:
    """`client.stream` left before the end is a success of the endpoint, as what was read to the end is."""

    async def answer(heard: Heard, writer: asyncio.StreamWriter) -> None:
        await stream(writer, *[b"a"] * 1000, pause=0.001)

    async with calling(Backend(answer), Backend(answer)) as (client, view):
        (one, _) = view.endpoints
        for _ in range(2):
            view.report(one, False)
        for _ in range(2):
            async with client.stream("GET", "http://billing.service/") as response:
                async for _ in response.aiter_bytes():
                    break
        view.report(one, False)
        assert not view.ejected


async def test_a_protocol_can_be_switched() -> None:
    """An upgrade (a websocket's handshake) reaches the endpoint, and the caller gets the connection itself."""

    async def answer(heard: Heard, writer: asyncio.StreamWriter) -> bool:
        assert heard.headers["upgrade"] == "echo"
        writer.write(b"HTTP/1.1 101 Switching\r\nUpgrade: echo\r\nConnection: Upgrade\r\n\r\nhello")
        await writer.drain()
        await asyncio.sleep(0.1)
        return False

    headers = {"Connection": "Upgrade", "Upgrade": "echo"}
    async with calling(Backend(answer)) as (client, _):
        async with client.stream("GET", "ws://billing.service/", headers=headers) as response:
            assert response.status_code == 101
            assert await response.extensions["network_stream"].read(5) == b"hello"


async def test_a_challenge_is_answered() -> None:
    """An auth flow of httpx asks twice, and both requests find the service."""

    async def answer(heard: Heard, writer: asyncio.StreamWriter) -> None:
        if "authorization" in heard.headers:
            await plain(heard, writer)
        else:
            reply(writer, 401, WWW_Authenticate='Digest realm="r", nonce="n", qop="auth", algorithm=MD5')

    async with calling(Backend(answer), Backend(answer), auth=httpx.DigestAuth("me", "secret")) as (client, _):
        assert (await client.get("http://billing.service/x")).text == "/x"


async def test_the_synchronous_transport_over_connections() -> None:
    """Redirects, streams after a late attempt, and pauses are the same without async."""
    asked: list[Heard] = []

    async def answer(heard: Heard, writer: asyncio.StreamWriter) -> None:
        asked.append(heard)
        if len(asked) == 1:
            reply(writer, 302, Location=f"http://{heard.headers['host']}/base/end")
        elif len(asked) == 2:
            await asyncio.sleep(0.7)
            reply(writer, 503)
        else:
            await stream(writer, b"a", b"b", pause=0.5)

    backend = Backend(answer)
    async with serving(backend), connect(store=await published(f"{backend.url}/base")) as tide:
        await tide.discover("billing").wait_for(1, timeout=5)

        def work() -> str:
            transport = SyncDiscoveryTransport(tide)
            with httpx.Client(transport=transport, timeout=1, follow_redirects=True) as client:
                return client.get("http://billing.service/a").text

        assert await anyio.to_thread.run_sync(work) == "ab"
    assert [heard.path for heard in asked] == ["/base/a", "/base/end", "/base/end"]
