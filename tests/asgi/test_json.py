"""`tide.status()` and readings, returned from routes of FastAPI and Starlette in the worst outage."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from tideover import Coordinator, Reading, StatusReport, connect
from tideover.status import PrefixStatus, ServiceStatus
from tideover.testing import MemoryStore

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def never_seen() -> AsyncIterator[Coordinator]:
    """Run a coordinator whose etcd was never there, and follow a service."""
    store = MemoryStore()
    store.down = set(store.members)
    async with connect(store=store, cache_dir=False, start_timeout=0.1) as tide:
        tide.discover("billing")
        yield tide


def reject(constant: str) -> None:
    """Refuse what is no JSON."""
    raise AssertionError(f"{constant} is not JSON")


async def answer(app: Any) -> Any:
    """Return the JSON that an application answers."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test") as client:
        found = await client.get("/")
        assert found.status_code == 200
        return json.loads(found.text, parse_constant=reject)


def read(tide: Coordinator) -> Reading[float]:
    """Read a key of which nothing is known."""
    return tide.config.read("rate", float, default=2.5)


RETURNED: dict[str, tuple[Any, Callable[[Coordinator], object]]] = {
    "status": (None, Coordinator.status),
    "typed status": (StatusReport, Coordinator.status),
    "reading": (None, read),
    "typed reading": (Reading[float], read),
    "both": (dict[str, Any], lambda tide: {"status": tide.status(), "readings": [read(tide)]}),
    "prefixes": (list[PrefixStatus], lambda tide: tide.status().config),
    "services": (tuple[ServiceStatus, ...], lambda tide: tide.status().services),
}


@pytest.mark.parametrize("name", RETURNED)
async def test_fastapi_answers_when_nothing_was_ever_known(name: str) -> None:
    """A record returned from a route is JSON, with null for an age that is not known, validated or not."""
    model, returned = RETURNED[name]
    app = FastAPI()
    async with never_seen() as tide:
        app.get("/", response_model=model)(lambda: returned(tide))
        found = await answer(app)
    assert '"age": null' in json.dumps(found)
    if "status" in name:
        assert (found["config"][0]["age"], found["services"][0]["age"]) == (None, None)
    if "reading" in name:
        assert (found["value"], found["age"], found["source"]) == (2.5, None, "default")


async def test_starlette_answers_when_nothing_was_ever_known() -> None:
    """What `to_dict` gives is what JSONResponse takes."""
    async with never_seen() as tide:
        for made in (Coordinator.status, read, lambda tide: tide.status().config[0]):

            def endpoint(_: object, made: Callable[[Coordinator], Any] = made) -> JSONResponse:
                return JSONResponse(made(tide).to_dict())

            assert '"age": null' in json.dumps(await answer(Starlette(routes=[Route("/", endpoint)])))


async def test_the_schema_of_a_typed_route_allows_null() -> None:
    """The OpenAPI schema of a record says that its age is a number or null."""
    app = FastAPI()
    app.get("/", response_model=PrefixStatus)(lambda: None)
    schemas = app.openapi()["components"]["schemas"]
    unknown, number = schemas["PrefixStatus"]["properties"]["age"]["anyOf"]
    assert number == {"type": "number"}
    assert schemas[unknown["$ref"].rpartition("/")[2]]["enum"] == [None]


async def test_ages_are_infinite_in_the_process() -> None:
    """Within the process the age is infinite, so that comparisons with a limit say what they say."""
    async with never_seen() as tide:
        reading = read(tide)
        assert reading.age == math.inf
        assert reading.age > 60
        assert dataclasses.asdict(reading)["age"] == math.inf
        assert tide.status().config[0].age == tide.status().services[0].age == math.inf
