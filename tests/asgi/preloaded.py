"""An application that reads a setting when it is imported, for `test_gunicorn`; ENDPOINT says where etcd is."""

from __future__ import annotations

import asyncio
import os

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

import tideover
from tideover.asgi import TideoverMiddleware

ENDPOINT = os.environ["ENDPOINT"]


async def read_rate() -> int:
    """Read the setting, and close all again."""
    async with tideover.connect(ENDPOINT, cache_dir=False) as tide, tide.lock("import", timeout=5):
        return tide.config.get("rate", int)


RATE = asyncio.run(read_rate())


async def show(request: Request) -> JSONResponse:
    """Answer with the worker, the setting as it was at the import, and the state of etcd."""
    tide = tideover.current()
    async with tide.lock("request", timeout=5, on_outage="local") as held:
        return JSONResponse({"pid": os.getpid(), "rate": RATE, "state": tide.health.state, "mode": held.mode})


app = TideoverMiddleware(Starlette(routes=[Route("/", show)]), endpoints=[ENDPOINT], cache_dir=False)
