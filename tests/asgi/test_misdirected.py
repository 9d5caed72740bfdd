"""Requests that are for the leader, and reach a process that does not lead."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio
import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.websockets import WebSocket

from tideover import Coordinator, Standing, connect
from tideover.asgi import TideoverMiddleware, leader_only
from tideover.contrib.httpx import DiscoveryTransport
from tideover.testing import MemoryStore

pytestmark = pytest.mark.anyio

Endpoint = Callable[[Request], Awaitable[JSONResponse]]
FOR = {"Tideover-Leader": "jobs%2Freaper"}


@pytest.fixture
def anyio_backend() -> str:
    """Run on asyncio."""
    return "asyncio"


def application(tide: Coordinator, endpoint: Endpoint) -> TideoverMiddleware:
    """Return an application of one endpoint."""
    return TideoverMiddleware(Starlette(routes=[Route("/", endpoint, methods=["GET", "POST"])]), coordinator=tide)


async def served(request: Request) -> JSONResponse:
    """Answer."""
    return JSONResponse("served")


async def test_a_request_for_the_leader_is_served_by_the_leader_alone() -> None:
    """Elsewhere the answer is 421, which asks for another connection; other requests are served anywhere."""
    async with connect(store=MemoryStore(), cache_dir=False) as tide:
        transport = httpx.ASGITransport(application(tide, served))
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            refused = await client.post("/", headers=FOR)
            assert (refused.status_code, refused.headers["connection"]) == (421, "close")
            assert refused.json()["title"] == "Not the leader"
            assert "'jobs/reaper', which is not led here" in refused.json()["detail"]
            assert (await client.post("/")).status_code == 200
            async with tide.leader("jobs/reaper"):
                assert (await client.post("/", headers=FOR)).json() == "served"
                assert (await client.post("/", headers={"Tideover-Leader": "other"})).status_code == 421
            assert (await client.post("/", headers=FOR)).status_code == 421


async def test_what_others_write_into_the_field_is_shown_escaped() -> None:
    """A field of anything is a name that is not led here."""
    async with connect(store=MemoryStore(), cache_dir=False) as tide:
        transport = httpx.ASGITransport(application(tide, served))
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            for value in (b"", b"\xff\xfe", b"%00%1b[31m", b"x" * 5000):
                refused = await client.get("/", headers=[(b"Tideover-Leader", value)])
                assert refused.status_code == 421
                assert len(refused.json()["detail"]) < 1000
                assert "\x1b" not in refused.json()["detail"]


async def test_a_leader_that_is_unconfirmed_is_the_leader() -> None:
    """What `on_outage="stay"` keeps in office is asked; `leader_only` then decides, and its 503 is no 421."""
    store = MemoryStore()

    @leader_only("jobs/reaper")
    async def guarded(request: Request) -> JSONResponse:
        return JSONResponse("served")

    async with connect(store=store, cache_dir=False) as tide:
        term = await tide.election("jobs/reaper").campaign(ttl=4.6, on_outage="stay")
        store.down = set(store.members)
        store.touch()
        with anyio.fail_after(15):
            while term.standing is not Standing.UNCONFIRMED:
                await anyio.sleep(0.05)
        for endpoint, status in ((served, 200), (guarded, 503)):
            transport = httpx.ASGITransport(application(tide, endpoint))
            async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
                assert (await client.post("/", headers=FOR)).status_code == status
        store.down = set()


async def test_a_leadership_that_ends_before_the_endpoint_is_421_as_well() -> None:
    """What `leader_only` refuses to a request for the leader, or would redirect, is told by 421."""
    async with connect(store=MemoryStore(), cache_dir=False) as tide:
        handle = tide.election("jobs/reaper")
        await handle.campaign()

        @leader_only("jobs/reaper", redirect=True)
        async def guarded(request: Request) -> JSONResponse:
            raise AssertionError("not served")

        async def losing(request: Request) -> JSONResponse:
            await handle.resign()
            return await guarded(request)

        transport = httpx.ASGITransport(application(tide, losing))
        async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
            assert (await client.post("/", headers=FOR)).status_code == 421
            assert (await client.post("/")).status_code == 503


def test_a_websocket_for_the_leader_is_refused() -> None:
    """Before it is accepted, where the server can do that."""

    async def endpoint(websocket: WebSocket) -> None:
        raise AssertionError("not served")

    middleware = Middleware(TideoverMiddleware, store=MemoryStore(), cache_dir=False)
    app = Starlette(routes=[WebSocketRoute("/", endpoint)], middleware=[middleware])
    with TestClient(app) as client, pytest.raises(WebSocketDenialResponse) as raised:
        with client.websocket_connect("/", headers=FOR):
            pass
    assert raised.value.status_code == 421


async def test_the_transport_and_the_middleware_agree() -> None:
    """A POST by `http://NAME.leader/` is served once, by the leader."""
    async with connect(store=MemoryStore(), cache_dir=False) as tide:
        network = httpx.ASGITransport(application(tide, served))
        async with httpx.AsyncClient(transport=DiscoveryTransport(tide, transport=network)) as client:
            async with tide.leader("jobs/reaper", address="http://10.0.0.7:80"):
                assert (await client.post("http://jobs%2Freaper.leader/")).json() == "served"
