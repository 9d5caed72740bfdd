"""A FastAPI service that prices parcels by settings from etcd, and that goes on without it.

    etcd &
    etcdctl put /parcels/config/price_per_kg 4.20
    uvicorn --app-dir examples fastapi_service:app
    curl -i 'http://127.0.0.1:8000/quote?kg=3'

Prices older than an hour are refused with 503 instead of being served: see `StalenessLimit` below.
`ETCD_ENDPOINTS` names other members, separated by commas.
"""

from __future__ import annotations

import os

from fastapi import FastAPI
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import JSONResponse

from tideover import ConfigKeyError, StalenessLimit, TooStale, with_config
from tideover.asgi import TideoverMiddleware

ENDPOINTS = os.environ.get("ETCD_ENDPOINTS", "127.0.0.1:2379").split(",")

app = FastAPI(title="parcels")
app.add_middleware(
    TideoverMiddleware,
    endpoints=ENDPOINTS,
    namespace="/parcels",
    limits={"price": StalenessLimit(max_stale=3600, on_stale="raise")},
    status_header=True,
)


class Quote(BaseModel):
    """A price.

    Attributes:
        kg: The weight.
        price: What it costs.
    """

    kg: float
    price: float


@app.get("/quote")
@with_config(per_kg="price_per_kg")
async def quote(kg: float, *, per_kg: float) -> Quote:
    """Answer with the price of a parcel. FastAPI sees only `kg`: what is injected is no query parameter."""
    return Quote(kg=kg, price=round(kg * per_kg, 2))


@app.exception_handler(ConfigKeyError)
@app.exception_handler(TooStale)
async def no_price(request: Request, exc: Exception) -> JSONResponse:
    """Say that there is no price, or none that can still be trusted."""
    return JSONResponse({"detail": str(exc)}, status_code=503)
