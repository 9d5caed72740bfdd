"""An application whose writes are for leaders: its processes are candidates when they are told to."""

from __future__ import annotations

import os

import anyio
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

import tideover
from tideover import Leading
from tideover.asgi import TideoverMiddleware, leader_only

# Seconds: hardly more than the least.
TTL = 4.6

stood = os.environ.get("STAND", "")


async def lead() -> None:
    """Do what a leader does."""
    await anyio.sleep_forever()


async def stand(request: Request) -> JSONResponse:
    """Become a candidate."""
    tideover.current().job(request.path_params["election"], Leading(lead, ttl=TTL)).start()
    return JSONResponse({})


def write_for(election: str) -> Route:
    """Return the route of what only a leader does."""

    @leader_only(election)
    async def write(request: Request) -> JSONResponse:
        return JSONResponse({"process": tideover.current().status().process.host_pid})

    return Route(f"/write/{election}", write, methods=["POST"])


app = Starlette(
    routes=[
        Route("/stand/{election}", stand, methods=["POST"]),
        *map(write_for, ("reaper", "mailer", "shared")),
    ],
    middleware=[
        Middleware(
            TideoverMiddleware,
            endpoints=[os.environ.get("ENDPOINT", "127.0.0.1:2379")],
            cache_dir=False,
            while_leading={stood: Leading(lead, ttl=TTL)} if stood else None,
            health="/_tideover",
        )
    ],
)
