"""A shop: settings, a lock, a job for one process, a call to another service, and flags.

uvicorn --app-dir examples shop:app; its tests, without etcd: pytest examples/test_shop.py
"""

import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Annotated, Any

import anyio
import httpx
from fastapi import Depends, FastAPI, Request
from openfeature import api as flags
from openfeature.exception import OpenFeatureError
from pydantic import BaseModel, Field

import tideover
from tideover import Registration, Term, TideoverError, locked
from tideover.asgi import TideoverMiddleware, problem_handler
from tideover.contrib.fastapi import Current, LeaderOnly, Requires, Setting, Tide
from tideover.contrib.httpx import DiscoveryTransport
from tideover.contrib.openfeature import TideoverProvider

log = logging.getLogger("shop")


class Limits(BaseModel):
    items: int = Field(default=100, gt=0)
    total: float = 5000.0


class Settlement(BaseModel):
    every: float = 60.0
    batch: int = Field(default=100, gt=0)


class Order(BaseModel):
    quantity: int = Field(gt=0)
    price: float = Field(ge=0)


class Receipt(BaseModel):
    order: int
    total: float
    express: bool = False


# What routes share is written once.
Vat = Annotated[float, Setting("vat", default=0.2)]
Limited = Annotated[Limits, Setting("limits", default=Limits())]


async def settle() -> None:
    """Settle orders, in one process at a time."""
    settings = tideover.current().config.bind(Settlement, prefix="settlement/")
    while True:
        log.info("settling %d orders", settings.value.batch)
        await anyio.sleep(settings.value.every)


@locked("orders/{number}", timeout=5)
async def charge(number: int, total: float, *, express: bool) -> Receipt:
    return Receipt(order=number, total=round(total, 2), express=express)


async def billing(request: Request) -> httpx.AsyncClient:
    client: httpx.AsyncClient = request.app.state.http
    return client


def make_app(**options: Any) -> FastAPI:
    """Return the application; tests hand other options to the middleware."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with suppress(OpenFeatureError):  # nothing is known of flags yet: defaults, until something is
            flags.set_provider_and_wait(TideoverProvider(tideover.current()))
        async with httpx.AsyncClient(transport=DiscoveryTransport()) as app.state.http:
            yield

    app = FastAPI(title="shop", lifespan=lifespan, exception_handlers={TideoverError: problem_handler})

    @app.post("/orders/{number}")
    async def pay(number: int, order: Order, vat: Vat, limits: Limited) -> Receipt:
        total = min(order.quantity, limits.items) * order.price * (1 + vat)
        express = await flags.get_client().get_boolean_value_async("express", False)
        return await charge(number, min(total, limits.total), express=express)

    @app.get("/invoices/{number}")
    async def invoice(number: int, http: Annotated[httpx.AsyncClient, Depends(billing)]) -> str:
        answer = await http.get(f"http://billing.service/invoices/{number}")
        return answer.text

    @app.get("/settlement")
    async def settlement(term: Annotated[Term | None, Current("settlement")]) -> dict[str, bool]:
        return {"here": term is not None}

    @app.put("/settlement/batch", dependencies=[Requires("etcd")])
    async def set_batch(batch: int, tide: Tide, term: Annotated[Term, LeaderOnly("settlement")]) -> int:
        written = await tide.config.put("settlement/batch", batch, guard=term.guard())
        return written.revision

    app.add_middleware(
        TideoverMiddleware,
        namespace="/shop",
        discover=["billing"],
        while_leading={"settlement": settle},
        status_header=True,
        **options,
    )
    return app


app = make_app(
    endpoints=os.environ.get("ETCD_ENDPOINTS", "127.0.0.1:2379").split(","),
    register=Registration("shop", os.environ.get("PUBLIC_URL", "http://10.0.0.7:8000")),
)
