"""Synchronous endpoints run in worker threads: what they do in an event loop of their own harms nobody."""

from __future__ import annotations

import asyncio

import anyio
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route

import tideover
from tests.asgi.support import uvicorn_serving
from tests.entries import ENTRIES, OTHERS, Things, things
from tideover import WrongLoop, connect
from tideover.asgi import TideoverMiddleware
from tideover.testing import EtcdServer

pytestmark = [pytest.mark.anyio, pytest.mark.etcd, pytest.mark.any_etcd]

_ROUNDS = 100


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
            uvicorn_serving(TideoverMiddleware(Starlette(routes=routes), coordinator=tide)) as client,
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
