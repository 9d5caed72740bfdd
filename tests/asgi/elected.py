"""An application whose writes are for leaders: its processes are candidates when they are told to.

Run with some ports it serves each of them in a process of its own, and the last one by `uvicorn --workers`, until
its stdin ends: all forked from this one, which has imported all they need. It prints the ids of the former.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable

import anyio
import uvicorn
import uvicorn._subprocess as uvicorn_subprocess
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
WORKERS = 4
# What the first coordinator of a process imports, and the first server.
LATE = (
    "tideover.etcd.adapter",
    "uvicorn.lifespan.on",
    "uvicorn.loops.auto",
    "uvicorn.protocols.http.auto",
    "uvicorn.protocols.websockets.auto",
)

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


def serve(port: str) -> None:
    """Serve a port."""
    uvicorn.run(app, port=int(port), access_log=False)


def serve_by_workers(port: str) -> None:
    """Serve a port by several workers, which stand for an election at once."""
    os.environ["STAND"] = "shared"
    uvicorn_subprocess.spawn = multiprocessing.get_context("fork")  # type: ignore[assignment]
    uvicorn.run("tests.asgi.elected:app", port=int(port), workers=WORKERS, access_log=False)


def fork(target: Callable[[str], None], port: str) -> int:
    """Run a function in another process, in a group of its own; return its id."""
    if pid := os.fork():
        return pid
    os.setpgid(0, 0)
    target(port)
    os._exit(0)


if __name__ == "__main__":
    for name in LATE:
        importlib.import_module(name)
    *alone, shared = sys.argv[1:]
    served = [fork(serve, port) for port in alone]
    print(*served, flush=True)
    served.append(fork(serve_by_workers, shared))
    sys.stdin.read()
    for pid in served:
        os.killpg(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
