"""An application whose writes are for leaders: its processes are candidates when they are told to.

Run with some ports it serves each of them in a process of its own, until its stdin ends: forked from this one,
which has imported all they need. It prints their ids.
"""

from __future__ import annotations

import os
import signal
import sys

import anyio
import uvicorn
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
        return JSONResponse({"process": tideover.current().status().process})

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


def serve(port: str) -> int:
    """Serve a port in another process; return its id."""
    if pid := os.fork():
        return pid
    uvicorn.run(app, port=int(port), access_log=False)
    os._exit(0)


if __name__ == "__main__":
    served = [serve(port) for port in sys.argv[1:]]
    print(*served, flush=True)
    sys.stdin.read()
    for pid in served:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
