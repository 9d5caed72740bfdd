"""Requirements of routes: a request that needs what cannot be had is refused, and told when to come again."""

from __future__ import annotations

import functools
import inspect
from typing import Any

import anyio
import pytest
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.types import Message, Receive, Scope, Send

from tests.asgi.requirements_support import service
from tests.asgi.support import client_of, lose, recover, store_with
from tests.counting import CountingStore
from tests.support import connected, mock_trio
from tideover.asgi import RequirementsMiddleware, TideoverMiddleware, leader_only, requires
from tideover.asgi.problems import DOCS
from tideover.asgi.refusals import SEE
from tideover.types import HealthState

pytestmark = pytest.mark.anyio

DENIED = "PERMISSION_DENIED", "etcdserver: permission denied"


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    """Run on trio with a clock that jumps."""
    return mock_trio()


@requires("lock")
async def pay(request: Request) -> Response:
    """Need a lock."""
    return PlainTextResponse(f"paid {request.query_params.get('amount')}")


@requires("config", max_age=60, prefix="prices/")
@requires("lock")
@requires("etcd")
async def buy(request: Request) -> Response:
    """Need several things."""
    return PlainTextResponse("bought")


@requires("config", max_age=60)
async def price(request: Request) -> Response:
    """Need fresh configuration."""
    return PlainTextResponse("9.99")


@requires("discovery:billing", at_least=2)
async def bill(request: Request) -> Response:
    """Need two endpoints."""
    return PlainTextResponse("billed")


class Orders(HTTPEndpoint):
    """An endpoint by methods: writing needs a quorum, reading nothing."""

    async def get(self, request: Request) -> Response:
        """Read."""
        return PlainTextResponse("read")

    @requires("quorum")
    async def post(self, request: Request) -> Response:
        """Write."""
        return PlainTextResponse("written")


ROUTES = [
    Route("/pay", pay),
    Route("/buy", buy, methods=["POST"]),
    Route("/price", price),
    Route("/bill", bill),
    Route("/orders", Orders),
]


async def test_a_lock_that_cannot_be_had_is_a_503() -> None:
    """In a declared outage the answer is a problem that says what is missing, why, and when to come again."""
    store = await store_with(a="1")
    async with service(store, ROUTES) as (client, tide):
        assert (await client.get("/pay?amount=3")).text == "paid 3"
        lose(store)
        await tide.health.wait_for(HealthState.UNAVAILABLE)
        answer = await client.get("/pay?amount=3")
        assert answer.status_code == 503
        assert answer.headers["content-type"] == "application/problem+json"
        found = answer.json()
        assert found.pop("retry_after") == int(answer.headers["retry-after"])
        assert found == {
            "type": DOCS + SEE,
            "title": "Requirement not met",
            "status": 503,
            "detail": "no lock can be had across machines: no etcd member answers",
            "instance": "/pay",
            "outage_id": tide.status().outage_id,
            "requirement": "lock",
        }
        text = await client.get("/pay", headers={"accept": "text/plain"})
        assert text.text == f"503 Requirement not met: {found['detail']}\n"
        recover(store)
        await tide.health.wait_for(HealthState.AVAILABLE)
        assert (await client.get("/pay")).status_code == 200


async def test_nothing_is_asked_of_etcd() -> None:
    """A refusal takes no time and sends nothing, however many there are."""
    store = await store_with(a="1")
    counted = CountingStore(store)
    async with service(counted, ROUTES) as (client, tide):
        lose(store)
        await tide.health.wait_for(HealthState.UNAVAILABLE)
        began, asked = anyio.current_time(), len(counted.requests)
        for _ in range(100):
            assert (await client.get("/pay")).status_code == 503
        assert anyio.current_time() == began
        assert len(counted.requests) == asked


async def test_come_again_when_it_is_said() -> None:
    """Once etcd is back, whoever comes again after `Retry-After` is served, at whatever moment it was told."""
    store = await store_with(a="1")
    async with service(store, ROUTES) as (client, tide):
        waits = set()
        for moment in range(30):
            lose(store)
            await tide.health.wait_for(HealthState.UNAVAILABLE)
            await anyio.sleep(moment / 7)
            wait = int((await client.post("/buy")).headers["retry-after"])
            assert 1 <= wait <= 30
            recover(store)
            await anyio.sleep(wait)
            assert (await client.post("/buy")).status_code == 200, moment
            waits.add(wait)
        assert len(waits) > 1, "all who are told would come together"


async def test_configuration_is_served_for_as_long_as_it_may() -> None:
    """With `max_age=60` a request is served for 60 s after the last proof, then refused, and served again."""
    store = await store_with(a="1")
    async with service(store, ROUTES) as (client, tide):
        await anyio.sleep(30)
        lose(store)
        left = 60 - tide.status().config[0].age
        await anyio.sleep(left - 0.1)
        assert (await client.get("/price")).status_code == 200
        await anyio.sleep(0.2)
        answer = await client.get("/price")
        assert answer.status_code == 503
        assert answer.json()["detail"] == "the configuration is 1 min 0 s old, and may be 1 min 0 s"
        assert answer.json()["requirement"] == "config"
        recover(store)
        await tide.health.wait_for(HealthState.AVAILABLE)
        await anyio.sleep(1)
        assert (await client.get("/price")).status_code == 200


async def test_all_that_is_missing_is_named_at_once() -> None:
    """Decorators on top of each other are one decision and one answer."""
    store = await store_with(prices__a="1")
    async with service(store, ROUTES) as (client, tide):
        assert (await client.post("/buy")).status_code == 200
        lose(store)
        await tide.health.wait_for(HealthState.UNAVAILABLE)
        found = (await client.post("/buy")).json()
        assert found["requirement"] == "lock, etcd"
        await anyio.sleep(60)
        found = (await client.post("/buy")).json()
        assert found["requirement"] == "config, lock, etcd"
        assert found["detail"].startswith("config 'prices/' is 1 min ")


async def test_a_start_in_an_outage() -> None:
    """What has never been read is not known, of any age; a leader is none."""
    async with service(lose(await store_with(a="1")), ROUTES) as (client, _):
        found = (await client.post("/buy")).json()
        assert found["detail"].startswith("config 'prices/' has never been read; no lock can be had")
        assert found["outage_id"]


async def test_what_is_denied_is_not_met() -> None:
    """A refusal of etcd's is told as one, and not as an outage."""

    @requires("config")
    async def read(request: Request) -> Response:
        return PlainTextResponse("read")

    counted = CountingStore(await store_with(a="1"))
    counted.refuse = lambda key, member: DENIED if key and key.startswith(b"/config/") else None
    async with service(counted, [Route("/", read)]) as (client, _):
        found = (await client.get("/")).json()
        assert (found["detail"], found["outage_id"]) == (
            "the configuration may not be read: etcd denies it",
            "",
        )


@pytest.mark.parametrize("alarm", ["NOSPACE", "CORRUPT"])
async def test_a_lock_needs_an_etcd_that_takes_writes(alarm: str) -> None:
    """With an alarm a quorum answers, and no lock can be had."""

    @requires("etcd")
    async def up(request: Request) -> Response:
        return PlainTextResponse("up")

    store = await store_with(a="1")
    async with service(store, [*ROUTES, Route("/up", up)]) as (client, tide):
        store.alarms.add(alarm)
        await anyio.sleep(40)
        assert tide.health.state is HealthState.AVAILABLE
        assert "refuses writes" in (await client.get("/pay")).json()["detail"]
        assert (await client.get("/up")).status_code == 200


async def test_so_many_endpoints() -> None:
    """A service counts by the endpoints that can be picked: not those that are drained or ejected."""
    async with service(await store_with(a="1"), ROUTES, discover=("billing",)) as (client, tide):
        answer = await client.get("/bill")
        assert answer.json()["requirement"] == "discovery:billing"
        assert "'billing' has 0 endpoints that can be picked, and 2 are required" in answer.text
        async with (
            tide.register("billing", "http://10.0.0.1:80") as here,
            tide.register("billing", "http://10.0.0.2:80"),
            tide.register("billing", "http://10.0.0.3:80", weight=0),
        ):
            await tide.discover("billing").wait_for(3)
            assert (await client.get("/bill")).status_code == 200
            await here.update(weight=0)
            await anyio.sleep(1)
            assert "has 1 endpoints" in (await client.get("/bill")).text


async def test_a_service_is_followed_from_the_first_request_on() -> None:
    """Who does not name a service at the start is refused once, and finds it followed then."""
    async with service(await store_with(a="1"), ROUTES) as (client, tide):
        assert "has never been read" in (await client.get("/bill")).text
        async with tide.register("billing", "http://a:1"), tide.register("billing", "http://b:1"):
            await tide.discover("billing").wait_for(2)
            assert (await client.get("/bill")).status_code == 200


async def test_methods_of_classes() -> None:
    """A method is guarded by itself."""
    store = await store_with(a="1")
    async with service(store, ROUTES) as (client, tide):
        lose(store)
        await tide.health.wait_for(HealthState.UNAVAILABLE)
        assert (await client.get("/orders")).text == "read"
        answer = await client.post("/orders", headers={"accept": "text/plain"})
        assert (answer.status_code, answer.headers["content-type"][:10]) == (503, "text/plain")
        recover(store)
        await tide.health.wait_for(HealthState.AVAILABLE)
        assert (await client.post("/orders")).text == "written"


async def test_endpoints_stay_what_they_are() -> None:
    """Name, kind, signature and documentation of a function are as they were; of partials, too."""
    assert (pay.__name__, pay.__doc__) == ("pay", "Need a lock.")
    assert inspect.iscoroutinefunction(buy)
    assert inspect.signature(price).parameters["request"].annotation is Request

    async def two(request: Request, what: str) -> Response:
        return PlainTextResponse(what)

    partial = requires("lock")(functools.partial(two, what="partly"))
    async with service(await store_with(a="1"), [Route("/", partial)]) as (client, _):
        assert (await client.get("/")).text == "partly"


async def test_another_decorator_between_is_respected() -> None:
    """What wraps a guarded endpoint is not left out when that is guarded again."""
    seen = []

    @functools.wraps(pay)
    async def between(request: Request) -> Response:
        seen.append(1)
        return await pay(request)

    store = await store_with(a="1")
    async with service(store, [Route("/", requires("etcd")(between))]) as (client, _):
        assert (await client.get("/")).status_code == 200
        assert seen == [1]


async def by_middleware(store: Any, path: str, *, mounted: str = "", requirements: Any = None) -> int:
    """Return how a request is answered by an application whose paths have requirements, in an outage."""

    async def ok(request: Request) -> Response:
        return PlainTextResponse("ok")

    guarded = RequirementsMiddleware(
        Starlette(routes=[Route("/{path:path}", ok)]),
        requirements or {"/pay": [requires("lock")], "/read/": [requires("config")]},
    )
    app = Starlette(routes=[Mount(mounted, guarded)]) if mounted else guarded
    async with connected(store) as tide:
        lose(store)
        await tide.health.wait_for(HealthState.UNAVAILABLE)
        async with client_of(TideoverMiddleware(app, coordinator=tide)) as client:
            return (await client.get(f"http://test{mounted}{path}")).status_code


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/", 200),
        ("/pay", 503),
        ("/pay/", 503),
        ("/pay/now", 503),
        ("//pay", 503),
        ("/%70ay", 503),
        ("/payments", 200),
        ("/read/x", 200),
    ],
)
@pytest.mark.parametrize("mounted", ["", "/shop"])
async def test_requirements_by_path(path: str, status: int, mounted: str) -> None:
    """A path requires what is said of it and of those above it, also of a mounted application."""
    assert await by_middleware(await store_with(a="1"), path, mounted=mounted) == status


async def as_sent(path: str, required: dict[str, Any], **more: Any) -> list[str]:
    """Return what an application that looks at no path is reached by, in an outage."""
    reached = []

    async def anything(scope: Scope, receive: Receive, send: Send) -> None:
        reached.append(scope["path"])

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        return None

    guarded = RequirementsMiddleware(anything, required)
    async with connected(lose(await store_with(a="1"))):
        scope = {"type": "http", "method": "GET", "path": path, "query_string": b"", "headers": [], **more}
        await guarded(scope, receive, send)
    return reached


@pytest.mark.parametrize(
    "path",
    [
        "http://shop/pay",
        "HTTP://shop:80/pay/now",
        "http:/pay",
        "http://shop",
        "pay",
        "/x/../pay",
        "/./pay",
        "/x//../pay",
        "/pay/../x",
        "/x/..",
        "*",
    ],
)
async def test_a_path_that_may_be_read_as_another_is_guarded(path: str) -> None:
    """What an application may take for a guarded path, although something else is written, requires all."""
    assert await as_sent(path, {"/pay": [requires("lock")]}) == []
    assert await as_sent(path, {"/": [requires("lock")]}) == []


@pytest.mark.parametrize("path", ["/payments", "/.well-known/pay", "/...", "/a..b", "/PAY", "/x/pay", "", "/"])
async def test_a_path_that_is_another_is_not(path: str) -> None:
    """A plain path requires what is said of it, as it is written."""
    assert await as_sent(path, {"/pay": [requires("lock")]}) == [path]


@pytest.mark.parametrize(
    ("path", "root", "reached"),
    [
        ("/shop/pay", "/shop", False),
        ("/pay", "/shop", False),
        ("/shop", "/shop", True),
        ("/shop//pay", "/shop/", False),
    ],
)
async def test_a_path_below_where_the_application_is(path: str, root: str, reached: bool) -> None:
    """The `root_path` that servers and mounts put in front of a path is no part of it."""
    assert bool(await as_sent(path, {"/pay": [requires("lock")]}, root_path=root)) is reached


async def test_requirements_of_all_paths() -> None:
    """`/` means all paths, and what several paths require counts together."""
    store = await store_with(a="1")
    required = {"/": [requires("etcd")], "/pay": []}
    assert await by_middleware(store, "/any", requirements=required) == 503


async def test_a_requirement_by_middleware_names_all() -> None:
    """Of several paths that a request is for, all that is missing is named."""
    store = await store_with(a="1")
    guarded = RequirementsMiddleware(
        Starlette(), {"/": [requires("etcd")], "/pay": [leader_only("reaper"), requires("lock")]}
    )
    async with connected(store) as tide:
        lose(store)
        await tide.health.wait_for(HealthState.UNAVAILABLE)
        async with client_of(TideoverMiddleware(guarded, coordinator=tide)) as client:
            assert (await client.get("/pay")).json()["requirement"] == "etcd, leader:reaper, lock"


async def test_without_the_middleware_the_open_coordinator_counts() -> None:
    """A coordinator that the application has opened itself is as good; the request is the endpoint's own."""
    store = await store_with(a="1")
    async with connected(store) as tide, client_of(Starlette(routes=ROUTES)) as client:
        assert (await client.get("/pay")).status_code == 200
        lose(store)
        await tide.health.wait_for(HealthState.UNAVAILABLE)
        assert (await client.get("/pay")).json()["instance"] == "/pay"


async def test_without_any_coordinator_it_is_a_mistake() -> None:
    """No coordinator is a fault of the application's, and no outage."""
    async with client_of(Starlette(routes=ROUTES)) as client:
        assert (await client.get("/pay")).status_code == 500


@pytest.mark.parametrize(
    ("name", "options", "why"),
    [
        ("locks", {}, "there is 'config', 'discovery:SERVICE', 'lock', 'etcd', 'quorum', and not 'locks'"),
        ("discovery", {}, "there is"),
        ("discovery:", {}, "there is"),
        ("lock:orders", {}, "there is"),
        ("lock", {"max_age": 3}, "max_age does not go with it"),
        ("etcd", {"prefix": ""}, "prefix does not go with it"),
        ("config", {"at_least": 1}, "at_least does not go with it"),
        ("discovery:a", {"prefix": "a"}, "prefix does not go with it"),
        ("config", {"max_age": 0}, "max_age must be more than 0 seconds, not 0"),
        ("config", {"max_age": float("nan")}, "max_age must be more than 0"),
        ("config", {"prefix": "/a"}, "does not begin with a slash"),
        ("discovery:a", {"at_least": 0}, "at_least must be 1 or more, not 0"),
    ],
)
def test_what_cannot_be_required(name: str, options: dict[str, Any], why: str) -> None:
    """A mistake is found where it is written."""
    with pytest.raises(ValueError, match=why):
        requires(name, **options)


def untyped(function: Any) -> Any:
    """Return a function as one without types would have it."""
    return function


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: untyped(requires)(pay),
        lambda: untyped(requires)("config", max_age="60"),
        lambda: untyped(requires)("config", max_age=True),
        lambda: untyped(requires)("config", prefix=1),
        lambda: untyped(requires)("discovery:a", at_least=1.5),
        lambda: untyped(leader_only)("reaper", standing="held"),
        lambda: untyped(leader_only)(pay),
        lambda: untyped(requires("lock"))(Orders),
        lambda: untyped(requires("lock"))(Starlette()),
        lambda: untyped(requires("lock"))(3),
        lambda: untyped(requires("lock"))(staticmethod(len)),
        lambda: untyped(requires("lock"))(classmethod(lambda cls: None)),
        lambda: untyped(RequirementsMiddleware)(Starlette(), {"/a": ["lock"]}),
        lambda: untyped(RequirementsMiddleware)(Starlette(), {1: []}),
    ],
)
def test_what_is_of_the_wrong_type(wrong: Any) -> None:
    """So is what is of another kind."""
    with pytest.raises(TypeError):
        wrong()


def test_a_generator_cannot_be_refused() -> None:
    """A generator has no answer to return, and the message says what to use."""

    async def stream() -> Any:
        yield 1

    with pytest.raises(TypeError, match=r"fastapi\.Requires"):
        requires("lock")(stream)


def test_above_the_route_it_would_have_no_effect() -> None:
    """A decorator above the route's is refused: the route calls the function as it is."""

    async def late(request: Request) -> Response:
        return PlainTextResponse("")

    routes = [Route("/", late)]
    with pytest.raises(TypeError, match="put it below"):
        requires("lock")(late)
    assert routes


@pytest.mark.parametrize("wrong", ["", "a/token", ["x"]])
def test_leader_only_checks_its_names(wrong: Any) -> None:
    """No election's name, no standing, none at all."""
    with pytest.raises((ValueError, TypeError)):
        leader_only(wrong) if isinstance(wrong, str) else leader_only("reaper", standing=wrong)
    with pytest.raises(ValueError, match="at least one"):
        leader_only("reaper", standing=[])
