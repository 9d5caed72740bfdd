"""The middleware: one record per request, and nothing else changed."""

from __future__ import annotations

import asyncio
import inspect
import threading
from pathlib import Path
from typing import Any, Literal, get_type_hints

import anyio
import anyio.to_thread
import httpx
import pytest
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

import tideover
from tests.asgi.support import (
    call_websocket,
    client_of,
    degraded_store,
    lose,
    serving,
    store_with,
)
from tideover import connect
from tideover.asgi import TideoverMiddleware
from tideover.asgi.plan import ConnectOptions
from tideover.request_record import RequestRecord, current_record
from tideover.testing import MemoryStore

pytestmark = pytest.mark.anyio


def rate() -> str:
    """Read the configuration."""
    return tideover.current().config.get("rate")


def record() -> RequestRecord:
    """Return the record of the request this is called in."""
    found = current_record.get()
    assert found is not None
    return found


async def show_rate(request: Request) -> Response:
    """Answer with the configuration."""
    return PlainTextResponse(rate())


async def read_nothing(request: Request) -> Response:
    """Answer without looking at the configuration."""
    return PlainTextResponse("ok")


ROUTES = [Route("/rate", show_rate), Route("/ok", read_nothing)]


def make(
    store: MemoryStore, folder: Path | Literal[False] = False, *, status_header: bool = False
) -> TideoverMiddleware:
    """Return an application on a fake cluster."""
    app = Starlette(routes=ROUTES)
    return TideoverMiddleware(app, endpoints=[], store=store, cache_dir=folder, status_header=status_header)


# What it is given -----------------------------------------------------------------------------------------------


async def test_needs_to_know_its_cluster() -> None:
    """Neither endpoints nor a coordinator, or both, is an error at construction that names both."""
    tide = connect("127.0.0.1:1", cache_dir=False)
    with pytest.raises(TypeError, match=r"needs endpoints=\[\.\.\.\], coordinator="):
        TideoverMiddleware(Starlette())
    with pytest.raises(TypeError, match="give endpoints or a coordinator, not both"):
        TideoverMiddleware(Starlette(), endpoints=["127.0.0.1:1"], coordinator=tide)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"endpoints": "127.0.0.1:2379"}, TypeError, r"must be a list, such as \['127.0.0.1:2379'\]"),
        ({"endpoints": []}, ValueError, "at least one endpoint"),
        ({"endpoints": ["nonsense"]}, ValueError, "need host:port"),
        ({"endpoints": ["a:1"], "follow": "x/"}, TypeError, r"follow=\('x/',\)"),
        ({"endpoints": ["a:1"], "start_timeout": 0}, ValueError, "start_timeout"),
        ({"endpoints": ["a:1"], "start_time": 1}, TypeError, "unexpected keyword argument 'start_time'"),
    ],
)
def test_wrong_options_fail_at_construction(options: dict[str, Any], error: type[Exception], message: str) -> None:
    """A wrong option is found when the application is built, with a message that names it."""
    with pytest.raises(error, match=message):
        TideoverMiddleware(Starlette(), **options)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("while_leading", [("a", print)]),
        ("while_leading", print),
        ("coordinator", ["127.0.0.1:1"]),
        ("coordinator", TideoverMiddleware),
        ("endpoints", connect(store=MemoryStore())),
    ],
)
def test_what_is_of_another_kind_is_refused_by_name(option: str, value: Any) -> None:
    """A value that cannot be meant is refused with the name of its option."""
    options = {option: value} if option != "while_leading" else {option: value, "store": MemoryStore()}
    with pytest.raises(TypeError, match=f"^{option} must be "):
        TideoverMiddleware(Starlette(), **options)


def test_options_beside_a_coordinator() -> None:
    """Options given beside `coordinator=` would be ignored, so they are refused by name."""
    tide = connect("127.0.0.1:1", cache_dir=False)
    with pytest.raises(TypeError, match=r"namespace, follow: give options to connect\(\)"):
        TideoverMiddleware(Starlette(), coordinator=tide, namespace="app", follow=("a/",))


def test_all_options_of_connect_are_spelled_out() -> None:
    """The middleware takes every option that `connect` takes, with the same type, and no other."""
    parameters = inspect.signature(connect, eval_str=True).parameters.values()
    expected = {p.name: p.annotation for p in parameters if p.kind is p.KEYWORD_ONLY}
    assert get_type_hints(ConnectOptions) == expected


async def test_repr_names_the_coordinator() -> None:
    """The one-line form shows the cluster and its state."""
    app = make(MemoryStore(members=1))
    assert repr(app) == "<TideoverMiddleware <Coordinator '' memory-1:2379 not entered>>"


# Records --------------------------------------------------------------------------------------------------------


async def test_concurrent_requests_have_records_of_their_own(tmp_path: Path) -> None:
    """Of two requests in flight at once only the one that got a degraded answer is marked."""
    both = asyncio.Barrier(2)
    seen: dict[str, set[str]] = {}

    async def endpoint(request: Request) -> Response:
        if request.url.path == "/read":
            rate()
        await both.wait()
        seen[request.url.path] = set(record().marks)
        return Response()

    store = await degraded_store(tmp_path, rate="5")
    app = Starlette(routes=[Route("/read", endpoint), Route("/idle", endpoint)])
    async with serving(TideoverMiddleware(app, endpoints=[], store=store, cache_dir=tmp_path)) as client:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(client.get, "/read")
            tasks.start_soon(client.get, "/idle")
    assert seen == {"/read": {"config"}, "/idle": set()}


async def test_tasks_and_threads_share_the_record(tmp_path: Path) -> None:
    """A degraded answer got in a task, a thread or a nested one of either marks the request that started them."""
    marked: dict[str, bool] = {}

    async def in_task() -> None:
        rate()

    async def in_task_and_thread() -> None:
        await anyio.to_thread.run_sync(rate)

    async def endpoint(request: Request) -> Response:
        how = request.path_params["how"]
        if how == "group":
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(in_task)
        elif how == "task":
            await asyncio.create_task(in_task())
        elif how == "thread":
            await asyncio.to_thread(rate)
        elif how == "pool":
            await run_in_threadpool(rate)
        elif how == "both":
            await asyncio.create_task(in_task_and_thread())
        marked[how] = "config" in record().marks
        return Response()

    store = await degraded_store(tmp_path, rate="5")
    app = Starlette(routes=[Route("/{how}", endpoint)])
    async with serving(TideoverMiddleware(app, endpoints=[], store=store, cache_dir=tmp_path)) as client:
        for how in ("nothing", "group", "task", "thread", "pool", "both"):
            await client.get(f"/{how}")
    assert marked == {"nothing": False, "group": True, "task": True, "thread": True, "pool": True, "both": True}


async def test_sync_endpoint_shares_the_record(tmp_path: Path) -> None:
    """A sync endpoint runs in a worker thread, and its degraded answer is the request's."""
    threads: list[bool] = []

    def endpoint(request: Request) -> Response:
        threads.append(threading.current_thread() is threading.main_thread())
        return PlainTextResponse(rate())

    store = await degraded_store(tmp_path, rate="5")
    app = Starlette(routes=[Route("/", endpoint)])
    middleware = TideoverMiddleware(app, endpoints=[], store=store, cache_dir=tmp_path, status_header=True)
    async with serving(middleware) as client:
        response = await client.get("/")
    assert (response.text, response.headers["tideover-status"]) == ("5", "config=disk;age=100")
    assert threads == [False]


async def test_records_do_not_leak(tmp_path: Path) -> None:
    """After a request its caller's context is as before, and the next request starts unmarked."""
    seen: list[RequestRecord] = []

    async def endpoint(request: Request) -> Response:
        assert not record().marks
        seen.append(record())
        rate()
        return Response()

    store = await degraded_store(tmp_path, rate="5")
    app = Starlette(routes=[Route("/", endpoint)])
    async with serving(TideoverMiddleware(app, endpoints=[], store=store, cache_dir=tmp_path)) as client:
        for _ in range(3):
            # httpx calls the application in this very task: what leaked would be found here.
            assert (await client.get("/")).status_code == 200
            assert current_record.get() is None
    assert len(set(map(id, seen))) == 3
    assert all("config" in each.marks for each in seen)


async def test_record_after_an_exception() -> None:
    """A request that fails leaves no record behind either."""

    async def failing(scope: Scope, receive: Receive, send: Send) -> None:
        raise LookupError(scope["path"])

    async with connect(store=MemoryStore(), cache_dir=False) as tide:
        transport = httpx.ASGITransport(app=TideoverMiddleware(failing, coordinator=tide))
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            with pytest.raises(LookupError):
                await client.get("/")
        assert current_record.get() is None


async def test_exceptions_pass_unchanged() -> None:
    """An exception of the application reaches the server as the same object, groups and cancellations too."""
    errors = [LookupError("x"), ExceptionGroup("g", [ValueError("y")]), asyncio.CancelledError(), SystemExit(3)]

    async def failing(scope: Scope, receive: Receive, send: Send) -> None:
        raise scope["error"]

    async def receive() -> Message:
        raise NotImplementedError

    async def send(message: Message) -> None:
        raise NotImplementedError

    async with connect(store=MemoryStore(), cache_dir=False) as tide:
        app = TideoverMiddleware(failing, coordinator=tide)
        for error in errors:
            with pytest.raises(type(error)) as caught:
                await app({"type": "http", "error": error}, receive, send)
            assert caught.value is error
            assert caught.value.__cause__ is None
            assert caught.value.__context__ is None


async def test_websocket_has_a_record(tmp_path: Path) -> None:
    """A websocket is a request: its degraded answers mark its own record; no header is added to it."""
    marks: list[set[str]] = []

    async def echo(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": rate()})
        marks.append(set(record().marks))

    store = await degraded_store(tmp_path, rate="5")
    async with connect(store=store, cache_dir=tmp_path) as tide:
        app = TideoverMiddleware(echo, coordinator=tide, status_header=True)
        sent = await call_websocket(app, "/")
    assert marks == [{"config"}]
    assert sent == [{"type": "websocket.accept"}, {"type": "websocket.send", "text": "5"}]


async def test_background_task_belongs_to_its_request(tmp_path: Path) -> None:
    """What a background task reads after the response still has the request's coordinator and record."""
    seen: list[tuple[str, set[str]]] = []

    def later() -> None:
        seen.append((rate(), set(record().marks)))

    async def endpoint(request: Request) -> Response:
        return PlainTextResponse("sent", background=BackgroundTask(later))

    store = await degraded_store(tmp_path, rate="5")
    app = Starlette(routes=[Route("/", endpoint)])
    middleware = TideoverMiddleware(app, endpoints=[], store=store, cache_dir=tmp_path, status_header=True)
    async with serving(middleware) as client:
        assert "tideover-status" not in (await client.get("/")).headers
    assert seen == [("5", {"config"})]


# The response field ---------------------------------------------------------------------------------------------


async def test_status_header_of_a_degraded_request(tmp_path: Path) -> None:
    """A response made of stale configuration says so, with its source and true age; the body is untouched."""
    store = await degraded_store(tmp_path, age=3600, rate="5")
    async with serving(make(store, tmp_path, status_header=True)) as client:
        response = await client.get("/rate")
    assert response.text == "5"
    assert response.headers["tideover-status"] in ("config=disk;age=3600", "config=disk;age=3601")
    assert response.headers["content-length"] == "1"


async def test_status_header_only_when_asked_for(tmp_path: Path) -> None:
    """Without `status_header=True` a degraded response has no such field."""
    async with serving(make(await degraded_store(tmp_path, rate="5"), tmp_path)) as client:
        assert "tideover-status" not in (await client.get("/rate")).headers


async def test_status_header_only_when_degraded(tmp_path: Path) -> None:
    """A request that did not look at the configuration, or found it live, has no such field."""
    store = await degraded_store(tmp_path, rate="5")
    async with serving(make(store, tmp_path, status_header=True)) as client:
        assert "tideover-status" not in (await client.get("/ok")).headers
    async with serving(make(await store_with(rate="5"), status_header=True)) as client:
        response = await client.get("/rate")
    assert response.text == "5"
    assert "tideover-status" not in response.headers


async def test_status_header_of_an_error_response(tmp_path: Path) -> None:
    """An error response of the application that was decided upon stale configuration says so as well."""

    async def endpoint(request: Request) -> Response:
        return PlainTextResponse("no", status_code=403 if rate() == "5" else 200, headers={"x-own": "kept"})

    store = await degraded_store(tmp_path, rate="5")
    app = Starlette(routes=[Route("/", endpoint)])
    middleware = TideoverMiddleware(app, endpoints=[], store=store, cache_dir=tmp_path, status_header=True)
    async with serving(middleware) as client:
        response = await client.get("/")
    assert response.status_code == 403
    assert response.headers["tideover-status"] == "config=disk;age=100"
    assert response.headers["x-own"] == "kept"


async def test_streamed_response(tmp_path: Path) -> None:
    """A stream that degrades after its header went out is passed on unchanged: a header cannot be taken back."""

    async def chunks() -> Any:
        yield b"first "
        yield rate().encode()

    async def endpoint(request: Request) -> Response:
        return StreamingResponse(chunks())

    store = await degraded_store(tmp_path, rate="5")
    app = Starlette(routes=[Route("/", endpoint)])
    middleware = TideoverMiddleware(app, endpoints=[], store=store, cache_dir=tmp_path, status_header=True)
    async with serving(middleware) as client:
        response = await client.get("/")
    assert response.text == "first 5"
    assert "tideover-status" not in response.headers


async def test_degraded_requests_recover(tmp_path: Path) -> None:
    """A request within the outage is marked and one after the recovery is not, in the same application."""
    store = lose(await store_with(rate="5"))
    app = make(store, status_header=True)
    async with serving(app) as client:
        assert (await client_of(app).get("/rate")).status_code == 500
        store.down = set()
        store.touch()
        with anyio.fail_after(5):
            while (response := await client.get("/rate")).status_code != 200:
                await anyio.sleep(0.02)
    assert (response.text, "tideover-status" in response.headers) == ("5", False)


# Paths without a record -----------------------------------------------------------------------------------------


async def test_excluded_paths_have_no_record(tmp_path: Path) -> None:
    """Requests for excluded paths, and what is below them, have no record to be counted; all others have one."""
    records: dict[str, RequestRecord | None] = {}

    async def look(request: Request) -> Response:
        records[request.url.path] = current_record.get()
        return PlainTextResponse(rate())

    store = await degraded_store(tmp_path, rate="5")
    inner = Starlette(routes=[Route("/{path:path}", look)])
    app = TideoverMiddleware(
        inner, store=store, cache_dir=tmp_path, status_header=True, exclude_paths=["/static", "/ping/"]
    )
    async with serving(app) as client:
        excluded = ["/static", "/static/", "/static/a/b.css", "/ping", "/ping/"]
        counted = ["/", "/statics", "/a/static", "/pin", "/Static"]
        for path in [*excluded, *counted]:
            response = await client.get(path)
            assert response.text == "5"
            assert ("tideover-status" in response.headers) is (path in counted), path
    assert [path for path, found in records.items() if found is None] == excluded


@pytest.mark.parametrize("root", ["/api", "/api/"])
async def test_excluded_paths_are_below_the_root_path(root: str) -> None:
    """They are paths of the application: where a mount or a server puts a `root_path` in front, it is left out."""
    seen: list[bool] = []

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(current_record.get() is None)

    app = TideoverMiddleware(inner, store=MemoryStore(), exclude_paths=["/static"])

    async def nothing(*_: object) -> Any:
        return {}

    for path in ("/api/static/a", "/static/a", "/api/api/static", "/apix/static", "/api"):
        await app({"type": "http", "path": path, "root_path": root}, nothing, nothing)
    assert seen == [True, True, False, False, False]


async def test_excluded_websockets() -> None:
    """A websocket at an excluded path has no record either, and `current()` works in it."""
    seen: list[RequestRecord | None] = []

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            seen.append(current_record.get())
            rate()

    app = TideoverMiddleware(inner, store=await store_with(rate="5"), exclude_paths=["/live"])
    async with serving(app):
        for path in ("/live", "/other"):
            await call_websocket(app, path)
    assert [found is None for found in seen] == [True, False]


def test_excluded_paths_that_are_none() -> None:
    """What cannot be a list of paths is refused when the application is built."""
    for given, error in [("/static", TypeError), ([b"/static"], TypeError), (["static"], ValueError)]:
        with pytest.raises(error, match="exclude_paths"):
            TideoverMiddleware(Starlette(), store=MemoryStore(), exclude_paths=given)  # type: ignore[arg-type]
