"""Settings and handles as parameters of FastAPI's routes: typed by the annotation, and set by nobody."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import httpx
import pytest
from fastapi import APIRouter, BackgroundTasks, Depends, FastAPI, WebSocket
from pydantic import BaseModel, Field, SecretStr
from starlette.types import ASGIApp

from tests.asgi.support import call_websocket, lose, recover
from tests.support import connected, mock_trio
from tideover import (
    ClusterHealth,
    Config,
    ConfigKeyError,
    ConfigValueError,
    Coordinator,
    Election,
    NotConnected,
    ServiceView,
    Standing,
    StatusReport,
    Term,
)
from tideover.asgi import TideoverMiddleware
from tideover.contrib.fastapi import Current, Requires, Setting, Tide, get_tide
from tideover.testing import MemoryStore, overriding
from tideover.types import HealthState

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    """Run on trio with a clock that jumps."""
    return mock_trio()


class Limits(BaseModel):
    """A model, as people write them with FastAPI."""

    items: int = Field(gt=0)
    key: SecretStr = SecretStr("")


@dataclasses.dataclass(frozen=True)
class Host:
    """A dataclass."""

    name: str
    port: int = 80


fee_rate = Setting("fee_rate", default=0.02)


async def fee(rate: Annotated[float, fee_rate], currency: str = "EUR") -> str:
    """Be a dependency that has a setting and a parameter."""
    return f"{rate} {currency}"


def make() -> FastAPI:
    """Return an application whose routes have all kinds of parameters."""
    app = FastAPI()

    @app.get("/quote")
    async def quote(
        kg: float,
        rate: Annotated[float, Setting("fee_rate", default=0.02)],
        text: Annotated[str | None, Setting("fee_rate", default=None)],
        fee: Annotated[str, Depends(fee)],
    ) -> list[Any]:
        return [kg, rate, text, fee]

    @app.get("/limits")
    def limits(limits: Annotated[Limits, Setting("limits")]) -> list[object]:
        return [limits.items, threading.current_thread() is threading.main_thread()]

    @app.get("/hosts")
    async def hosts(hosts: Annotated[list[Host], Setting("hosts")], later: BackgroundTasks) -> int:
        later.add_task(told.extend, hosts)
        return len(hosts)

    @app.get("/bounded")
    async def bounded(n: Annotated[int, Setting("n", Annotated[int, Field(gt=0)], default=1)]) -> int:
        return n

    router = APIRouter(prefix="/router", dependencies=[Requires("config"), Depends(fee)])

    @router.get("/")
    async def routed(rate: Annotated[float, fee_rate]) -> float:
        return rate

    app.include_router(router)

    @app.websocket("/ws")
    async def ws(websocket: WebSocket, code: Annotated[int, Setting("code", default=1000)]) -> None:
        await websocket.accept()
        await websocket.close(code)

    app.mount("/sub", make_handles())
    return app


told: list[object] = []


def make_handles() -> FastAPI:
    """Return an application whose route has every kind of handle."""
    app = FastAPI()

    @app.get("/handles")
    async def handles(
        tide: Tide,
        same: Annotated[Coordinator, Current()],
        config: Annotated[Config, Current()],
        health: Annotated[ClusterHealth, Current()],
        report: Annotated[StatusReport, Current()],
        election: Annotated[Election, Current("reaper")],
        term: Annotated[Term | None, Current("reaper")],
        standing: Annotated[Standing | None, Current("reaper")],
        billing: Annotated[ServiceView, Current("billing")],
    ) -> list[object]:
        assert same is tide
        assert config is tide.config
        assert health is tide.health
        return [report.state, election.name, term and term.token, standing, billing.name]

    @app.get("/tide")
    def plain(tide: Tide) -> str:
        return tide.namespace + str(threading.current_thread() is threading.main_thread())

    return app


@asynccontextmanager
async def serving(
    app: FastAPI, store: MemoryStore, **options: Any
) -> AsyncIterator[tuple[httpx.AsyncClient, Coordinator]]:
    """Serve an application on a cluster."""
    async with connected(store) as tide:
        async with raising(TideoverMiddleware(app, coordinator=tide, **options)) as client:
            yield client, tide


def raising(app: ASGIApp) -> httpx.AsyncClient:
    """Return a client that raises what the application raises."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")


async def test_the_type_is_the_parameters() -> None:
    """A setting is decoded as its parameter is annotated: scalars, models, dataclasses; one key as two types."""
    values = {"fee_rate": 0.5, "limits": {"items": 3}, "hosts": [{"name": "a"}], "n": -1, "code": 1001}
    async with serving(make(), MemoryStore(values=values)) as (client, tide):
        assert (await client.get("/quote?kg=2&rate=7&currency=CHF")).json() == [2.0, 0.5, "0.5", "0.5 CHF"]
        assert (await client.get("/limits")).json() == [3, False]
        assert (await client.get("/hosts")).json() == 1
        assert told == [Host("a")]
        assert (await client.get("/bounded")).json() == 1
        assert (await client.get("/router/")).json() == 0.5
        await tide.config.put("fee_rate", 0.6)
        assert (await client.get("/router/")).json() == 0.6
        app = TideoverMiddleware(make(), coordinator=tide)
        assert [m.get("code") for m in await call_websocket(app, "/ws")] == [None, 1001]


async def test_nobody_can_set_what_is_injected() -> None:
    """No injected parameter is in the OpenAPI document: not by name, not as a body, not its schema."""
    app = make()
    document = app.openapi()
    for path, expected in {
        "/quote": {"kg", "currency"},
        "/limits": set(),
        "/hosts": set(),
        "/bounded": set(),
    }.items():
        described = document["paths"][path]["get"]
        assert {parameter["name"] for parameter in described.get("parameters", ())} == expected
        assert "requestBody" not in described
    assert not {"Limits", "Host"} & document["components"]["schemas"].keys()
    for described in make_handles().openapi()["paths"].values():
        assert "parameters" not in described["get"]


async def test_handles_are_the_coordinators() -> None:
    """`Tide` and `Current` give what the coordinator has, by type and name, also in a mounted application."""
    async with serving(make(), MemoryStore()) as (client, tide):
        answer = (await client.get("/sub/handles")).json()
        assert answer == ["available", "reaper", None, None, "billing"]
        async with tide.leader("reaper") as term:
            answer = (await client.get("/sub/handles")).json()
            assert answer == ["available", "reaper", term.token, "held", "billing"]
        assert (await client.get("/sub/tide")).json() == "False"


async def test_what_cannot_be_read() -> None:
    """A key that is missing or of another type is tideover's error, unless there is a default."""
    store = MemoryStore(values={"limits": {"items": "canary"}, "fee_rate": "dear"})
    async with serving(make(), store) as (client, _):
        with pytest.raises(ConfigValueError, match="limits") as raised:
            await client.get("/limits")
        assert "canary" not in str(raised.value)
        with pytest.raises(ConfigKeyError, match="hosts"):
            await client.get("/hosts")
        assert (await client.get("/quote?kg=2")).json() == [2.0, 0.02, "dear", "0.02 EUR"]
    async with raising(make()) as client:
        with pytest.raises(NotConnected):
            await client.get("/quote?kg=2")
        with pytest.raises(NotConnected):
            await client.get("/sub/tide")


async def test_a_request_that_read_a_degraded_setting_is_degraded() -> None:
    """With etcd away the answer is as before, and says where the setting came from."""
    store = MemoryStore(values={"fee_rate": 0.5})
    async with serving(make(), store, status_header=True) as (client, tide):
        assert "tideover-status" not in (await client.get("/quote?kg=2")).headers
        lose(store)
        await tide.health.wait_for(HealthState.UNAVAILABLE)
        answer = await client.get("/quote?kg=2")
        assert answer.json()[1] == 0.5
        assert answer.headers["tideover-status"].startswith("config=memory")
        with overriding(tide, {"fee_rate": 0.7}):
            answer = await client.get("/quote?kg=2")
            assert (answer.json()[1], "tideover-status" in answer.headers) == (0.7, False)
        recover(store)


async def test_tests_override_them() -> None:
    """A key of `dependency_overrides` stands for all of its name, and with a type for those of that type alone."""
    app = make()
    overrides = app.dependency_overrides
    async with raising(app) as client:
        overrides[Setting("fee_rate")] = lambda: 0.9
        assert (await client.get("/quote?kg=2")).json() == [2.0, 0.9, 0.9, "0.9 EUR"]
        overrides.clear()
        overrides[Setting("fee_rate", float)] = lambda: 0.8
        overrides[Setting("fee_rate", str | None)] = lambda: "cheap"
        assert (await client.get("/quote?kg=2")).json() == [2.0, 0.8, "cheap", "0.8 EUR"]
        overrides[Setting("limits")] = lambda: Limits(items=9)
        assert (await client.get("/limits")).json()[0] == 9
    handles = make_handles()
    async with connected(MemoryStore()) as tide, raising(handles) as client:
        report = tide.status()
        handles.dependency_overrides = {
            get_tide: lambda: tide,
            Current("", Coordinator): lambda: tide,
            Current("", Config): lambda: tide.config,
            Current("", ClusterHealth): lambda: tide.health,
            Current("", StatusReport): lambda: report,
            Current("billing"): lambda: tide.discover("mine"),
            Current("reaper", Election): lambda: tide.election("mine"),
            Current("reaper", Term | None): lambda: None,
            Current("reaper", Standing | None): lambda: Standing.HELD,
        }
        assert (await client.get("/tide")).json() == "False"
        assert (await client.get("/handles")).json() == ["available", "mine", None, "held", "mine"]


async def test_equal_ones_are_read_once_and_others_apart() -> None:
    """What FastAPI takes for the same has key, type and default in common."""
    seen: list[object] = []
    app = FastAPI()

    @app.get("/")
    async def route(
        a: Annotated[int, Setting("n", default=1)],
        b: Annotated[bool, Setting("n", default=True)],
        c: Annotated[int, Setting("n", default=2)],
        d: Annotated[list[int], Setting("list", default=[])],
        e: Annotated[list[int], Setting("list", default=[4])],
        f: Annotated[int, Setting("n", default=1)],
    ) -> None:
        seen.extend((a, b, c, d, e, f))

    async with serving(app, MemoryStore()) as (client, tide):
        before = tide._life.instruments.observe_reads().get(("live", False), 0)
        await client.get("/")
        assert seen == [1, True, 2, [], [4], 1]
        assert type(seen[1]) is bool
        assert tide._life.instruments.observe_reads()["live", False] - before == 5


@pytest.mark.parametrize(
    ("annotation", "error", "match"),
    [
        (lambda: Annotated[complex, Setting("a")], TypeError, "'a'"),
        (lambda: Annotated[int, Setting("")], TypeError, "Setting: the key must be a non-empty string"),
        (lambda: Annotated[int, Setting("/config/a")], ValueError, "Setting: the key begins behind"),
        (lambda: Annotated[int, Current("a")], TypeError, "may be one of Election"),
        (lambda: Annotated[Term, Current("a")], TypeError, "LeaderOnly"),
        (lambda: Annotated[Config, Current("a")], TypeError, "Config has no name"),
        (lambda: Annotated[ServiceView, Current()], TypeError, "ServiceView needs a name"),
    ],
)
def test_a_mistake_is_found_where_the_route_is_made(annotation: Any, error: type[Exception], match: str) -> None:
    """A type or name that cannot be is told before any request."""

    def route(it: Any) -> None: ...

    with pytest.raises(error, match=match):
        route.__annotations__["it"] = annotation()
        FastAPI().get("/")(route)


def test_they_are_shown_as_they_are_written() -> None:
    """In an error or a debugger nobody sees a value."""
    assert repr(Setting("fee_rate", default="canary")) == "Setting('fee_rate')"
    assert repr(Current()) == "Current('')"
