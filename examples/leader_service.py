"""A service whose writes only the leader takes: a load balancer finds it, and the endpoint makes sure.

    etcd &
    for port in 8001 8002 8003; do uvicorn --app-dir examples leader_service:app --port $port & done
    curl -i localhost:8001/_tideover/leader/reaper
    curl -i -X POST localhost:8001/write

One of the three answers 200, the others 503 with who leads. Kill the leader, or stop it with `kill -STOP`: another
leads within seconds, and the stopped one answers 503 when it goes on. Stop etcd: `/_tideover/readyz` stays 200 and
says `degraded`. docs/how-to/route-to-the-leader.md has the configuration of HAProxy for this. `ETCD_ENDPOINTS`
names other members, separated by commas.
"""

from __future__ import annotations

import os

import anyio
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

import tideover
from tideover.asgi import TideoverMiddleware, leader_only

ENDPOINTS = os.environ.get("ETCD_ENDPOINTS", "127.0.0.1:2379").split(",")


async def reap() -> None:
    """Work that one process of all does."""
    await anyio.sleep_forever()


@leader_only("reaper")
async def write(request: Request) -> JSONResponse:
    """Take a write, on the leader."""
    return JSONResponse({"written_by": tideover.current().status().process})


app = Starlette(
    routes=[Route("/write", write, methods=["POST"])],
    middleware=[
        Middleware(
            TideoverMiddleware,
            endpoints=ENDPOINTS,
            namespace="/shop",
            while_leading={"reaper": tideover.Leading(reap, ttl=5)},
            health="/_tideover",
        )
    ],
)
