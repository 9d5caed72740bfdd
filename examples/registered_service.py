"""A service that registers itself: found as long as it lives, and gone the moment it is asked to end.

    etcd &
    PORT=8000 uvicorn --app-dir examples registered_service:app --port 8000
    etcdctl get --prefix /shop/services/

Delete the key, or stop etcd, remove its data and start it again: the key is there again within seconds, and nobody
restarted the service. End the service with Ctrl-C while `curl localhost:8000/slow` waits: the key is gone, and the
answer still comes. `ETCD_ENDPOINTS` names other members, separated by commas.
"""

from __future__ import annotations

import asyncio
import os

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route

import tideover
from tideover import Registration
from tideover.asgi import TideoverMiddleware

ENDPOINTS = os.environ.get("ETCD_ENDPOINTS", "127.0.0.1:2379").split(",")
# The server's port is for whoever starts it to say, and so is the address at which others reach it.
URL = f"http://{os.environ.get('HOST', '127.0.0.1')}:{os.environ.get('PORT', '8000')}"


async def registration(request: Request) -> JSONResponse:
    """Show how this service stands in the registry."""
    return JSONResponse(tideover.current().status().to_dict()["registrations"])


async def slow(request: Request) -> PlainTextResponse:
    """Take a while, so that there is something to drain."""
    await asyncio.sleep(5)
    return PlainTextResponse("done\n")


async def drain(request: Request) -> PlainTextResponse:
    """Ask for no more traffic, and stay registered."""
    (here,) = tideover.current().registrations
    told = await here.update(weight=0)
    return PlainTextResponse("drained\n" if told else "etcd is away, and will be told\n")


app = Starlette(
    routes=[
        Route("/", registration),
        Route("/slow", slow),
        Route("/drain", drain, methods=["POST"]),
    ],
    middleware=[
        Middleware(
            TideoverMiddleware,
            endpoints=ENDPOINTS,
            namespace="/shop",
            register=Registration("shop", URL, metadata={"zone": "a"}),
        )
    ],
)
