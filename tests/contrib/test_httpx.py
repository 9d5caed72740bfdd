"""The httpx transports: where requests go, what is tried again, and what is not."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from tests.contrib.libraries import library  # noqa: F401
from tests.support import request
from tideover import EndpointsUnknown, NoEndpoints, TooStale, connect
from tideover.coordinator.coordinator import Coordinator
from tideover.discovery.endpoint import Endpoint
from tideover.store.operations import Delete, Op, Put, Range, Result
from tideover.testing import FaultyStore, MemoryStore
from tideover.types import Source

if TYPE_CHECKING:
    import httpx
    from httpx import AsyncBaseTransport as Base

    from tideover.contrib.httpx import DiscoveryTransport, SyncDiscoveryTransport
else:
    Base = object  # it is defined before a library has its turn
    from tests.contrib.libraries import DiscoveryTransport, SyncDiscoveryTransport, httpx

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("library")]

URLS = ("http://10.0.0.1:81", "http://10.0.0.2:82/base", "http://10.0.0.3:83")


@pytest.fixture
def anyio_backend() -> str:
    """Run on asyncio, where most users of httpx are."""
    return "asyncio"


class Network(Base):
    """What is at the other end: answers as told, and remembers what was asked.

    Attributes:
        answers: Host to its status, or to what it raises.
        asked: The requests, in order.
    """

    def __init__(self, **answers: int | type[httpx.TransportError]) -> None:
        self.answers = {host.replace("_", "."): answer for host, answer in answers.items()}
        self.asked: list[httpx.Request] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer a request; its body is read only if there is a connection."""
        if self.answers.get(request.url.host) not in (httpx.ConnectError, httpx.ConnectTimeout):
            await request.aread()
        return self(request)

    async def aclose(self) -> None:
        """Nothing is open."""

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """Answer a request that has come."""
        self.asked.append(request)
        answer = self.answers.get(request.url.host, self.answers.get("*", 200))
        if isinstance(answer, int):
            return httpx.Response(answer, text=f"from {request.url.host}")
        raise answer("told so", request=request)

    @property
    def hosts(self) -> list[str]:
        """The hosts asked, in order."""
        return [request.url.host for request in self.asked]


async def published(*urls: str, weight: float = 1.0) -> MemoryStore:
    """Return a cluster in which the service billing has these endpoints."""
    store = MemoryStore()
    for n, url in enumerate(urls):
        each = Endpoint(url, weight, {}, str(n), "one", "billing")
        await store.call(Put(f"/{each.key}".encode(), each.encode()), member=store.members[0], timeout=1)
    return store


@asynccontextmanager
async def calling(
    network: Network, *urls: str, **options: object
) -> AsyncIterator[tuple[httpx.AsyncClient, Coordinator]]:
    """Give a client of the service, on a network."""
    async with connect(store=await published(*urls)) as tide:
        transport = DiscoveryTransport(transport=network, **options)  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport) as client:
            yield client, tide


def everywhere(answer: int | type[httpx.TransportError]) -> Network:
    """Return a network in which everybody answers the same."""
    network = Network()
    network.answers = {"*": answer}
    return network


async def test_requests_go_to_the_endpoints_in_turn() -> None:
    """Three requests go to the three endpoints; URL, Host and prefix are the endpoint's, query and body ours."""
    network = Network()
    async with calling(network, *URLS) as (client, _):
        for _ in range(3):
            response = await client.post("http://billing.service/a/b?c=d%20e", content=b"body")
            assert response.text.startswith("from 10.0.0.")
            assert response.request.url == "http://billing.service/a/b?c=d%20e"
    assert sorted(str(request.url) for request in network.asked) == [
        "http://10.0.0.1:81/a/b?c=d%20e",
        "http://10.0.0.2:82/base/a/b?c=d%20e",
        "http://10.0.0.3:83/a/b?c=d%20e",
    ]
    assert {request.headers["host"] for request in network.asked} == {"10.0.0.1:81", "10.0.0.2:82", "10.0.0.3:83"}
    assert {request.read() for request in network.asked} == {b"body"}


async def test_other_hosts_pass_through() -> None:
    """What is no service is sent as it is; a Host of the caller's own is kept."""
    network = Network()
    async with calling(network, URLS[0]) as (client, _):
        await client.get("https://example.org/x")
        await client.get("http://billing.service/", headers={"Host": "invoices.internal"})
    assert str(network.asked[0].url) == "https://example.org/x"
    assert network.asked[1].headers["host"] == "invoices.internal"


async def test_tls_is_not_left_out() -> None:
    """Who asks for https:// never gets an endpoint without TLS; http:// may get one with it."""
    network = Network()
    async with calling(network, "http://10.0.0.1:81") as (client, tide):
        for _ in range(5):
            with pytest.raises(httpx.LocalProtocolError, match="asks for TLS"):
                await client.get("https://billing.service/")
        assert not network.asked
        assert not tide.discover("billing").ejected
    async with calling(network, "https://10.0.0.1:81") as (client, _):
        for scheme in ("http", "https"):
            await client.get(f"{scheme}://billing.service/")
    assert {request.url.scheme for request in network.asked} == {"https"}


@pytest.mark.parametrize("name", ["ConnectError", "ConnectTimeout"])
async def test_what_was_never_sent_is_tried_elsewhere(name: str) -> None:
    """Endpoints that cannot be connected to cost the caller nothing, whatever the method and the body."""
    error = getattr(httpx, name)
    network = Network(**{"10_0_0_1": error, "10_0_0_2": error})

    async def stream() -> AsyncIterator[bytes]:
        yield b"once"

    async with calling(network, *URLS) as (client, _):
        for _ in range(4):
            assert (await client.post("http://billing.service/", content=stream())).text == "from 10.0.0.3"
            assert (await client.get("http://billing.service/")).text == "from 10.0.0.3"


@pytest.mark.parametrize("url", ["grpc://10.0.0.9:9", "10.0.0.9:9", "http://10.0.0.9:port", "http://[::1:9"])
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_url_that_http_cannot_reach_is_the_endpoints_failure(url: str, method: str) -> None:
    """What another program has registered costs no request, a POST neither, and is soon not picked any more."""
    network = Network()

    class OnlyHttp(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            if request.url.scheme not in ("http", "https"):
                # As httpx's own transport does it.
                raise httpx.UnsupportedProtocol("unsupported", request=request)
            return await network.handle_async_request(request)

    async with connect(store=await published(url, "http://10.0.0.1:81")) as tide:
        async with httpx.AsyncClient(transport=DiscoveryTransport(transport=OnlyHttp())) as client:
            for _ in range(8):
                assert (await client.request(method, "http://billing.service/")).status_code == 200
            assert [endpoint.url for endpoint in tide.discover("billing").ejected] == [url]
    assert network.hosts == ["10.0.0.1"] * 8


async def test_only_urls_that_http_cannot_reach() -> None:
    """Where no endpoint can be asked, the error is one of httpx's transport errors, after so many attempts."""
    async with calling(Network(), "http://[::1:9", "http://[::1:8") as (client, _):
        with pytest.raises(httpx.UnsupportedProtocol, match="::1"):
            await client.get("http://billing.service/")


@pytest.mark.parametrize("name", ["ReadError", "ReadTimeout", "RemoteProtocolError", "WriteError"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "POST", "PATCH"])
async def test_what_may_have_been_carried_out_is_tried_again_only_if_idempotent(method: str, name: str) -> None:
    """A connection that breaks after the request was sent: a POST or PATCH fails and was sent once."""
    error = getattr(httpx, name)
    network = everywhere(error)
    async with calling(network, *URLS) as (client, _):
        with pytest.raises(error) as raised:
            await client.request(method, "http://billing.service/")
        assert raised.value.request.url == "http://billing.service/"
    assert len(network.asked) == (1 if method in ("POST", "PATCH") else 3)
    assert len(set(network.hosts)) == len(network.asked)


@pytest.mark.parametrize("status", [502, 503, 504])
async def test_gateway_errors_are_failures(status: int) -> None:
    """A GET that is answered 503 goes to the next endpoint; a POST, and who finds no other, gets that answer."""
    network = Network(**{"10_0_0_1": status})
    async with calling(network, *URLS[:1], URLS[2]) as (client, tide):
        for _ in range(6):
            assert (await client.get("http://billing.service/")).status_code == 200
        assert [e.url for e in tide.discover("billing").ejected] == [URLS[0]]
    network = everywhere(status)
    async with calling(network, *URLS) as (client, _):
        assert (await client.post("http://billing.service/")).status_code == status
        assert len(network.asked) == 1
        assert (await client.get("http://billing.service/")).status_code == status
        assert len(network.asked) == 4


async def test_other_statuses_are_answers() -> None:
    """A 500 or 404 is the application's answer: not repeated, and no failure of the endpoint."""
    network = everywhere(500)
    async with calling(network, *URLS) as (client, tide):
        for _ in range(12):
            assert (await client.get("http://billing.service/")).status_code == 500
        assert not tide.discover("billing").ejected
    assert len(network.asked) == 12


async def test_a_body_that_cannot_be_sent_twice_is_not() -> None:
    """A PUT of a stream is idempotent, but the stream is gone: the failure is the caller's to know."""
    network = everywhere(httpx.ReadError)

    async def stream() -> AsyncIterator[bytes]:
        yield b"once"

    async with calling(network, *URLS) as (client, _):
        with pytest.raises(httpx.ReadError):
            await client.put("http://billing.service/", content=stream())
    assert len(network.asked) == 1


async def test_a_full_pool_is_not_the_endpoints_failure() -> None:
    """PoolTimeout says that the caller has too much to do: it is neither repeated nor reported."""
    network = everywhere(httpx.PoolTimeout)
    async with calling(network, *URLS) as (client, tide):
        for _ in range(12):
            with pytest.raises(httpx.PoolTimeout):
                await client.get("http://billing.service/")
        assert not tide.discover("billing").ejected
    assert len(network.asked) == 12


async def test_attempts_are_bounded() -> None:
    """No more endpoints are tried than `attempts`; and when most requests fail, they are not multiplied."""
    network = everywhere(httpx.ReadTimeout)
    async with calling(network, *URLS, attempts=2) as (client, _):
        with pytest.raises(httpx.ReadTimeout):
            await client.get("http://billing.service/")
        assert len(network.asked) == 2
        for _ in range(100):
            with pytest.raises(httpx.ReadTimeout):
                await client.get("http://billing.service/")
        assert len(network.asked) < 120


async def test_the_last_endpoint_is_tried_again() -> None:
    """A service of one whose connection broke is asked again: there is nobody else."""
    network = everywhere(httpx.ReadError)
    async with calling(network, URLS[0]) as (client, _):
        with pytest.raises(httpx.ReadError):
            await client.get("http://billing.service/")
    assert network.hosts == ["10.0.0.1"] * 3


async def test_attempts_share_the_requests_timeout() -> None:
    """Each attempt gets what is left of the request's timeout, and a second for connecting; then none is made."""
    network = Network()

    async def slow(request: httpx.Request) -> httpx.Response:
        await anyio.sleep(0.12)
        network.answers = {"*": httpx.ReadTimeout}
        return network(request)

    async with connect(store=await published(*URLS)) as tide:
        transport = DiscoveryTransport(tide, transport=httpx.MockTransport(slow), attempts=9)
        async with httpx.AsyncClient(transport=transport, timeout=0.3) as client:
            with pytest.raises(httpx.ReadTimeout):
                await client.get("http://billing.service/")
    assert 2 <= len(network.asked) <= 4
    given = [request.extensions["timeout"] for request in network.asked]
    assert given[0]["read"] > 0.2 > given[-1]["read"]
    async with calling(network := Network(), URLS[0]) as (client, _):
        await client.get("http://billing.service/", timeout=30)
        await client.get("http://billing.service/", timeout=None)
    assert [request.extensions["timeout"]["connect"] for request in network.asked] == [1.0, 1.0]
    assert network.asked[1].extensions["timeout"]["read"] is None


async def test_a_body_that_breaks_off_is_a_failure() -> None:
    """Who answers well and breaks off in the body three times is ejected; who is read to the end is not."""

    class Broken(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b"half"
            raise httpx.ReadError("broke off")

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, stream=Broken()) if request.url.host == "10.0.0.1" else httpx.Response(200)

    async with connect(store=await published(*URLS)) as tide:
        transport = DiscoveryTransport(tide, transport=httpx.MockTransport(answer))
        async with httpx.AsyncClient(transport=transport) as client:
            failures = 0
            for _ in range(9):
                try:
                    await client.get("http://billing.service/")
                except httpx.ReadError:
                    failures += 1
            assert failures == 3
            assert [e.url for e in tide.discover("billing").ejected] == [URLS[0]]


async def test_cancellation_says_nothing() -> None:
    """A request that its caller gives up is no failure of the endpoint."""

    async def never(request: httpx.Request) -> httpx.Response:
        await anyio.sleep_forever()
        raise AssertionError(request)

    async with connect(store=await published(*URLS)) as tide:
        transport = DiscoveryTransport(tide, transport=httpx.MockTransport(never))
        await tide.discover("billing").wait_for(2, timeout=2)
        async with httpx.AsyncClient(transport=transport) as client:
            for _ in range(12):
                with anyio.move_on_after(0.005):
                    await client.get("http://billing.service/")
            assert not tide.discover("billing").ejected


async def test_nobody_to_ask() -> None:
    """No endpoint, or none known, is httpx's ConnectError, with the reason as its cause; in an outage at once."""
    async with calling(Network()) as (client, tide):
        with pytest.raises(httpx.ConnectError, match="'billing' has no endpoints") as none:
            await client.get("http://billing.service/")
        assert type(none.value.__cause__) is NoEndpoints
    store = MemoryStore()
    store.down = set(store.members)
    async with connect(store=store) as tide:
        async with httpx.AsyncClient(transport=DiscoveryTransport(tide)) as client:
            for n in range(3):
                with anyio.fail_after(0.5 if n else 3), pytest.raises(httpx.ConnectError) as unknown:
                    await client.get("http://billing.service/")
                assert isinstance(unknown.value.__cause__, EndpointsUnknown)


def reads_of_the_service(op: Op[Result]) -> bool:
    """Whether that is a full read of the service's keys."""
    return isinstance(op, Range) and op.key.startswith(b"/services/") and not op.keys_only


async def left_on_disk(folder: Path) -> FaultyStore:
    """Return a cluster in which billing has one endpoint; in the folder is an earlier list, with another one."""
    store = await published("http://10.0.0.9:80")
    async with connect(store=store, cache_dir=folder) as tide:
        await tide.discover("billing").wait_for(1, timeout=2)
    key = Endpoint("http://10.0.0.9:80", 1.0, {}, "0", "one", "billing").key
    await store.call(Delete(f"/{key}".encode()), member=store.members[0], timeout=1)
    here = Endpoint("http://10.0.0.1:80", 1.0, {}, "1", "one", "billing")
    await store.call(Put(f"/{here.key}".encode(), here.encode()), member=store.members[0], timeout=1)
    return FaultyStore(store)


async def test_the_first_request_asks_etcd(tmp_path: Path) -> None:
    """With etcd well the first request of a process goes where etcd says, not where an old list on disk does."""
    store, network = await left_on_disk(tmp_path), Network()
    async with connect(store=store, cache_dir=tmp_path) as tide:
        async with httpx.AsyncClient(transport=DiscoveryTransport(tide, transport=network)) as client:
            with request() as record:
                await client.post("http://billing.service/pay")
    assert (network.hosts, dict(record.marks)) == (["10.0.0.1"], {})


@pytest.mark.parametrize(("timeout", "waits"), [(0.4, 0.2), (1.5, 1.0)])
async def test_the_first_request_waits_within_its_own_timeout(
    tmp_path: Path, timeout: float, waits: float
) -> None:
    """A first read that does not come leaves time for the call, which then goes where the disk says, marked."""
    store, network = await left_on_disk(tmp_path), Network()
    store.inject("", times=1000, when=reads_of_the_service)
    async with connect(store=store, cache_dir=tmp_path) as tide:
        transport = DiscoveryTransport(tide, transport=network, connect_timeout=0.5)
        async with httpx.AsyncClient(transport=transport, timeout=timeout) as client:
            began = anyio.current_time()
            with request() as record:
                await client.get("http://billing.service/")
            assert anyio.current_time() - began == pytest.approx(waits, abs=0.15)
    assert network.hosts == ["10.0.0.9"]
    assert record.marks["discovery"].source is Source.DISK


async def test_the_first_request_of_a_thread_asks_etcd(tmp_path: Path) -> None:
    """`httpx.Client` too, in a worker thread or any other; in the event loop's own nothing is waited for."""
    store = await left_on_disk(tmp_path)
    asked: list[list[str]] = []

    def work() -> None:
        network = Network()
        with httpx.Client(
            transport=SyncDiscoveryTransport(tide, transport=httpx.MockTransport(network))
        ) as client:
            client.get("http://billing.service/")
        asked.append(network.hosts)

    async with connect(store=store, cache_dir=tmp_path) as tide:
        await anyio.to_thread.run_sync(work)
    async with connect(store=store, cache_dir=tmp_path) as tide:
        tide.discover("billing")
        await anyio.lowlevel.checkpoint()
        stranger = threading.Thread(target=work)
        stranger.start()
        while stranger.is_alive():
            await anyio.sleep(0.01)
    async with connect(store=store, cache_dir=tmp_path) as tide:
        before = anyio.current_time()
        with pytest.raises(httpx.ConnectError):
            work()
        assert anyio.current_time() - before < 0.5
    assert asked == [["10.0.0.1"], ["10.0.0.1"]]


async def test_max_stale_refuses() -> None:
    """A list older than `max_stale` is not used."""
    store = await published(*URLS)
    async with connect(store=store) as tide:
        await tide.discover("billing").wait_for(3, timeout=2)
        store.down = set(store.members)
        store.touch()
        await anyio.sleep(0.1)
        transport = DiscoveryTransport(tide, transport=Network(), max_stale=0.05)
        async with httpx.AsyncClient(transport=transport) as client:
            with pytest.raises(TooStale):
                await client.get("http://billing.service/")


async def test_the_synchronous_transport() -> None:
    """`httpx.Client` in a worker thread: in turn, tried elsewhere, reported, and streams closed."""
    network = Network()
    network.answers = {"10.0.0.1": httpx.ConnectError, "10.0.0.2": 503}

    class Broken(httpx.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            yield b"half"
            raise httpx.ReadError("broke off")

    def work() -> None:
        with httpx.Client(transport=SyncDiscoveryTransport(transport=httpx.MockTransport(network))) as client:
            for _ in range(6):
                assert client.get("http://billing.service/x").text == "from 10.0.0.3"
            assert client.get("http://example.org/").text == "from example.org"

        def answer(request: httpx.Request) -> httpx.Response:
            return httpx.Response(200, stream=Broken())

        with httpx.Client(transport=SyncDiscoveryTransport(transport=httpx.MockTransport(answer))) as client:
            with pytest.raises(httpx.ReadError):
                client.get("http://billing.service/x")

    async with connect(store=await published(*URLS)) as tide:
        view = tide.discover("billing")
        await view.wait_for(3, timeout=2)
        await anyio.to_thread.run_sync(work)
        assert len(view.ejected) == 1


@pytest.mark.parametrize(
    "make",
    [
        lambda: DiscoveryTransport(suffix="service"),
        lambda: DiscoveryTransport(suffix=".Service"),
        lambda: DiscoveryTransport(attempts=0),
        lambda: SyncDiscoveryTransport(connect_timeout=0),
    ],
)
def test_options_that_cannot_work_are_refused(make: Callable[[], object]) -> None:
    """An option out of range raises ValueError when the transport is made."""
    with pytest.raises(ValueError):
        make()
