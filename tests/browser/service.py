"""A service with something of everything, for a browser to look at: run by a real server, on a real cluster."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

import tideover
from tideover import Leading, Registration, StalenessLimit
from tideover.asgi import TideoverMiddleware

PATH = "/_tideover/status"


async def hold(name: str) -> None:
    """Hold a lock as long as the service runs, or wait for it."""
    while True:
        try:
            async with tideover.lock(name, on_outage="local"):
                await anyio.sleep_forever()
        except tideover.TideoverError:
            await anyio.sleep(0.5)


async def lead() -> None:
    """Lead."""
    await anyio.sleep_forever()


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    """Hold locks, wait for one, and read a value that is refused."""
    async with anyio.create_task_group() as tasks:
        for name in os.environ["SHOP_LOCKS"].split(","):
            tasks.start_soon(hold, name)
        yield
        tasks.cancel_scope.cancel()


async def limits(request: Request) -> PlainTextResponse:
    """Read a value as what it may not be."""
    reading = tideover.current().config.read("payments/limits", int, default=0)
    return PlainTextResponse(str(reading.source))


def make_app() -> TideoverMiddleware:
    """Return the service, as the environment describes it."""
    port = os.environ["SHOP_PORT"]
    return TideoverMiddleware(
        Starlette(routes=[Route("/limits", limits)], lifespan=lifespan),
        endpoints=os.environ["SHOP_ETCD"].split(","),
        namespace="/shop",
        profile="availability",
        follow=["payments/", "prices/", "shop/", "features/"],
        discover=["billing", "search"],
        limits={
            "payments/": StalenessLimit(300, "raise"),
            "prices/": StalenessLimit(3600, "default"),
        },
        cache_dir=os.environ["SHOP_CACHE"],
        register=Registration("api", f"http://127.0.0.1:{port}"),
        while_leading={
            "reaper": Leading(lead, on_outage="stay"),
            "price-sync": Leading(lead, on_outage="step_down"),
        },
        status=PATH,
    )
