"""`lifespan` runs a coordinator where a framework takes a lifespan, whatever its middleware gets to see."""

from __future__ import annotations

import signal
import warnings
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import httpx
import litestar
import pytest
from fastapi import FastAPI
from litestar.middleware import DefineMiddleware
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Mount, Route

import tideover
from tests.asgi.support import Server, client_of, lose, serving, store_with
from tideover import connect
from tideover.asgi import HealthApp, TideoverMiddleware, lifespan
from tideover.asgi.framework_lifespan import FrameworkLifespan
from tideover.coordinator.coordinator import open_coordinators
from tideover.registration.registration import Registration
from tideover.testing import MemoryStore

with warnings.catch_warnings():
    # It wants httpx2.
    warnings.simplefilter("ignore")
    from starlette.testclient import TestClient

pytestmark = pytest.mark.anyio


async def show_rate(request: Request) -> PlainTextResponse:
    """Answer with the configuration."""
    return PlainTextResponse(tideover.current().config.get("rate"))


@asynccontextmanager
async def server_of(app: Any) -> AsyncIterator[httpx.AsyncClient]:
    """Serve an application as servers do: what its lifespan leaves in the state comes with each request."""
    server = Server(app)

    async def with_state(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, "state": dict(server.state or {})}, receive, send)

    async with server.running(), client_of(with_state) as client:
        assert server.answers == ["startup.complete"], server.error
        yield client


@pytest.mark.parametrize("framework", [Starlette, FastAPI])
async def test_lifespan_of_a_framework(framework: type[Starlette]) -> None:
    """The coordinator lives within the framework's lifespan; requests find it with the middleware and without."""
    for middleware in (False, True):
        life = lifespan(store=await store_with(rate="5"))
        stack = [Middleware(TideoverMiddleware, lifespan=life)] if middleware else []
        app = framework(routes=[Route("/", show_rate)], lifespan=life, middleware=stack)
        for _ in range(2):
            async with server_of(app) as client:
                assert len(open_coordinators) == 1
                assert (await client.get("/")).text == "5"
            assert not open_coordinators


async def test_litestar() -> None:
    """In Litestar, whose middleware sees no lifespan, both work together, and degraded requests say so."""
    seen: list[str] = []

    @litestar.get("/", sync_to_thread=True)
    def rate() -> str:
        return tideover.current().config.get("rate")

    async def at_start() -> None:
        seen.append(tideover.current().config.get("rate"))

    store = await store_with(rate="5")
    life = lifespan(store=store)
    within: Any = TideoverMiddleware  # its types of ASGI are Starlette's
    health = litestar.asgi("/_tideover", is_mount=True, copy_scope=True)(HealthApp(lifespan=life))
    app = litestar.Litestar(
        [rate, health],
        lifespan=[life],
        on_startup=[at_start],
        middleware=[DefineMiddleware(within, lifespan=life, status_header=True)],
        openapi_config=None,
        logging_config=None,  # its own is the whole process's, and stays
    )
    async with server_of(app) as client:
        answer = await client.get("/")
        assert (answer.status_code, answer.text, answer.headers.get("Tideover-Status")) == (200, "5", None)
        (tide,) = open_coordinators
        async with tide.leader("jobs/reaper"):
            for path in ("livez", "readyz", "health", "leader/jobs/reaper"):
                assert (await client.get(f"/_tideover/{path}")).status_code == 200
        lose(store)
        await tide.health.wait_for(tideover.HealthState.UNAVAILABLE, timeout=10)
        answer = await client.get("/")
        assert (answer.text, answer.headers["Tideover-Status"].partition(";")[0]) == ("5", "config=memory")
    assert seen == ["5"]
    assert not open_coordinators


async def test_own_lifespan_runs_within() -> None:
    """The application's own lifespan has the coordinator from its beginning to its end, and its state is kept."""
    seen: list[str] = []

    @asynccontextmanager
    async def own(app: Starlette) -> AsyncIterator[Mapping[str, str]]:
        seen.append(f"start {tideover.current().config.get('rate')}")
        yield {"greeting": "hello"}
        seen.append(f"end {tideover.current().config.get('rate')}")

    async def greet(request: Request) -> PlainTextResponse:
        return PlainTextResponse(request.state.greeting + tideover.current().config.get("rate"))

    app = Starlette(routes=[Route("/", greet)], lifespan=lifespan(own, store=await store_with(rate="5")))
    async with server_of(app) as client:
        assert (await client.get("/")).text == "hello5"
    assert seen == ["start 5", "end 5"]


async def test_jobs_and_registrations_live_within_the_own_lifespan() -> None:
    """What registers and leads begins after the application's own start, and has ended before its own end."""
    order: list[str] = []
    leads = anyio.Event()
    store = MemoryStore()

    async def work() -> None:
        order.append("work")
        leads.set()
        try:
            await anyio.sleep_forever()
        finally:
            order.append("work ends")

    @asynccontextmanager
    async def own(app: Starlette) -> AsyncIterator[None]:
        order.append("start")
        yield
        assert not tideover.current().status().registrations
        order.append("end")

    life = lifespan(
        own, store=store, while_leading={"reaper": work}, register=Registration("shop", "http://10.0.0.1:80")
    )
    async with serving(Starlette(lifespan=life)):
        with anyio.fail_after(10):
            await leads.wait()
        assert [each.service for each in tideover.current().status().registrations] == ["shop"]
    assert order == ["start", "work", "work ends", "end"]


async def test_two_applications_with_a_coordinator_each() -> None:
    """Two mounted applications have a coordinator each, also with the same options, and their requests find it."""

    async def which(request: Request) -> JSONResponse:
        return JSONResponse([id(tideover.current()), tideover.current().config.get("rate")])

    store = await store_with(rate="5")
    first = lifespan(store=store)
    second = lifespan(first, store=store)

    def part(life: FrameworkLifespan) -> Starlette:
        return Starlette(routes=[Route("/", which)], middleware=[Middleware(TideoverMiddleware, lifespan=life)])

    app = Starlette(routes=[Mount("/a", part(first)), Mount("/b", part(second))], lifespan=second)
    async with server_of(app) as client:
        a, b, again = [(await client.get(path)).json() for path in ("/a/", "/b/", "/a/")]
        assert a == again
        assert a[0] != b[0]
        assert {a[0], b[0]} == set(map(id, open_coordinators))
        assert a[1] == b[1] == "5"


async def test_one_application_on_two_servers() -> None:
    """Test clients within each other run the lifespan of one object: each request finds its own run."""
    life = lifespan(store=await store_with(rate="5"))

    async def which(request: Request) -> JSONResponse:
        return JSONResponse(id(tideover.current()))

    app = Starlette(
        routes=[Route("/", which)], lifespan=life, middleware=[Middleware(TideoverMiddleware, lifespan=life)]
    )

    def nest() -> None:
        with TestClient(app) as outer:
            one = outer.get("/").json()
            with TestClient(app) as inner:
                assert inner.get("/").json() != one == outer.get("/").json()

    await anyio.to_thread.run_sync(nest)
    assert not open_coordinators


async def test_a_start_that_is_refused() -> None:
    """With `require="etcd"` the framework's startup fails with the reason, before its own lifespan begins."""
    begun: list[str] = []

    @asynccontextmanager
    async def own(app: Starlette) -> AsyncIterator[None]:
        begun.append("own")
        yield

    life = lifespan(own, store=lose(MemoryStore()), require="etcd")
    async with Server(Starlette(lifespan=life)).running() as server:
        assert server.answers == ["startup.failed"]
        assert "require='etcd'" in server.sent[0]["message"]
    assert not begun
    assert not open_coordinators


async def test_an_own_lifespan_that_fails() -> None:
    """What the application's own lifespan raises at its start comes out, and the coordinator is closed."""

    @asynccontextmanager
    async def own(app: Starlette) -> AsyncIterator[None]:
        raise RuntimeError("no database")
        yield

    async with Server(Starlette(lifespan=lifespan(own, store=MemoryStore()))).running() as server:
        assert server.answers == ["startup.failed"]
        assert "no database" in server.sent[0]["message"]
    assert not open_coordinators


async def test_coordinator_of_somebody_else() -> None:
    """`lifespan(coordinator=...)` neither enters nor leaves it, and refuses one that is not entered."""
    tide = connect(store=await store_with(rate="5"))
    app = Starlette(routes=[Route("/", show_rate)], lifespan=lifespan(coordinator=tide))
    async with Server(app).running() as server:
        assert server.answers == ["startup.failed"]
    async with tide:
        async with server_of(app) as client:
            assert (await client.get("/")).text == "5"
        assert tide.config.get("rate") == "5"


def test_misuse_is_named() -> None:
    """What cannot be a lifespan, and options in the wrong place, are refused when the application is built."""

    async def generator(app: Starlette) -> AsyncIterator[None]:
        yield

    with pytest.raises(TypeError, match="put @asynccontextmanager above"):
        lifespan(generator, store=MemoryStore())  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="own must be a function"):
        lifespan("127.0.0.1:2379")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"lifespan needs endpoints=\[...\]"):
        lifespan()
    life = lifespan(store=MemoryStore())
    with pytest.raises(TypeError, match=r"to lifespan\(\) itself"):
        TideoverMiddleware(Starlette(), lifespan=life, endpoints=["127.0.0.1:1"])
    with pytest.raises(TypeError, match=r"to lifespan\(\) itself"):
        TideoverMiddleware(Starlette(), lifespan=life, namespace="/shop")
    with pytest.raises(TypeError, match=r"what tideover\.asgi\.lifespan"):
        TideoverMiddleware(Starlette(), lifespan=generator)  # type: ignore[arg-type]
    assert repr(life).startswith("<FrameworkLifespan of <Plan of <Coordinator '' ")


@pytest.mark.parametrize("owner", ["lifespan", "middleware", "somebody else"])
async def test_the_first_sign_of_the_end(owner: str) -> None:
    """A signal that ends the process makes it unready at once, before the shutdown begins, whoever runs what."""
    former = signal.getsignal(signal.SIGTERM)
    signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        async with connect(store=MemoryStore()) as tide:
            app: Any = TideoverMiddleware(Starlette(), store=MemoryStore(), health="/h")
            if owner == "lifespan":
                life = lifespan(store=MemoryStore())
                app = Starlette(routes=[Mount("/h", HealthApp(lifespan=life))], lifespan=life)
            elif owner == "somebody else":
                app = TideoverMiddleware(Starlette(), coordinator=tide, health="/h")
            async with server_of(app) as client:
                assert (await client.get("/h/readyz")).status_code == 200
                signal.raise_signal(signal.SIGTERM)
                with anyio.fail_after(5):
                    while (await client.get("/h/readyz")).status_code == 200:
                        await anyio.lowlevel.checkpoint()
                assert (await client.get("/h/livez")).status_code == 200
    finally:
        signal.signal(signal.SIGTERM, former)
