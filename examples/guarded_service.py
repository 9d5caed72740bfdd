"""A shop that says what each route needs: prices a minute old at the most, payments only while a lock can be had.

    pip install tideover starlette uvicorn
    uvicorn guarded_service:app

    curl -i localhost:8000/price         # 200 for a minute after etcd has died, then 503
    curl -i -X POST localhost:8000/pay   # 503 with Retry-After as soon as the outage is declared

What `/pay` answers then is application/problem+json, or text for `curl -H 'Accept: text/plain'`. Both are back by
themselves when etcd is.
"""

from __future__ import annotations

import os

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

import tideover
from tideover import TideoverError
from tideover.asgi import TideoverMiddleware, problem_handler, requires


@requires("config", prefix="prices/", max_age=60)
async def price(request: Request) -> JSONResponse:
    """Answer with a price that is not too old."""
    return JSONResponse(tideover.current().config.get("prices/tea", float, default=4.5))


@requires("lock")
async def pay(request: Request) -> JSONResponse:
    """Take the money, one at a time in all of the fleet."""
    async with tideover.lock("till", timeout=5):
        return JSONResponse("paid")


app = Starlette(
    routes=[Route("/price", price), Route("/pay", pay, methods=["POST"])],
    middleware=[
        Middleware(
            TideoverMiddleware,
            endpoints=os.environ.get("ETCD_ENDPOINTS", "127.0.0.1:2379").split(","),
            namespace="/shop",
        )
    ],
    # What else goes wrong between the requirement and the answer.
    exception_handlers={TideoverError: problem_handler},
)
