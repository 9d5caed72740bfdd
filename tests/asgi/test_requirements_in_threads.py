"""Synchronous endpoints are guarded in the thread in which they run."""

from __future__ import annotations

import inspect
import threading
import time

import anyio
import anyio.to_thread
import pytest
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from tests.asgi.support import client_of, lose, recover, serving, store_with
from tideover import connect, current
from tideover.asgi import TideoverMiddleware, leader_only, requires
from tideover.types import HealthState

pytestmark = pytest.mark.anyio


@requires("discovery:billing")
@requires("lock")
def pay(request: Request) -> Response:
    """Need a lock, in a thread."""
    return PlainTextResponse(threading.current_thread().name)


class Orders(HTTPEndpoint):
    """An endpoint by methods."""

    @requires("quorum")
    def put(self, request: Request) -> Response:
        """Write in a thread."""
        return PlainTextResponse("put")


async def test_a_thread_is_refused_as_the_loop_is() -> None:
    """A synchronous function and method are refused in an outage, and reached after it, in a worker thread."""
    assert not inspect.iscoroutinefunction(pay)
    store = lose(await store_with(a="1"))
    app = Starlette(routes=[Route("/pay", pay), Route("/orders", Orders)])
    async with serving(TideoverMiddleware(app, store=store)) as client:
        found = (await client.get("/pay")).json()
        assert (found["requirement"], found["instance"]) == ("discovery:billing, lock", "/pay")
        assert (await client.put("/orders")).status_code == 503
        recover(store)
        async with connect(store=store) as other, other.register("billing", "http://10.0.0.1:80"):
            with anyio.fail_after(10):
                while (answer := await client.get("/pay")).status_code != 200:
                    await anyio.sleep(0.05)
        assert answer.text != threading.current_thread().name
        assert (await client.put("/orders")).text == "put"


async def test_what_waited_for_a_thread_is_judged_when_it_gets_one() -> None:
    """A request that was queued for a thread while the leadership ended is refused."""

    @leader_only("reaper")
    def reap(request: Request) -> Response:
        return PlainTextResponse("reaped")

    store = await store_with(a="1")
    app = Starlette(routes=[Route("/", reap)])
    limiter = anyio.to_thread.current_default_thread_limiter()
    async with connect(store=store) as tide, client_of(TideoverMiddleware(app, coordinator=tide)) as client:
        statuses = []

        async def ask() -> None:
            statuses.append((await client.get("/")).status_code)

        async with anyio.create_task_group() as tasks:
            async with tide.leader("reaper"):
                await ask()
                for _ in range(int(limiter.total_tokens)):
                    tasks.start_soon(anyio.to_thread.run_sync, time.sleep, 0.2)
                await anyio.sleep(0.05)
                tasks.start_soon(ask)
                await anyio.sleep(0.05)
                assert current() is tide
        assert statuses == [200, 503]
        assert tide.health.state is HealthState.AVAILABLE
