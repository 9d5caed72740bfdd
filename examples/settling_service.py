"""A service of which one process settles the books: start it several times, and let one of them fail.

    etcd &
    uvicorn --app-dir examples settling_service:app --port 8000 &
    FAILING=1 uvicorn --app-dir examples settling_service:app --port 8001 &
    curl localhost:8000/; curl localhost:8001/

One process settles once a second. End it with Ctrl-C, and another one goes on at once. The one with `FAILING`
resigns whenever it is elected: its log has the traceback, its page says `paused`, and the other one settles.
`ETCD_ENDPOINTS` names other members, separated by commas.
"""

from __future__ import annotations

import asyncio
import os

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

import tideover
from tideover import Leading
from tideover.asgi import TideoverMiddleware

ENDPOINTS = os.environ.get("ETCD_ENDPOINTS", "127.0.0.1:2379").split(",")

settled = 0


async def settle() -> None:
    """Settle the books, as long as this process leads."""
    global settled  # an example's database
    while True:
        if os.environ.get("FAILING"):
            raise ConnectionError("the database is away")
        settled += 1
        await asyncio.sleep(1)


async def books(request: Request) -> JSONResponse:
    """Show how often this process has settled, and how its job stands."""
    return JSONResponse({"settled": settled, "jobs": tideover.current().status().to_dict()["jobs"]})


app = Starlette(
    routes=[Route("/", books)],
    middleware=[
        Middleware(
            TideoverMiddleware,
            endpoints=ENDPOINTS,
            namespace="/books",
            while_leading={"settlement": Leading(settle, ttl=15)},
        )
    ],
)
