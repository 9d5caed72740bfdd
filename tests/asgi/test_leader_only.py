"""Only the leader serves: decided by the clock, at the instant of the request; others send clients on to it."""

from __future__ import annotations

import random
from typing import Any

import anyio
import httpx
import pytest
import trio
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from tests.asgi.requirements_support import service
from tests.asgi.support import lose, store_with
from tests.support import connected, mock_trio
from tideover import Coordinator
from tideover.asgi import leader_only, requires
from tideover.asgi.redirects import location
from tideover.asgi.refusals import find_refusal
from tideover.clock import Clock
from tideover.options import Options
from tideover.types import Standing

pytestmark = pytest.mark.anyio

LEADER = "http://10.0.0.7:8000"


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    """Run on trio with a clock that jumps."""
    return mock_trio()


@leader_only("reaper")
async def reap(request: Request) -> Response:
    """Be the leader's alone."""
    return PlainTextResponse("reaped")


@leader_only("reaper", standing=[Standing.UNCONFIRMED, "held"])
async def peek(request: Request) -> Response:
    """Be the leader's, on weaker ground."""
    return PlainTextResponse("peeked")


@leader_only("reaper", redirect=True)
@requires("lock")
async def sweep(request: Request) -> Response:
    """Be the leader's, wherever it is."""
    return PlainTextResponse("swept")


ROUTES = [
    Route("/reap", reap, methods=["GET", "POST"]),
    Route("/peek", peek),
    Route("/sweep", sweep, methods=["GET", "POST"]),
]


async def test_only_the_leader_serves() -> None:
    """It is 200 in the body and 503 before and after it; also for a candidate that waits."""
    store = await store_with(a="1")
    async with service(store, ROUTES) as (client, tide), connected(store) as other:
        answer = await client.get("/reap")
        assert (answer.status_code, answer.json()["detail"]) == (503, "'reaper' is not led here")
        assert answer.json()["requirement"] == "leader:reaper"
        async with tide.leader("reaper"):
            assert (await client.get("/reap")).text == "reaped"
        assert (await client.get("/reap")).status_code == 503
        async with other.leader("reaper"), anyio.create_task_group() as tasks:
            tasks.start_soon(tide.election("reaper").campaign)
            await anyio.sleep(5)
            assert (await client.get("/reap")).status_code == 503
            tasks.cancel_scope.cancel()


async def test_a_job_and_a_handle_lead_as_a_body_does() -> None:
    """However it came to lead, the process leads."""
    async with service(await store_with(a="1"), ROUTES) as (client, tide):
        job = tide.job("reaper", anyio.sleep_forever)
        job.start()
        await anyio.sleep(1)
        assert (await client.get("/reap")).status_code == 200
        await job.stop()
        assert (await client.get("/reap")).status_code == 503
        election = tide.election("reaper")
        term = await election.campaign()
        assert tide.term("reaper") is term
        assert (await client.get("/reap")).status_code == 200
        await election.resign()
        assert (tide.term("reaper"), (await client.get("/reap")).status_code) == (None, 503)


@pytest.mark.parametrize(("on_outage", "peeked"), [("step_down", 503), ("stay", 200)])
async def test_a_leader_in_an_outage(on_outage: Any, peeked: int) -> None:
    """Whoever steps down serves until its deadline, who stays is unconfirmed from then on, and may say so."""
    store = await store_with(a="1")
    async with service(store, ROUTES) as (client, tide):
        term = await tide.election("reaper").campaign(on_outage=on_outage)
        lose(store)
        await anyio.sleep(term.remaining - 0.1)
        assert [(await client.get(route)).status_code for route in ("/reap", "/peek")] == [200, 200]
        await anyio.sleep(0.2)
        assert [(await client.get(route)).status_code for route in ("/reap", "/peek")] == [503, peeked]
        detail = (await client.get("/reap")).json()["detail"]
        assert detail == (
            "'reaper' is led here, and only unconfirmed" if peeked == 200 else "'reaper' is not led here"
        )


async def test_a_loop_that_stood_still_refuses_at_once() -> None:
    """When the process was stopped beyond the deadline, the very first request is refused, before anything ran."""
    slept = [0.0]
    clock = Clock(
        monotonic=trio.current_time, boot=lambda: trio.current_time() + slept[0], wall=lambda: 1e9, boot_id="mock"
    )
    store = await store_with(a="1")
    made = Coordinator(
        Options(endpoints=tuple(store.members), cache_dir=False),
        store=store,
        clock=clock,
        chance=random.Random(7).random,
    )
    need = leader_only("reaper").need
    async with made as tide:
        term = await tide.election("reaper").campaign()
        assert find_refusal([need]) is None
        slept[0] = term.remaining - 0.001
        assert find_refusal([need]) is None
        slept[0] += 0.002
        assert find_refusal([need]) is not None
        assert tide.term("reaper") is None


async def follow(store: Any, address: str, own: str, *, path: str = "/sweep", **options: Any) -> httpx.Response:
    """Return how a candidate answers while another process leads and says where it is."""
    async with (
        service(store, ROUTES) as (client, tide),
        connected(store) as other,
        other.leader("reaper", address=address),
        anyio.create_task_group() as tasks,
    ):

        async def stand() -> None:
            await tide.election("reaper").campaign(address=own)

        tasks.start_soon(stand)
        await anyio.sleep(2)
        answer = await client.request(options.pop("method", "GET"), path, **options)
        tasks.cancel_scope.cancel()
    return answer


async def test_clients_are_sent_on_to_the_leader() -> None:
    """307 keeps method, path and query as they came."""
    store = await store_with(a="1")
    path = "/sweep?a=1&b=%2F%C3%A9"
    answer = await follow(store, LEADER, "http://10.0.0.8:8000", path=path, method="POST")
    assert (answer.status_code, answer.headers["location"]) == (307, LEADER + path)
    assert answer.headers["cache-control"] == "no-store"
    assert answer.content == b""


@pytest.mark.parametrize(
    "address",
    ["", "10.0.0.7:8000", "ftp://10.0.0.7", "http://test", "http://10.0.0.8:8000", "javascript:alert(1)"],
)
async def test_where_nobody_can_be_sent(address: str) -> None:
    """An address that is none, or that is where the request came to, is a 503."""
    answer = await follow(await store_with(a="1"), address, "http://10.0.0.8:8000")
    assert (answer.status_code, answer.json()["requirement"]) == (503, "leader:reaper")


async def test_nobody_is_sent_where_nobody_leads() -> None:
    """A vacant office, and a process that is no candidate, are a 503."""
    store = await store_with(a="1")
    async with service(store, ROUTES) as (client, tide), connected(store) as other:
        async with other.leader("reaper", address=LEADER):
            assert tide.leader_address("reaper") is None
            assert (await client.get("/sweep")).status_code == 503
        async with tide.leader("reaper", address="http://10.0.0.8:8000"):
            assert tide.leader_address("reaper") == ""
            assert (await client.get("/sweep")).status_code == 200
        assert (await client.get("/sweep")).status_code == 503


async def test_a_former_leader_sends_nobody_to_itself() -> None:
    """Whoever lost the leadership by the clock is still named in the record, and answers 503."""
    store = await store_with(a="1")
    async with service(store, ROUTES) as (client, tide):
        term = await tide.election("reaper").campaign(address=LEADER)
        lose(store)
        await anyio.sleep(term.remaining + 1)
        answer = await client.get("/sweep")
        assert answer.status_code == 503
        assert answer.json()["requirement"] == "leader:reaper, lock"


def scope(path: str, query: bytes = b"", **more: Any) -> dict[str, Any]:
    """Return the scope of a request."""
    host = [(b"host", b"shop.example:8080")]
    return {"type": "http", "path": path, "query_string": query, "headers": host, "scheme": "http", **more}


@pytest.mark.parametrize(
    ("address", "host"),
    [
        ("https://shop.example", b"shop.example"),
        ("http://shop.example:80", b"SHOP.example"),
        ("https://shop.example", b"shop.example:443"),
        ("http://[0:0::1]:8000", b"[::1]:8000"),
        ("http://127.1:8000", b"127.0.0.1:8000"),
    ],
)
def test_the_same_place_is_no_place_to_go(address: str, host: bytes) -> None:
    """A client is not sent in a circle, however its host is written, and if TLS ends in front of the server."""
    assert location(address, {**scope("/"), "headers": [(b"host", host)]}) is None


@pytest.mark.parametrize(
    ("address", "where", "expected"),
    [
        (LEADER, scope("/a b"), f"{LEADER}/a%20b"),
        (LEADER + "/", scope("/a"), f"{LEADER}/a"),
        (LEADER + "/base/", scope("/a"), f"{LEADER}/base/a"),
        ("https://leader.example", scope("/é"), "https://leader.example/%C3%A9"),
        ("http://[::1]:80", scope("/"), "http://[::1]:80/"),
        (LEADER, scope("/x", raw_path=b"/%2e%2e//x"), f"{LEADER}/%2e%2e//x"),
        (LEADER, scope("@evil.example/", raw_path=b"@evil.example/"), f"{LEADER}/@evil.example/"),
        (LEADER, scope("/", raw_path=b"http://evil.example/"), f"{LEADER}/http://evil.example/"),
        (LEADER, scope("/", raw_path=b"//evil.example"), f"{LEADER}//evil.example"),
        (LEADER, scope("/", raw_path=b"/a\r\nSet-Cookie: x\\"), f"{LEADER}/a%0D%0ASet-Cookie:%20x%5C"),
        (LEADER, scope("/", b"a=\r\n#b\xff"), f"{LEADER}/?a=%0D%0A%23b%FF"),
        (LEADER, scope("/100%"), f"{LEADER}/100%25"),
        (LEADER, scope("/api/a", root_path="/api", raw_path=b"/api/%61"), f"{LEADER}/%61"),
        (LEADER, scope("/api/é/a", root_path="/api/é"), f"{LEADER}/a"),
        (LEADER, scope("/apis", root_path="/api"), f"{LEADER}/apis"),
        (LEADER, scope("/shop/a", root_path="/shop", app_root_path=""), f"{LEADER}/shop/a"),
        (LEADER, scope("/api/shop/a", root_path="/api/shop", app_root_path="/api"), f"{LEADER}/shop/a"),
        (LEADER, scope("/a%2Fb?c"), f"{LEADER}/a%252Fb%3Fc"),
        (LEADER, scope("/", b"a[]=1&b=%5B", raw_path=b"/x[1]%5b"), f"{LEADER}/x[1]%5b?a[]=1&b=%5B"),
        ("http://shop.example:8080", scope("/"), None),
        ("http://SHOP.example:8080/", scope("/"), None),
        ("http://shop.example", scope("/"), "http://shop.example/"),
        ("http://10.0.0.9:80", scope("/", server=("10.0.0.9", 80)), None),
        ("http://10.0.0.9:80", scope("/", server=("10.0.0.9", "80")), None),
        (LEADER, scope("/", server=("/run/shop.socket", None)), f"{LEADER}/"),
        ("http://0.0.0.0:80", scope("/"), None),
        ("http://user@10.0.0.7", scope("/"), None),
        ("http://10.0.0.7\\@evil", scope("/"), None),
        ("http://10.0.0.7?a", scope("/"), None),
        ("http://10.0.0.7#", scope("/"), None),
        ("http://10.0.0.7:99999", scope("/"), None),
        ("http://10.0.0.7:x", scope("/"), None),
        ("http://[::1", scope("/"), None),
        ("http://", scope("/"), None),
        ("http:///x", scope("/"), None),
        ("//10.0.0.7", scope("/"), None),
        ("http://10.0.0.7\r\nX: y", scope("/"), None),
        ("http://é", scope("/"), None),
        ("http://" + "a" * 3000, scope("/"), None),
        (LEADER, {**scope("/"), "headers": [(b"host", b"[")]}, f"{LEADER}/"),
        (LEADER, {**scope("/"), "headers": [(b"host", b"a:b")], "server": None}, f"{LEADER}/"),
    ],
)
def test_the_leaders_address_and_nowhere_else(address: str, where: dict[str, Any], expected: str | None) -> None:
    """Neither the record's text nor the client's path can make it another place than the leader's."""
    assert location(address, where) == expected
