"""`http://NAME.leader/`: who is asked, what is waited for, and what is asked again."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import pytest

from tests.contrib.libraries import library  # noqa: F401
from tests.contrib.test_httpx import Network
from tideover import Coordinator, EndpointsUnknown, NoEndpoints, connect
from tideover.testing import MemoryStore

if TYPE_CHECKING:
    import httpx

    from tideover.contrib.httpx import DiscoveryTransport, SyncDiscoveryTransport
else:
    from tests.contrib.libraries import DiscoveryTransport, SyncDiscoveryTransport, httpx

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("library")]

A, B = "http://10.0.0.1:81", "http://10.0.0.2:82/base"


@pytest.fixture
def anyio_backend() -> str:
    """Run on asyncio, where most users of httpx are."""
    return "asyncio"


@asynccontextmanager
async def calling(network: Any, **options: Any) -> AsyncIterator[tuple[httpx.AsyncClient, Coordinator]]:
    """Give a client on a network, and a candidate."""
    async with connect(store=MemoryStore(), cache_dir=False) as tide:
        transport = DiscoveryTransport(tide, transport=network)
        async with httpx.AsyncClient(transport=transport, **options) as client:
            yield client, tide


async def test_a_request_goes_where_the_leader_says_that_it_is() -> None:
    """URL and Host are those of its address, with the path in front; it says whom it is for."""
    network = Network()
    async with calling(network) as (client, tide):
        async with tide.leader("reaper", address=B):
            response = await client.post("http://reaper.leader/a?b=c", content=b"body")
    assert (response.status_code, str(response.request.url)) == (200, "http://reaper.leader/a?b=c")
    (asked,) = network.asked
    assert (str(asked.url), asked.headers["host"], asked.read()) == (f"{B}/a?b=c", "10.0.0.2:82", b"body")
    assert asked.headers["tideover-leader"] == "reaper"


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("jobs%2Freaper", "jobs/reaper"),
        ("jobs.reaper", "jobs.reaper"),
        ("%52eaper_1", "Reaper_1"),
        ("b\N{LATIN SMALL LETTER U WITH DIAERESIS}cher", "b\N{LATIN SMALL LETTER U WITH DIAERESIS}cher"),
        ("b%C3%BCcher%2F1", "b\N{LATIN SMALL LETTER U WITH DIAERESIS}cher/1"),
    ],
)
async def test_any_name_can_be_spelled(host: str, name: str) -> None:
    """What no host can have is percent-encoded: slashes, capitals, and letters beside them."""
    network = Network()
    async with calling(network) as (client, tide):
        async with tide.leader(name, address=A):
            assert (await client.get(f"http://{host}.leader/")).status_code == 200


@pytest.mark.parametrize("host", ["a%2F%2Fb", "a%2Ftoken", "a%00b", "a%FFb"])
async def test_what_names_no_election_is_told(host: str) -> None:
    """It is one of the library's errors, at once."""
    async with calling(Network()) as (client, _):
        with pytest.raises(httpx.LocalProtocolError, match="names nothing that could be found"):
            await client.get(f"http://{host}.leader/")


async def test_nobody_leads() -> None:
    """`NoEndpoints` is the cause of the error, after the request's own time to connect, in threads as well."""
    async with calling(Network()) as (client, tide):
        began = anyio.current_time()
        with pytest.raises(httpx.ConnectError, match="nobody leads 'reaper'") as raised:
            await client.get("http://reaper.leader/", timeout=httpx.Timeout(30, connect=0.3))
        assert type(raised.value.__cause__) is NoEndpoints
        assert raised.value.request.url == "http://reaper.leader/"
        assert 0.3 <= anyio.current_time() - began < 2

        def work() -> None:
            with httpx.Client(transport=SyncDiscoveryTransport(tide), timeout=0.2) as threads:
                with pytest.raises(httpx.ConnectError, match="nobody leads 'other'"):
                    threads.get("http://other.leader/")

        await anyio.to_thread.run_sync(work)


async def test_nobody_knows_who_leads() -> None:
    """With etcd away from the start the cause is `EndpointsUnknown`, after the same time."""
    store = MemoryStore()
    store.down = set(store.members)
    async with connect(store=store, cache_dir=False) as tide:
        async with httpx.AsyncClient(transport=DiscoveryTransport(tide, transport=Network())) as client:
            with pytest.raises(httpx.ConnectError, match="who leads 'reaper' is not known") as raised:
                await client.get("http://reaper.leader/", timeout=0.3)
    assert isinstance(raised.value.__cause__, EndpointsUnknown)


async def test_a_request_waits_for_the_next_leader() -> None:
    """One that comes while nobody leads goes to who is elected meanwhile, without an error; in threads as well."""
    network = Network()
    async with calling(network) as (client, tide):
        tide.follow_leader("reaper")

        async def lead() -> None:
            await anyio.sleep(0.2)
            async with tide.leader("reaper", address=A):
                await anyio.sleep_forever()

        def work() -> int:
            transport = SyncDiscoveryTransport(tide, transport=httpx.MockTransport(network))
            with httpx.Client(transport=transport) as threads:
                return threads.post("http://reaper.leader/").status_code

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lead)
            assert (await client.post("http://reaper.leader/")).status_code == 200
            assert await anyio.to_thread.run_sync(work) == 200
            tasks.cancel_scope.cancel()
    assert network.hosts == ["10.0.0.1"] * 2


async def test_a_leader_without_an_address() -> None:
    """The error says who leads and what is missing, at once."""
    async with calling(Network()) as (client, tide):
        async with tide.leader("reaper"):
            began = anyio.current_time()
            with pytest.raises(httpx.ConnectError, match="which has no address: give leader"):
                await client.get("http://reaper.leader/")
            assert anyio.current_time() - began < 2


@pytest.mark.parametrize("address", ["10.0.0.7:80", "grpc//x", "http://xn--a/"])
async def test_an_address_that_leads_nowhere(address: str) -> None:
    """What another program has written there is one of the library's errors, and is named."""
    async with calling(Network()) as (client, tide):
        async with tide.leader("reaper", address=address):
            with pytest.raises((httpx.UnsupportedProtocol, httpx.ConnectError)):
                await client.get("http://reaper.leader/", timeout=0.5)


async def test_tls_is_not_left_out() -> None:
    """https:// is for a leader with TLS only; the error names both, without passwords and queries."""
    network = Network()
    async with calling(network) as (client, tide):
        async with tide.leader("reaper", address="http://me:canary@10.0.0.1:81/?canary"):
            with pytest.raises(httpx.LocalProtocolError, match="asks for TLS") as raised:
                await client.get("https://me:canary@reaper.leader/?canary")
            assert str(raised.value) == "https://reaper.leader/ asks for TLS, and '10.0.0.1:81' is without"
        async with tide.leader("mailer", address="https://10.0.0.3"):
            await client.get("https://mailer.leader/")
    assert [str(request.url) for request in network.asked] == ["https://10.0.0.3/"]


class Failover(Network):
    """A network in which the leader resigns in the moment that it is asked for the first time.

    Attributes:
        resigned: What the former leader answers: a status, or the name of what is raised.
    """

    def __init__(self, resigned: int | str) -> None:
        super().__init__()
        self.resigned = resigned
        self.resign = anyio.Event()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer a request."""
        self.asked.append(request)
        if request.url.host != "10.0.0.1":
            return httpx.Response(200, text="from the next")
        self.resign.set()
        if isinstance(self.resigned, int):
            return httpx.Response(self.resigned)
        raise getattr(httpx, self.resigned)("told so", request=request)


async def through_a_failover(
    network: Failover, call: Callable[[httpx.AsyncClient], Any], **options: Any
) -> httpx.Response:
    """Call the leader, who resigns when asked; another one is elected."""
    async with calling(network, **options) as (client, tide):
        async with anyio.create_task_group() as tasks:

            async def first(*, task_status: anyio.abc.TaskStatus[None]) -> None:
                async with tide.leader("reaper", address=A):
                    task_status.started()
                    await network.resign.wait()

            async def second() -> None:
                async with tide.leader("reaper", address=B):
                    await anyio.sleep_forever()

            await tasks.start(first)
            tasks.start_soon(second)
            response: httpx.Response | httpx.TransportError
            try:
                response = await call(client)
            except httpx.TransportError as exc:
                response = exc
            tasks.cancel_scope.cancel()
    if isinstance(response, httpx.TransportError):
        raise response
    return response


def requesting(method: str) -> Callable[[httpx.AsyncClient], Any]:
    """Return a call with a method and a body."""
    return lambda client: client.request(method, "http://reaper.leader/", content=b"x")


@pytest.mark.parametrize("method", ["GET", "POST", "PATCH"])
@pytest.mark.parametrize("resigned", [421, "ConnectError", "ConnectTimeout"])
async def test_what_was_not_done_goes_to_the_next_leader(method: str, resigned: int | str) -> None:
    """A former leader that refuses by 421, or cannot be connected to, costs no request, whatever its method."""
    network = Failover(resigned)
    response = await through_a_failover(network, requesting(method))
    assert (response.status_code, response.text) == (200, "from the next")
    assert network.asked[-1].url.host == "10.0.0.2"


@pytest.mark.parametrize("resigned", [503, "ReadError", "ReadTimeout"])
async def test_what_may_have_been_done_is_repeated_only_if_idempotent(resigned: int | str) -> None:
    """A PUT goes to the next leader; a POST was sent once, and its caller is told."""
    network = Failover(resigned)
    assert (await through_a_failover(network, lambda c: c.put("http://reaper.leader/"))).status_code == 200
    network = Failover(resigned)
    if resigned == 503:
        assert (await through_a_failover(network, lambda c: c.post("http://reaper.leader/"))).status_code == 503
    else:
        with pytest.raises(getattr(httpx, str(resigned))):
            await through_a_failover(network, lambda c: c.post("http://reaper.leader/"))
    assert len(network.asked) == 1


async def test_a_body_that_was_begun_is_not_sent_to_the_next_leader() -> None:
    """A stream that a former leader has refused half-way is gone: the caller is given the 421."""

    async def stream() -> AsyncIterator[bytes]:
        yield b"once"

    class Reading(Failover):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            await request.aread()
            return await super().handle_async_request(request)

    network = Reading(421)
    response = await through_a_failover(network, lambda c: c.post("http://reaper.leader/", content=stream()))
    assert (response.status_code, len(network.asked)) == (421, 1)


async def test_a_leader_that_is_dead_costs_no_more_than_the_requests_time() -> None:
    """While the record names it, it is asked again until the time to connect is over; then its error is told."""
    network = Network(**{"10_0_0_1": httpx.ConnectError})
    async with calling(network, timeout=httpx.Timeout(30, connect=0.6)) as (client, tide):
        async with tide.leader("reaper", address=A):
            began = anyio.current_time()
            with pytest.raises(httpx.ConnectError, match="told so"):
                await client.post("http://reaper.leader/")
            assert anyio.current_time() - began < 3
    assert 2 <= len(network.asked) < 40


async def test_a_redirect_keeps_the_leaders_name() -> None:
    """Where the leader leads to itself is the leader's name again."""

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/base/a":
            return httpx.Response(307, headers={"Location": "http://10.0.0.2:82/base/b"})
        return httpx.Response(200, text=str(request.url))

    async with calling(httpx.MockTransport(answer), follow_redirects=True) as (client, tide):
        async with tide.leader("reaper", address=B):
            response = await client.get("http://reaper.leader/a")
    assert (str(response.url), response.text) == ("http://reaper.leader/b", f"{B}/b")


@pytest.mark.parametrize("suffixes", [(".leader", ".leader"), (".x.leader", ".leader"), (".service", "leader")])
def test_suffixes_that_cannot_be_told_apart_are_refused(suffixes: tuple[str, str]) -> None:
    """No host is for both, and both begin with a dot."""
    with pytest.raises(ValueError):
        DiscoveryTransport(suffix=suffixes[0], leader_suffix=suffixes[1])
