"""Requirements in FastAPI: as decorators, as dependencies, and in OpenAPI."""

from __future__ import annotations

import inspect
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import anyio
import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI, Query, Request, WebSocket
from fastapi.responses import JSONResponse

from tests.asgi.support import call_websocket, client_of, lose, recover, store_with
from tests.support import connected, mock_trio
from tideover import Coordinator, Term
from tideover.asgi import TideoverMiddleware, leader_only, requires
from tideover.contrib.fastapi import LeaderOnly, RequirementNotMet, Requires, requirement_responses
from tideover.testing import MemoryStore
from tideover.types import HealthState

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    """Run on trio with a clock that jumps."""
    return mock_trio()


def price() -> Any:
    """Return an endpoint, a new one for each route."""

    async def price(
        item: Annotated[int, Query(ge=1, description="Which")], currency: str = "EUR"
    ) -> dict[str, str]:
        """Return a price."""
        return {"item": str(item), "currency": currency}

    return price


async def user(name: str = "nobody") -> str:
    """Be an ordinary dependency."""
    return name


async def nested(who: Annotated[str, Depends(user)], _: Annotated[None, Requires("quorum")]) -> str:
    """Be a dependency that has requirements and dependencies."""
    return who


def make() -> FastAPI:
    """Return an application that has the same route with and without requirements."""
    app = FastAPI()
    app.get("/plain")(price())
    app.get("/decorated", responses=requirement_responses(requires("lock")))(requires("lock")(price()))
    need = [Requires("config", max_age=60), Requires("lock")]
    app.get("/depends", dependencies=need, responses=requirement_responses(*need))(price())

    @app.get("/term", responses=requirement_responses(LeaderOnly("reaper", redirect=True)))
    async def term(
        who: Annotated[str, Depends(user)], term: Annotated[Term, LeaderOnly("reaper", redirect=True)]
    ) -> dict[str, Any]:
        term.check()
        return {"who": who, "token": term.token}

    @app.get("/nested", dependencies=[Requires("lock")])
    async def deep(who: Annotated[str, Depends(nested)]) -> str:
        return who

    router = APIRouter(prefix="/router", dependencies=[Requires("etcd")])

    @router.get("/a", dependencies=[Requires("lock")])
    async def routed() -> str:
        return "routed"

    @router.websocket("/ws")
    async def ws(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.close()

    @app.websocket("/ws")
    @leader_only("reaper")
    @requires("lock")
    async def decorated_ws(websocket: WebSocket, code: int = 1000) -> None:
        await websocket.accept()
        await websocket.close(code)

    app.include_router(router)
    return app


@asynccontextmanager
async def serving(app: FastAPI, store: MemoryStore) -> AsyncIterator[tuple[httpx.AsyncClient, Coordinator]]:
    """Serve an application on a cluster."""
    async with connected(store) as tide, client_of(TideoverMiddleware(app, coordinator=tide)) as client:
        yield client, tide


async def test_a_route_stays_what_it_is() -> None:
    """Parameters, their checks, defaults and the response are as without requirements."""
    assert inspect.signature(requires("lock")(price())).parameters.keys() == {"item", "currency"}
    async with serving(make(), await store_with(a="1")) as (client, _):
        for path in ("/plain", "/decorated", "/depends"):
            assert (await client.get(f"{path}?item=3")).json() == {"item": "3", "currency": "EUR"}
            assert (await client.get(f"{path}?item=0")).status_code == 422
            assert (await client.get(path)).status_code == 422


async def test_openapi_is_the_same_but_for_the_503() -> None:
    """The description of a route is as without requirements, and has the 503 beside it."""
    paths = make().openapi()["paths"]
    plain, decorated, depends = (paths[path]["get"] for path in ("/plain", "/decorated", "/depends"))
    for described, path, names in ((decorated, "decorated", "lock"), (depends, "depends", "config, lock")):
        refused = described["responses"].pop("503")
        assert refused["description"].endswith(f" cannot be had now. Required: {names}.")
        assert refused["content"]["application/problem+json"]["schema"]["properties"]["retry_after"]
        assert refused["headers"]["Retry-After"]["schema"]["type"] == "integer"
        # FastAPI makes names of the path.
        named = json.dumps(described).replace(path, "plain").replace(path.capitalize(), "Plain")
        assert json.loads(named) == plain
    assert paths["/term"]["get"]["responses"].keys() == {"200", "307", "503", "422"}
    assert [p["name"] for p in paths["/term"]["get"]["parameters"]] == ["name"]
    json.dumps(make().openapi())


async def test_the_answer_is_what_openapi_says() -> None:
    """A refusal has the fields that the schema requires, of the types that it says."""
    store = await store_with(a="1")
    schema = make().openapi()["paths"]["/depends"]["get"]["responses"]["503"]["content"]
    schema = schema["application/problem+json"]["schema"]
    async with serving(make(), store) as (client, tide):
        lose(store)
        await tide.health.wait_for(HealthState.UNAVAILABLE)
        for path in ("/depends?item=3", "/decorated?item=3"):
            answer = await client.get(path)
            found = answer.json()
            assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
            assert found.keys() == schema["properties"].keys()
            kinds = {"string": str, "integer": int}
            assert all(isinstance(found[name], kinds[each["type"]]) for name, each in schema["properties"].items())
        recover(store)
        await tide.health.wait_for(HealthState.AVAILABLE)
        assert (await client.get("/depends?item=3")).status_code == 200


@pytest.mark.parametrize(
    ("path", "named"),
    [("/depends?item=3", {"config", "lock"}), ("/nested", {"lock", "quorum"}), ("/router/a", {"etcd", "lock"})],
)
async def test_all_dependencies_that_are_not_met_are_named(path: str, named: set[str]) -> None:
    """One answer names what the route, its router and the dependencies of dependencies require."""
    store = lose(await store_with(a="1"))
    async with serving(make(), store) as (client, _):
        assert set((await client.get(path)).json()["requirement"].split(", ")) == named


async def test_the_leader_is_handed_its_term() -> None:
    """The endpoint gets the live term; nobody else gets there, and is sent on if the leader says where it is."""
    store = await store_with(a="1")
    async with serving(make(), store) as (client, tide), connected(store) as other:
        assert (await client.get("/term?name=me")).status_code == 503
        async with tide.leader("reaper") as term:
            assert (await client.get("/term?name=me")).json() == {"who": "me", "token": term.token}
        async with other.leader("reaper", address="http://10.0.0.7:80"):
            job = tide.job("reaper", anyio.sleep_forever)
            job.start()
            await anyio.sleep(2)
            answer = await client.get("/term?name=me")
            assert (answer.status_code, answer.headers["location"]) == (307, "http://10.0.0.7:80/term?name=me")
            await job.stop()


async def test_websockets_are_refused() -> None:
    """A dependency of a router, and decorators, refuse before the endpoint is reached."""
    store = await store_with(a="1")
    app = make()
    async with connected(store) as tide:
        served = TideoverMiddleware(app, coordinator=tide)
        async with tide.leader("reaper"):
            assert [m.get("code") for m in await call_websocket(served, "/ws")] == [None, 1000]
        assert (await call_websocket(served, "/ws"))[-1]["code"] == 1013
        assert [m.get("code") for m in await call_websocket(served, "/router/ws")] == [None, 1000]
        lose(store)
        await tide.health.wait_for(HealthState.UNAVAILABLE)
        assert [m.get("code") for m in await call_websocket(served, "/router/ws")] == [None, 1013]


async def test_a_handler_of_the_applications_own_goes_first() -> None:
    """Whoever registers a handler for refusals makes the answer."""
    app = make()

    @app.exception_handler(RequirementNotMet)
    async def mine(request: Request, error: RequirementNotMet) -> JSONResponse:
        return JSONResponse({"mine": error.refusal.problem.requirement}, 418)

    async with serving(app, lose(await store_with(a="1"))) as (client, _):
        answer = await client.get("/nested")
        assert (answer.status_code, answer.json()) == (418, {"mine": "lock, quorum"})


async def test_overridden_dependencies_are_not_asked() -> None:
    """FastAPI's `dependency_overrides` work on them, as in tests without etcd."""
    app, need = FastAPI(), Requires("lock")
    app.get("/", dependencies=[need])(user)
    app.dependency_overrides[need.dependency] = lambda: None
    async with client_of(app) as client:
        assert (await client.get("/")).json() == "nobody"


def test_responses_are_of_requirements() -> None:
    """In general it describes the 503 alone, and refuses what is no requirement."""
    assert requirement_responses().keys() == {503}
    for wrong in ("lock", Depends(user), None):
        with pytest.raises(TypeError, match="requirement_responses"):
            requirement_responses(wrong)
