"""An application that anybody may write to, and only its leader should be: it says of each write whether it leads.

Run with some ports it serves each of them in a process of its own until its stdin ends, all forked from this one,
which has imported all they need. It prints their ids. No route of it requires anything.
"""

from __future__ import annotations

import importlib
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
from tests.asgi.elected import LATE, TTL
from tideover import Leading
from tideover.asgi import TideoverMiddleware

ELECTION = "jobs/reaper"


async def lead() -> None:
    """Do what a leader does."""
    await anyio.sleep_forever()


async def write(request: Request) -> JSONResponse:
    """Say who has served this write, and whether it leads."""
    return JSONResponse({"pid": os.getpid(), "leads": tideover.current().standing(ELECTION) is not None})


def serve(port: str) -> None:
    """Serve a port, as a candidate that says where it is."""
    middleware = Middleware(
        TideoverMiddleware,
        endpoints=[os.environ["ENDPOINT"]],
        cache_dir=False,
        while_leading={ELECTION: Leading(lead, ttl=TTL, address=f"http://127.0.0.1:{port}/v1")},
    )
    app = Starlette(routes=[Route("/v1/write", write, methods=["POST"])], middleware=[middleware])
    # After a standstill idle connections are not closed before what waits in them is read.
    uvicorn.run(app, port=int(port), access_log=False, log_level="warning", timeout_keep_alive=60)


def fork(port: str) -> int:
    """Serve a port in another process; return its id."""
    if pid := os.fork():
        return pid
    serve(port)
    os._exit(0)


if __name__ == "__main__":
    for name in LATE:
        importlib.import_module(name)
    served = [fork(port) for port in sys.argv[1:]]
    print(*served, flush=True)
    sys.stdin.read()
    for pid in served:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
