"""A Starlette service whose texts and limits come from etcd, and that goes on without it.

    etcd &
    etcdctl put /shop/config/greeting "Good morning"
    uvicorn --app-dir examples config_service:app
    curl -i http://127.0.0.1:8000/

Then stop etcd, and ask again: the answer stays, and after some seconds its `Tideover-Status` field says how old
the greeting is. Restart the service with etcd still away: it starts from the snapshot. `ETCD_ENDPOINTS` names
other members, separated by commas.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

import tideover
from tideover import with_config
from tideover.asgi import TideoverMiddleware

ENDPOINTS = os.environ.get("ETCD_ENDPOINTS", "127.0.0.1:2379").split(",")


@dataclass(frozen=True)
class Limits:
    """What a customer may order; stored as JSON under one key.

    Attributes:
        items: Items per order.
        total: Highest price of an order.
    """

    items: int = 10
    total: float = 500.0


@with_config(greeting="greeting")
async def greet(request: Request, *, greeting: str = "Hello") -> Response:
    """Answer with the greeting: a plain keyword argument, read anew for each request, without I/O."""
    return PlainTextResponse(f"{greeting}\n")


@with_config(limits="limits")
async def show_limits(request: Request, *, limits: Limits = Limits()) -> Response:
    """Answer with the limits, and with where they come from."""
    reading = tideover.current().config.read("limits", Limits, default=limits)
    return JSONResponse({"limits": asdict(limits), "source": reading.source, "stale": reading.stale})


async def status(request: Request) -> Response:
    """Answer with what an operator asks first; it shows keys' prefixes, but never values."""
    return JSONResponse(tideover.current().status().to_dict())


app = Starlette(
    routes=[Route("/", greet), Route("/limits", show_limits), Route("/status", status)],
    middleware=[Middleware(TideoverMiddleware, endpoints=ENDPOINTS, namespace="/shop", status_header=True)],
)
