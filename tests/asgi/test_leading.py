"""What an application runs while it leads, from its start to its shutdown."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

import tideover
from tests.asgi.support import Server, lose, uvicorn_serving
from tideover import Leading, connect, while_leader
from tideover.asgi import TideoverMiddleware
from tideover.testing import MemoryStore

pytestmark = pytest.mark.anyio


def wrapped(app: Any, store: MemoryStore, **work: Any) -> TideoverMiddleware:
    """Put the middleware around an application, on a fake cluster."""
    return TideoverMiddleware(app, store=store, cache_dir=False, while_leading=work)


async def forever() -> None:
    """Work until cancelled."""
    await anyio.sleep_forever()


async def test_it_begins_after_the_startup_and_ends_before_the_shutdown() -> None:
    """The function runs once the application has started, and has ended when the application hears of its end."""
    store = MemoryStore()
    told: list[str] = []
    running = anyio.Event()

    async def settle() -> None:
        told.append("begins")
        running.set()
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.1)
            told.append("has cleaned up")

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await anyio.sleep(0.1)
        told.append("started")
        await send({"type": "lifespan.startup.complete"})
        await receive()
        told.append("shuts down")
        await send({"type": "lifespan.shutdown.complete"})

    async with Server(wrapped(app, store, settlement=settle)).running():
        await running.wait()
    assert told == ["started", "begins", "has cleaned up", "shuts down"]
    async with connect(store=store) as tide:
        assert await tide.election("settlement").current() is None


async def test_all_that_can_be_given() -> None:
    """Functions, decorated ones and `Leading`, with the middleware's coordinator as the current one."""
    store = MemoryStore()

    @while_leader("decorated", value="as decorated")
    async def decorated() -> None:
        assert tideover.current().status().jobs
        await anyio.sleep_forever()

    work = {"plain": forever, "decorated": decorated, "leading": Leading(forever, value="as given")}
    async with Server(wrapped(Starlette(), store, **work)).running(), connect(store=store) as tide:
        seen = {}
        for name in work:
            async for leader in tide.election(name).observe():
                if leader is not None:
                    seen[name] = leader.value
                    break
    assert seen == {"plain": "", "decorated": "as decorated", "leading": "as given"}


def test_it_is_built_where_no_event_loop_runs() -> None:
    """An application module is imported before its server has an event loop."""
    assert "TideoverMiddleware" in repr(wrapped(Starlette(), MemoryStore(), settlement=forever))


async def test_a_mistake_is_found_when_the_application_is_built() -> None:
    """What cannot be run, or not so, is refused by the constructor."""
    for work, error in (({"a": print}, TypeError), ({"a": Leading(forever, ttl=1)}, ValueError)):
        with pytest.raises(error):
            wrapped(Starlette(), MemoryStore(), **work)


async def test_with_a_coordinator_of_the_callers_own_and_without_etcd() -> None:
    """`coordinator=` with `while_leading=`; with etcd away the application starts and ends as ever."""
    store = lose(MemoryStore())
    async with connect(store=store, start_timeout=0.1) as tide:
        app = TideoverMiddleware(Starlette(), coordinator=tide, while_leading={"settlement": forever})
        async with Server(app).running() as server:
            assert server.answers == ["startup.complete"]
            await anyio.sleep(0.1)
            assert tide.status().jobs[0].state == "waiting"
        assert server.answers[-1] == "shutdown.complete"
        assert not tide.status().jobs


async def test_a_healthy_instance_takes_over() -> None:
    """Two real servers: the function of the first crashes in a circle, that of the second runs within a second."""
    store = MemoryStore()
    crashed, settled = anyio.Event(), anyio.Event()

    async def crash() -> None:
        crashed.set()
        raise ZeroDivisionError

    async def settle() -> None:
        settled.set()
        await asyncio.sleep(3600)

    async def jobs(request: Request) -> JSONResponse:
        return JSONResponse(tideover.current().status().to_dict()["jobs"])

    def app() -> Starlette:
        return Starlette(routes=[Route("/", jobs)])

    sick = wrapped(app(), store, settlement=crash)
    well = wrapped(app(), store, settlement=settle)
    async with uvicorn_serving(sick) as asking_the_sick:
        await crashed.wait()
        async with uvicorn_serving(well) as asking_the_well:
            with anyio.fail_after(1):
                await settled.wait()
            await anyio.sleep(2.5)
            (there,) = (await asking_the_sick.get("/")).json()
            (here,) = (await asking_the_well.get("/")).json()
            assert (there["state"], there["failures"]) == ("waiting", 1)
            assert there["error"].startswith("ZeroDivisionError at ")
            assert (here["state"], here["failures"]) == ("leading", 0)
