"""Decorators in the wrong order: above a route's decorator they would do nothing, and say so at once."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from fastapi import APIRouter, FastAPI
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from tideover import locked, with_config


@pytest.mark.parametrize("make", [FastAPI, APIRouter])
@pytest.mark.parametrize(
    "decorate", [with_config(rate="rate"), locked("orders/{rate}")], ids=["with_config", "locked"]
)
def test_above_a_route_of_fastapi(
    make: Callable[[], FastAPI | APIRouter], decorate: Callable[[Callable[..., object]], object]
) -> None:
    """The setting would be a public parameter, and the lock would not be taken: refused, naming the remedy."""

    async def quote(*, rate: float = 0.2) -> float:
        return rate

    make().get("/quote")(quote)
    with pytest.raises(TypeError, match=r"above the decorator of the route '/quote'.*put it below that decorator"):
        decorate(quote)


def test_above_a_route_of_starlette() -> None:
    """The same for a route that Starlette has."""

    async def hello(request: Request, *, greeting: str = "Hello") -> PlainTextResponse:
        return PlainTextResponse(greeting)

    app = Starlette(routes=[Route("/hello", hello)])
    with pytest.raises(TypeError, match="with_config has no effect above the decorator of the route '/hello'"):
        with_config(greeting="greeting")(hello)
    assert app.routes


def test_below_a_route_is_as_it_was() -> None:
    """In the right order, or with a function that many refer to, nothing is refused."""
    app = FastAPI()

    @app.get("/quote")
    @locked("quotes")
    @with_config(rate="rate")
    async def quote(*, rate: float = 0.2) -> float:
        return rate

    async def kept(*, rate: float = 0.2) -> float:
        return rate

    registry = {"endpoint": kept, "other": [kept, kept, kept]}
    with_config(rate="rate")(kept)
    assert registry
