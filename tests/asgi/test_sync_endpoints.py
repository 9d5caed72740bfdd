"""Synchronous endpoints run in worker threads: what they do in an event loop of their own harms nobody."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route

import tideover
from tests.entries import ENTRIES, OTHERS, Things, things
from tideover import WrongLoop, connect
from tideover.asgi import TideoverMiddleware
from tideover.testing import EtcdServer

pytestmark = [pytest.mark.anyio, pytest.mark.etcd, pytest.mark.any_etcd]

_ROUNDS = 100


@asynccontextmanager
async def serving(app: TideoverMiddleware) -> AsyncIterator[httpx.AsyncClient]:
    """Serve an application with uvicorn, here, and return a client of it."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical"))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server.serve, [listening])
            while not server.started:
                await anyio.sleep(0.02)
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
                yield client
            server.should_exit = True


async def test_everything_from_a_foreign_loop(etcd_server: EtcdServer) -> None:
    """1,000 times every entry, by `asyncio.run` in synchronous endpoints: all refused, and no request fails."""
    opened: list[Things] = []

    def wrong(request: Request) -> JSONResponse:
        async def call_all() -> int:
            refused = 0
            for call in [*ENTRIES.values(), *OTHERS.values()]:
                with pytest.raises(WrongLoop):
                    await call(opened[0])
                refused += 1
            return refused

        return JSONResponse(sum(asyncio.run(call_all()) for _ in range(_ROUNDS)))

    async def right(request: Request) -> PlainTextResponse:
        tide = tideover.current()
        async with tide.lock("orders", timeout=10):
            await tide.config.put("orders", "served")
        opened[0].held.check()
        return PlainTextResponse(tide.config.get("orders"))

    async with connect(etcd_server.endpoint, cache_dir=False) as tide:
        routes = [Route("/wrong", wrong), Route("/right", right)]
        async with (
            things(tide) as each,
            serving(TideoverMiddleware(Starlette(routes=routes), coordinator=tide)) as client,
        ):
            opened.append(each)
            served: list[str] = []
            refused: list[int] = []

            async def ask_wrongly() -> None:
                refused.append((await client.get("/wrong")).json())

            async with anyio.create_task_group() as wrongly:
                for _ in range(1000 // _ROUNDS):
                    wrongly.start_soon(ask_wrongly)
                while len(refused) < 1000 // _ROUNDS:
                    served.append((await client.get("/right")).text)
            assert refused == [_ROUNDS * (len(ENTRIES) + len(OTHERS))] * (1000 // _ROUNDS)
            assert set(served) == {"served"}
            assert served
            assert tide.status().restarts == 0
            each.session.check()
            each.term.check()
            assert each.registered.registered
