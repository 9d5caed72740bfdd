"""One application object, run by several servers at once: each run has a coordinator of its own."""

from __future__ import annotations

import warnings

import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import tideover
from tests.asgi.support import Server, client_of, store_with, uvicorn_serving
from tideover import AmbiguousCoordinator, Coordinator
from tideover.asgi import TideoverMiddleware
from tideover.coordinator.coordinator import open_coordinators
from tideover.testing import EtcdServer, MemoryStore

with warnings.catch_warnings():
    # It wants httpx2.
    warnings.simplefilter("ignore")
    from starlette.testclient import TestClient

pytestmark = pytest.mark.anyio


async def show(request: Request) -> JSONResponse:
    """Answer with the coordinator, and use it in its own event loop."""
    tide = tideover.current()
    async with tide.lock("a", timeout=5):
        await tide.config.put("last", "used")
    return JSONResponse({"coordinator": id(tide), "rate": tide.config.get("rate", default="unknown")})


async def ask(client: httpx.AsyncClient) -> int:
    """Return which coordinator serves."""
    answer = await client.get("/")
    assert (answer.status_code, answer.json()["rate"]) == (200, "5"), answer.text
    return int(answer.json()["coordinator"])


@pytest.mark.etcd
@pytest.mark.any_etcd
@pytest.mark.parametrize("built", ["by the framework", "at import"])
async def test_two_servers_on_two_ports(etcd_server: EtcdServer, built: str) -> None:
    """Two real uvicorn servers run one object: each has its own coordinator, to its end, and may start again."""
    etcd_server.etcdctl("put", "/config/rate", "5")
    endpoints = [etcd_server.endpoint]
    routes = [Route("/", show)]
    app: ASGIApp
    if built == "at import":
        app = TideoverMiddleware(Starlette(routes=routes), endpoints=endpoints, cache_dir=False)
    else:
        middleware = Middleware(TideoverMiddleware, endpoints=endpoints, cache_dir=False)
        app = Starlette(routes=routes, middleware=[middleware])
    seen: set[int] = set()
    async with uvicorn_serving(app) as first:
        one = await ask(first)
        for _ in range(2):
            async with uvicorn_serving(app) as second:
                other = await ask(second)
                assert len(open_coordinators) == 2
                assert one != other
                for _ in range(3):
                    assert (await ask(first), await ask(second)) == (one, other)
                seen.add(other)
            assert await ask(first) == one
    assert not open_coordinators


def test_nested_test_clients() -> None:
    """Test clients within each other, ending in any order: nobody is served by another one's coordinator."""
    app = Starlette(
        routes=[Route("/", show)],
        middleware=[Middleware(TideoverMiddleware, store=MemoryStore(), cache_dir=False)],
    )

    def served(client: TestClient) -> int:
        answer = client.get("/")
        assert answer.status_code == 200, answer.text
        return int(answer.json()["coordinator"])

    with TestClient(app) as outer:
        one = served(outer)
        with TestClient(app) as inner, TestClient(app) as innermost:
            assert len({one, served(inner), served(innermost)}) == 3
            assert served(outer) == one
        assert served(outer) == one
    first, second = TestClient(app), TestClient(app)
    with first:
        one = served(first)
        second.__enter__()
        other = served(second)
    assert served(second) == other != one
    second.__exit__(None, None, None)
    assert not open_coordinators


async def test_a_server_without_state_runs_alone() -> None:
    """Where the lifespan has no state, a second run is refused with the reason, and the first one goes on."""
    app = TideoverMiddleware(
        Starlette(routes=[Route("/", show)]), store=await store_with(rate="5"), cache_dir=False
    )
    async with Server(app, state=False).running(), client_of(app) as client:
        one = await ask(client)
        for state in (False, True):
            async with Server(app, state=state).running() as second:
                assert second.answers == ["startup.failed"]
                assert "give each server an application object of its own" in second.sent[0]["message"]
            assert isinstance(second.error, AmbiguousCoordinator)
        assert await ask(client) == one
    # When it has ended, another one may begin.
    async with Server(app, state=False).running() as third, client_of(app) as client:
        assert third.answers == ["startup.complete"]
        assert await ask(client) != one


async def test_one_without_state_beside_one_with_it() -> None:
    """Nor may a run without state begin beside one that has it."""
    app = TideoverMiddleware(Starlette(), store=MemoryStore(), cache_dir=False)
    async with Server(app).running(), Server(app, state=False).running() as second:
        assert second.answers == ["startup.failed"]


async def test_requests_that_name_no_run() -> None:
    """A server that has a state and does not hand it on: fine with one run, and an error that says so with two."""
    app = TideoverMiddleware(
        Starlette(routes=[Route("/", show)]), store=await store_with(rate="5"), cache_dir=False
    )
    async with Server(app).running(), client_of(app) as client:
        await ask(client)
        async with Server(app).running() as second:
            assert second.answers == ["startup.complete"]
            with pytest.raises(AmbiguousCoordinator, match="does not hand the state of the lifespan on"):
                await app({"type": "http", "method": "GET", "path": "/"}, *_nobody())
        await ask(client)


async def test_a_stack_built_anew_finds_its_run() -> None:
    """Another middleware of the same options, as a stack has that was built again, serves the run that goes on."""
    store = await store_with(rate="5")
    routes = [Route("/", show)]
    app, rebuilt = (TideoverMiddleware(Starlette(routes=routes), store=store, cache_dir=False) for _ in range(2))
    server = Server(app)
    async with server.running():
        (tide,) = open_coordinators
        found: list[Coordinator] = []

        async def look(scope: Scope, receive: Receive, send: Send) -> None:
            found.append(tideover.current())

        rebuilt.app = look
        await rebuilt({"type": "http", "state": dict(server.state or {})}, *_nobody())
        assert found == [tide]


def _nobody() -> tuple[Receive, Send]:
    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        return

    return receive, send
