"""What probes hear: from memory, at once, and never because etcd is away."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route

from tests.asgi.support import Server, call_websocket, client_of, lose, recover
from tests.support import connected
from tests.support import mock_backend as anyio_backend
from tideover import Coordinator, HealthState, LeadershipLost, connect
from tideover.asgi import HealthApp, TideoverMiddleware, leader_only, requires
from tideover.asgi.problems import DOCS
from tideover.request_record import current_record
from tideover.store.operations import Delete
from tideover.testing import MemoryStore

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio

PROCESS = f"{socket.gethostname()}:{os.getpid()}"


@asynccontextmanager
async def probed(
    store: MemoryStore | None = None, **options: Any
) -> AsyncIterator[tuple[MemoryStore, Coordinator, httpx.AsyncClient]]:
    """A coordinator on a cluster of its own, and a client of its health."""
    store = store or MemoryStore()
    async with connected(store, **options) as tide, client_of(HealthApp(tide)) as client:
        yield store, tide, client


async def statuses(client: httpx.AsyncClient, *paths: str) -> list[int]:
    """Return how some paths are answered."""
    return [(await client.get(path)).status_code for path in paths]


# Whoever asks ---------------------------------------------------------------------------------------------------


async def test_every_answer_names_its_process_and_is_not_stored() -> None:
    """Each answer, whatever its status and method, says which process gave it, and that nobody may keep it."""
    async with probed() as (_, _, client):
        for method, path in [
            ("GET", "/livez"),
            ("HEAD", "/readyz"),
            ("OPTIONS", "/health"),
            ("GET", "/leader/reaper"),
            ("POST", "/livez"),
            ("GET", "/nothing"),
            ("GET", "/health?standing="),
        ]:
            answer = await client.request(method, path)
            assert answer.headers["Tideover-Process"] == PROCESS, path
            assert answer.headers["Cache-Control"] == "no-store", path
        assert PROCESS in (await client.get("/livez")).text
        assert (await client.get("/health")).json()["process"] == PROCESS
        assert (await client.get("/nothing")).json()["process"] == PROCESS


async def test_methods() -> None:
    """HEAD and OPTIONS have the status of GET and no body; others are problems that say what is allowed."""
    async with probed() as (_, tide, client):
        tide._life.ending = True
        for path in ("/livez", "/readyz", "/health"):
            answers = [await client.request(method, path) for method in ("GET", "HEAD", "OPTIONS")]
            assert len({answer.status_code for answer in answers}) == 1
            assert [bool(answer.content) for answer in answers] == [True, False, False]
            assert answers[1].headers["Content-Type"] == answers[0].headers["Content-Type"]
            assert answers[2].headers["Allow"] == "GET, HEAD, OPTIONS"
        for method in ("POST", "DELETE", "BREW"):
            answer = await client.request(method, "/readyz")
            assert (answer.status_code, answer.headers["Allow"]) == (405, "GET, HEAD, OPTIONS")
            assert answer.headers["Content-Type"] == "application/problem+json"


async def test_unknown_paths() -> None:
    """What is no endpoint is a problem 404; a slash at the end means nothing."""
    async with probed() as (_, _, client):
        for path in ("/", "/readyz/x", "/leader/", "/leader", "/LIVEZ", "/healthz", "/..%2flivez"):
            answer = await client.get(path)
            assert (answer.status_code, answer.headers["Content-Type"]) == (404, "application/problem+json"), path
            assert answer.json()["status"] == 404
        assert await statuses(client, "/livez/", "/leader/reaper/") == [200, 404]


async def test_websockets_are_refused() -> None:
    """There is nothing to talk about: a WebSocket is refused, like any other path that does not exist."""
    async with connected(MemoryStore()) as tide:
        sent = await call_websocket(HealthApp(tide), "/livez")
    assert [message["type"] for message in sent] == ["websocket.accept", "websocket.close"]


# Where it stands ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mount", ["route", "middleware", "alone"])
async def test_where_it_can_be_mounted(mount: str) -> None:
    """It answers the same as a route, in the middleware at a path of its own, and as a whole application."""

    async def others(request: Request) -> PlainTextResponse:
        assert current_record.get() is not None
        return PlainTextResponse(request.url.path)

    async with connected(MemoryStore()) as tide:
        catch_all = Route("/{path:path}", others)
        app: Any = Starlette(
            routes=[Mount("/_tideover", HealthApp()), catch_all],
            middleware=[Middleware(TideoverMiddleware, coordinator=tide)],
        )
        if mount == "middleware":
            app = Starlette(
                routes=[catch_all],
                middleware=[Middleware(TideoverMiddleware, coordinator=tide, health="/_tideover/")],
            )
        base = "" if mount == "alone" else "/_tideover"
        if mount == "alone":
            app = HealthApp(tide)
        async with Server(app).running() as server, client_of(app) as client:
            assert server.answers == ["startup.complete"]
            assert await statuses(client, f"{base}/livez", f"{base}/readyz", f"{base}/health") == [200] * 3
            assert (await client.get(f"{base}/none")).status_code == 404
            if base:
                assert (await client.get("/_tideovers")).text == "/_tideovers"


async def test_probes_are_no_requests() -> None:
    """What the middleware answers itself has no record: probes are not counted among the requests."""
    seen: list[object] = []

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["path"])

    async with connected(MemoryStore()) as tide:
        app = TideoverMiddleware(inner, coordinator=tide, health="/_tideover")
        async with client_of(app) as client:
            assert (await client.get("/_tideover/livez")).status_code == 200
    assert not seen


def test_misuse_is_named() -> None:
    """What is no coordinator, no path, or twice the same is refused when the application is built."""
    tide = connect(store=MemoryStore())
    with pytest.raises(TypeError, match="must be what connect"):
        HealthApp("127.0.0.1:2379")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"must be what tideover\.asgi\.lifespan"):
        HealthApp(lifespan=tide)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="begin with a slash"):
        TideoverMiddleware(Starlette(), coordinator=tide, health="_tideover")
    with pytest.raises(TypeError, match="must be a string"):
        TideoverMiddleware(Starlette(), coordinator=tide, health=True)  # type: ignore[arg-type]
    assert repr(HealthApp()) == "<HealthApp of 'the current coordinator'>"


# livez ----------------------------------------------------------------------------------------------------------


async def test_livez_does_not_look_at_etcd() -> None:
    """It is 200 before the start, without etcd, while it ends and after it has ended."""
    tide = connect(store=lose(MemoryStore()), start_timeout=0.1)
    async with client_of(HealthApp(tide)) as client, client_of(HealthApp()) as of_nobody:
        assert (await client.get("/livez")).status_code == 200
        assert (await of_nobody.get("/livez")).status_code == 200
        async with tide:
            assert tide.health.state is HealthState.UNAVAILABLE
            assert (await client.get("/livez")).status_code == 200
            tide._life.ending = True
            assert (await client.get("/livez")).status_code == 200
        assert (await client.get("/livez")).status_code == 200


@pytest.mark.parametrize(
    ("how", "until"),
    [
        # ttl 15: the margin is 1.5 s.
        ("its deadline has passed", 1.5),
        ("it stayed beyond its deadline until the record was gone", 1.5),
        ("the record was deleted before its deadline", 13 + 1.5),
    ],
)
async def test_a_body_that_ignores_its_cancellation(how: str, until: float) -> None:
    """A body that runs on turns livez to 503 a margin after its deadline, or the loss if that is later."""
    async with probed() as (store, tide, client):
        stays = how.startswith("it stayed")
        with pytest.raises(LeadershipLost):
            async with tide.leader("reaper", on_outage="stay" if stays else "step_down") as term:
                with anyio.CancelScope(shield=True):
                    if "record" not in how or stays:
                        lose(store)
                        await anyio.sleep(30 if stays else term.remaining)
                        recover(store)
                    if "record" in how:
                        await store.call(Delete(b"/elections/reaper"), member=store.members[0], timeout=1)
                    while term.leads:
                        await anyio.sleep(0.05)
                    lost = anyio.current_time()
                    while (answer := await client.get("/livez")).status_code == 200:
                        assert anyio.current_time() < lost + 60
                        await anyio.sleep(0.05)
                    # What notices a loss looks every quarter of a second.
                    assert until - 0.1 <= anyio.current_time() - lost <= until + 0.6
                    assert answer.status_code == 503
                    assert "'reaper' has lost that" in answer.json()["detail"]
                    assert (await client.get("/health")).json()["status"] == "fail"
                    assert (await client.get("/readyz")).status_code == 200
                    await anyio.sleep(100)
                    assert (await client.get("/livez")).status_code == 503
        assert (await client.get("/livez")).status_code == 200


async def test_a_body_that_ends_in_time() -> None:
    """One that is cancelled, or cleans up within the margin, is no reason to restart, nor is one that leads on."""
    async with probed() as (store, tide, client):
        with pytest.raises(LeadershipLost):
            async with tide.leader("reaper") as term:
                lose(store)
                try:
                    await anyio.sleep_forever()
                finally:
                    assert not term.leads
                    with anyio.CancelScope(shield=True):
                        await anyio.sleep(1.4)
                        assert (await client.get("/livez")).status_code == 200
        await anyio.sleep(60)
        assert (await client.get("/livez")).status_code == 200
        recover(store)
        async with tide.leader("reaper", on_outage="step_down"):
            await anyio.sleep(60)
            assert (await client.get("/livez")).status_code == 200


# readyz ---------------------------------------------------------------------------------------------------------


async def test_readyz_through_a_life() -> None:
    """503 until the start is over and from the first sign of the end on; the answer says which of them it is."""
    tide = connect(store=MemoryStore())
    async with client_of(HealthApp(tide)) as client:
        answers = [await client.get("/readyz")]
        async with tide:
            answers.append(await client.get("/readyz"))
            tide._life.ending = True
            answers.append(await client.get("/readyz"))
        answers.append(await client.get("/readyz"))
    assert [answer.status_code for answer in answers] == [503, 200, 503, 503]
    assert answers[1].text.split() == ["ready", PROCESS]
    details = [answer.json()["detail"] for answer in answers if answer.status_code == 503]
    assert details == ["the coordinator has not been entered", "it shuts down", "the coordinator is closed"]


async def test_readyz_waits_for_the_first_usable_state() -> None:
    """While a coordinator is being entered it is 503; without etcd and without a snapshot it is then ready."""
    store = MemoryStore()
    store.frozen = set(store.members)
    seen: list[int] = []
    async with client_of(HealthApp(tide := connect(store=store, start_timeout=0.5))) as client:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_ask_soon, client, seen)
            async with tide:
                answer = await client.get("/readyz")
                assert (answer.status_code, answer.text.split()[0]) == (200, "degraded")
                assert tide.config.get("rate", default="7") == "7"
    assert seen == [503]


async def _ask_soon(client: httpx.AsyncClient, seen: list[int]) -> None:
    await anyio.sleep(0.01)
    seen.append((await client.get("/readyz")).status_code)


async def test_readyz_in_an_outage() -> None:
    """In an outage it stays 200, says `degraded`, and tells Envoy so; afterwards it is as before."""
    async with probed() as (store, tide, client):
        before = await client.get("/readyz")
        lose(store)
        await tide.health.wait_for(HealthState.UNAVAILABLE, timeout=30)
        during = await client.get("/readyz")
        recover(store)
        await tide.health.wait_for(HealthState.AVAILABLE, timeout=60)
        after = await client.get("/readyz")
    assert [each.status_code for each in (before, during, after)] == [200, 200, 200]
    assert [each.text.split()[0] for each in (before, during, after)] == ["ready", "degraded", "ready"]
    assert [each.headers.get("x-envoy-degraded") for each in (before, during, after)] == [None, "true", None]


async def test_readyz_verbose() -> None:
    """`?verbose` has a line for each component, with what is the matter, and the same status."""
    async with probed(discover=["billing"]) as (store, tide, client):
        async with tide.lock("orders"), tide.leader("reaper"):
            lose(store)
            await tide.health.wait_for(HealthState.UNAVAILABLE, timeout=30)
            answer = await client.get("/readyz?verbose")
            lines = answer.text.splitlines()
            assert lines[:2] == ["degraded", PROCESS]
            assert lines[2].startswith("warn etcd unavailable since ")
            for beginning in (
                "warn config memory",
                "warn discovery billing",
                "pass election reaper held",
                "pass lock orders",
            ):
                assert any(line.startswith(beginning) for line in lines), (beginning, lines)
            tide._life.ending = True
            answer = await client.get("/readyz?verbose=1")
            assert (answer.status_code, answer.text.splitlines()[0]) == (503, "not ready")


async def test_readyz_is_strict_for_those_who_say_so() -> None:
    """With `?require=` and `HealthApp(ready=[...])` an outage is a reason; without them it is none."""
    async with probed(discover=["billing"]) as (store, tide, client):
        strict = client_of(HealthApp(tide, ready=[requires("lock"), leader_only("reaper")]))
        paths = ["/readyz", *map("/readyz?require={}".format, ("lock", "etcd", "quorum&verbose", "config"))]
        async with strict:
            assert await statuses(client, *paths) == [200] * 5
            assert (await strict.get("/readyz")).json()["requirement"] == "leader:reaper"
            async with tide.leader("reaper"):
                assert await statuses(strict, "/readyz") == [200]
                lose(store)
                await tide.health.wait_for(HealthState.UNAVAILABLE, timeout=30)
                assert await statuses(client, *paths) == [200, 503, 503, 503, 200]
                answer = await strict.get("/readyz")
                assert (answer.status_code, answer.json()["requirement"]) == (503, "lock")
                assert answer.headers["x-envoy-degraded"] == "true"
                assert int(answer.headers["Retry-After"]) >= 1
                assert answer.json()["outage_id"] == tide.status().outage_id
        both = await client.get("/readyz?require=lock&require=etcd&require=lock")
        assert both.json()["requirement"] == "lock, etcd"
        assert await statuses(client, "/readyz?require=discovery:billing") == [503]


@pytest.mark.parametrize("alarm", ["NOSPACE", "CORRUPT"])
async def test_a_probe_and_a_route_agree_about_locks(alarm: str) -> None:
    """With an alarm no lock can be had, say `?require=lock`, the line of locks and `requires("lock")` alike."""

    @requires("lock")
    async def pay(request: Request) -> PlainTextResponse:
        return PlainTextResponse("paid")

    async with probed() as (store, tide, client):
        app = TideoverMiddleware(Starlette(routes=[Route("/pay", pay)]), coordinator=tide)
        async with client_of(app) as shop:

            async def say() -> tuple[int, int, bool]:
                lines = (await client.get("/readyz?verbose")).text
                probe, route = await client.get("/readyz?require=lock"), await shop.get("/pay")
                if probe.status_code == 503:
                    assert probe.json()["detail"] == route.json()["detail"]
                return probe.status_code, route.status_code, " lock obtainable" in lines

            assert await say() == (200, 200, True)
            store.alarms.add(alarm)
            await anyio.sleep(40)
            assert tide.health.state is HealthState.AVAILABLE
            assert await say() == (503, 503, False)
            store.alarms.clear()
            await anyio.sleep(40)
            assert await say() == (200, 200, True)


async def test_what_cannot_be_required() -> None:
    """What is no requirement is 400; a probe does not make the process follow a service that it did not."""
    async with probed() as (_, tide, client):
        for asked in ("", "locks", "discovery:", "discovery:other", "leader:reaper", "lock%00", "%ff", "a" * 3000):
            answer = await client.get(f"/readyz?require={asked}")
            assert answer.status_code == 400, asked
            assert answer.json()["detail"].startswith("require is one of lock, ")
        assert not tide.status().services
    async with probed(follow=()) as (_, _, client):
        assert await statuses(client, "/readyz?require=config", "/readyz") == [503, 200]
    with pytest.raises(TypeError, match="ready must be a list of requires"):
        HealthApp(ready=["lock"])  # type: ignore[list-item]


# health ---------------------------------------------------------------------------------------------------------


async def test_health_document() -> None:
    """It has one check for each part of each component, and what `tideover fleet` compares."""
    async with probed(namespace="/shop") as (store, tide, client):
        async with tide.lock("orders") as held, tide.leader("reaper") as term:
            answer = await client.get("/health")
            assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/health+json")
            healthy = answer.json()
            assert (healthy["status"], healthy["state"], healthy["serviceId"]) == ("pass", "available", "/shop")
            assert healthy["checks"]["election"] == [
                {
                    "componentId": "reaper",
                    "status": "pass",
                    "observedValue": "held",
                    "holder": healthy["checks"]["election"][0]["holder"],
                    "token": term.token,
                }
            ]
            assert healthy["checks"]["election"][0]["holder"].startswith(PROCESS)
            assert [each["token"] for each in healthy["checks"]["lock"] if "token" in each] == [held.token]
            assert (healthy["epoch"], healthy["outage_id"]) == (tide.epoch, None)
            lose(store)
            await tide.health.wait_for(HealthState.UNAVAILABLE, timeout=30)
            ill = (await client.get("/health")).json()
            assert (ill["status"], ill["state"], ill["diagnosis"]) == ("warn", "unavailable", "cut_off")
            assert ill["outage_id"] == ill["checks"]["config"][0]["outage_id"] == tide.status().outage_id != ""
            assert ill["checks"]["config"][0]["source"] == "memory"
            assert ill["checks"]["config"][0]["age"] > 0
            assert ill["since"] == tide.status().since.isoformat()
            tide._life.ending = True
            answer = await client.get("/health")
            assert (answer.status_code, answer.json()["status"]) == (503, "fail")


async def test_health_is_bounded() -> None:
    """With many parts the document stays below 64 KiB, tells the worse ones, and counts the rest."""
    async with probed() as (_, tide, client):
        async with anyio.create_task_group() as tasks:

            async def stand(name: str) -> None:
                async with tide.leader(name, address="http://10.0.0.1/" + "a" * 300):
                    await anyio.sleep_forever()

            for n in range(40):
                tasks.start_soon(stand, f"shard/{n}/" + "\N{SNOWMAN}" * 100)
            await anyio.sleep(2)
            answer = await client.get("/health")
            assert len(answer.content) < 64 * 1024
            assert len(answer.json()["checks"]["election"]) + answer.json()["omitted"]["election"] == 40
            tasks.cancel_scope.cancel()


# leader ---------------------------------------------------------------------------------------------------------


async def test_leader() -> None:
    """200 only where the election is led; elsewhere 503 with whom to ask; 404 where nobody is a candidate."""
    async with probed() as (store, tide, client), connected(store) as other, client_of(HealthApp(other)) as theirs:
        path = "/leader/jobs/reaper"
        assert await statuses(client, path) == [404]
        async with tide.leader("jobs/reaper", address="http://10.0.0.7:80") as term:
            assert await statuses(theirs, path) == [404]
            async with anyio.create_task_group() as tasks:

                async def stand() -> None:
                    async with other.leader("jobs/reaper"):
                        pass

                tasks.start_soon(stand)
                await anyio.sleep(1)
                answer = await client.get(path)
                assert answer.status_code == 200
                assert (answer.json()["token"], answer.json()["standing"]) == (term.token, "held")
                answer = await theirs.get(path)
                assert (answer.status_code, answer.json()["address"]) == (503, "http://10.0.0.7:80")
                assert answer.json()["holder"].startswith(PROCESS)
                tasks.cancel_scope.cancel()


async def test_leader_by_the_clock() -> None:
    """From the deadline on it is 503, whatever its tasks have noticed; with the standing that was asked for."""
    async with probed() as (store, tide, client):
        async with tide.leader("reaper", on_outage="stay") as term:
            lose(store)
            await anyio.sleep(term.remaining - 0.001)
            paths = [
                f"/leader/reaper{query}"
                for query in ("", *map("?standing={}".format, ("held", "confirmed", "unconfirmed")))
            ]
            assert await statuses(client, *paths) == [200, 200, 200, 200]
            await anyio.sleep(0.002)
            assert await statuses(client, *paths) == [503, 503, 503, 200]
            answer = await client.get("/leader/reaper?standing=unconfirmed")
            assert answer.json()["standing"] == "unconfirmed"
            assert answer.json()["remaining"] < 0
            assert "unconfirmed" in (await client.get("/leader/reaper")).json()["detail"]
        assert await statuses(client, "/leader/reaper?standing=any", "/leader/reaper?standing=") == [400, 400]


async def test_a_job_that_rests_is_a_candidate() -> None:
    """A job that has failed is no candidate for a while: 503 and not 404, because it will be one again."""

    async def fail() -> None:
        raise RuntimeError("no")

    async with probed() as (_, tide, client):
        job = tide.job("reaper", fail)
        job.start()
        while job.status.state != "paused":
            await anyio.sleep(0.01)
        assert await statuses(client, "/leader/reaper") == [503]
        await job.stop()
        assert await statuses(client, "/leader/reaper") == [404]


async def test_hostile_names_are_answered() -> None:
    """Whatever is asked, the answer is whole JSON and repeats nothing that could pass for something else."""
    async with probed() as (_, _, client):
        for path in (
            "/leader/%00",
            "/leader/%1b%5b31m",
            "/leader/%ff",
            "/leader/<script>",
            "/leader/" + "a" * 5000,
        ):
            answer = await client.get(path, headers={"accept": "*/*"})
            assert answer.status_code == 404
            assert json.loads(answer.text)["status"] == 404
            assert "<script>" not in json.loads(answer.text)["detail"]


async def test_problems_are_explained() -> None:
    """The `type` of each problem is a section of the documentation that exists."""
    async with probed() as (_, tide, client):
        answers = [
            await client.get(path)
            for path in ("/none", "/leader/none", "/leader/a?standing=x", "/readyz?require=x")
        ]
        answers.append(await client.post("/livez"))
        tide._life.ending = True
        answers.append(await client.get("/readyz"))
    for answer in answers:
        page, _, section = answer.json()["type"].removeprefix(DOCS).partition("#")
        text = (Path(__file__).parents[2] / "docs" / f"{page.rstrip('/')}.md").read_text()
        assert not section or f"\n## {section}\n" in text, answer.json()["type"]
