"""The coordinator lives as long as the application's lifespan, whatever the application does with it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import anyio
import httpx
import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

import tideover
from tests.asgi.support import Server, call_websocket, client_of, lose, recover, serving, store_with
from tideover import Closed, Coordinator, HealthState, NotConnected, Unreachable, connect
from tideover.asgi import TideoverMiddleware
from tideover.asgi.lifespan_messages import LifespanMessages
from tideover.coordinator.coordinator import open_coordinators
from tideover.options import Require
from tideover.request_record import current_record
from tideover.testing import MemoryStore

pytestmark = pytest.mark.anyio


async def show_rate(request: Request) -> PlainTextResponse:
    """Answer with the configuration."""
    return PlainTextResponse(tideover.current().config.get("rate"))


def wrapped(app: ASGIApp, store: MemoryStore, *, require: Require | None = None) -> TideoverMiddleware:
    """Put the middleware around an application, on a fake cluster."""
    return TideoverMiddleware(app, endpoints=[], store=store, cache_dir=False, require=require)


async def bare(scope: Scope, receive: Receive, send: Send) -> None:
    """Be an application without a lifespan, as the ASGI specification lets it: raise."""
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    await PlainTextResponse(tideover.current().config.get("rate"))(scope, receive, send)


# A lifespan that ends well --------------------------------------------------------------------------------------


async def test_coordinator_lives_as_long_as_the_lifespan() -> None:
    """The coordinator is open when the server hears that the startup is complete, and requests reach it."""
    app = Starlette(
        routes=[Route("/", show_rate)],
        middleware=[
            Middleware(TideoverMiddleware, endpoints=[], store=await store_with(rate="5"), cache_dir=False)
        ],
    )
    async with serving(app) as client:
        assert len(open_coordinators) == 1
        assert (await client.get("/")).text == "5"
    assert not open_coordinators


async def test_services_are_known_when_the_first_request_comes() -> None:
    """With `discover=[...]` the first `pick()` of the first request is what etcd says."""

    async def pick(_: Request) -> PlainTextResponse:
        view = tideover.discover("billing")
        return PlainTextResponse(f"{view.source} {view.pick().url}")

    store = MemoryStore()
    async with connect(store=store) as billing, billing.register("billing", "http://10.0.0.7:80"):
        app = Starlette(
            routes=[Route("/", pick)],
            middleware=[Middleware(TideoverMiddleware, store=store, discover=["billing"])],
        )
        async with serving(app) as client:
            assert (await client.get("/")).text == "live http://10.0.0.7:80"


async def test_coordinator_is_closed_before_the_server_hears_of_it() -> None:
    """The server may end the process at shutdown.complete: the coordinator is closed by then, store and all."""

    class Closing(MemoryStore):
        closed = False

        async def aclose(self) -> None:
            await anyio.sleep(0.05)
            self.closed = True

    store = Closing()
    server = Server(wrapped(Starlette(), store))
    closed_at = {}
    server.on_send(lambda message: closed_at.update({message["type"]: (store.closed, len(open_coordinators))}))
    async with server.running():
        pass
    assert closed_at == {"lifespan.startup.complete": (False, 1), "lifespan.shutdown.complete": (True, 0)}


async def test_lifespan_of_the_app_uses_the_coordinator() -> None:
    """`current()` works in the application's own lifespan, at the start and at the end, and in tasks it starts."""
    seen: list[str] = []

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        async def background() -> None:
            seen.append("task " + tideover.current().config.get("rate"))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(background)
            seen.append("start " + tideover.current().config.get("rate"))
            yield
        seen.append("end " + tideover.current().config.get("rate"))

    app = Starlette(
        lifespan=lifespan,
        middleware=[
            Middleware(TideoverMiddleware, endpoints=[], store=await store_with(rate="5"), cache_dir=False)
        ],
    )
    async with serving(app):
        pass
    assert sorted(seen) == ["end 5", "start 5", "task 5"]


async def test_lifespan_is_no_request() -> None:
    """What the lifespan starts has no request record: one outage's mark would hide the next one for ever."""
    records: list[object] = []

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        records.append(current_record.get())
        yield

    async with serving(wrapped(Starlette(lifespan=lifespan), MemoryStore())):
        pass
    assert records == [None]


async def test_second_start_of_the_same_app() -> None:
    """Test clients start the same application object again and again: each start has a coordinator of its own."""
    app = wrapped(Starlette(routes=[Route("/", show_rate)]), await store_with(rate="5"))
    coordinators: list[Coordinator] = []
    for _ in range(3):
        async with serving(app) as client:
            coordinators.extend(open_coordinators)
            assert (await client.get("/")).text == "5"
        assert not open_coordinators
    assert len(set(map(id, coordinators))) == 3


async def test_coordinator_from_outside_stays_open() -> None:
    """`coordinator=` is entered and left by whoever made it: the lifespan neither opens nor closes it."""
    async with connect(store=await store_with(rate="5"), cache_dir=False) as tide:
        app = TideoverMiddleware(Starlette(routes=[Route("/", show_rate)]), coordinator=tide)
        async with serving(app) as client:
            assert (await client.get("/")).text == "5"
        assert tide.config.get("rate") == "5"
        assert (await client_of(app).get("/")).text == "5"


async def test_lifespan_with_coordinator_from_outside_is_untouched() -> None:
    """With `coordinator=` an application without a lifespan still tells the server so, by its exception."""
    async with connect(store=MemoryStore(), cache_dir=False) as tide:
        async with Server(TideoverMiddleware(bare, coordinator=tide)).running() as server:
            assert isinstance(server.error, NotImplementedError)
            assert server.answers == []


# Applications without a lifespan --------------------------------------------------------------------------------


async def test_app_that_raises_on_the_lifespan_scope() -> None:
    """An application without a lifespan is given one: its requests are served and the coordinator is closed."""
    app = wrapped(bare, await store_with(rate="5"))
    server = Server(app)
    async with server.running():
        assert server.answers == ["startup.complete"]
        assert (await client_of(app).get("/")).text == "5"
    assert server.answers == ["startup.complete", "shutdown.complete"]
    assert server.error is None
    assert not open_coordinators


async def test_app_that_ignores_the_lifespan_scope() -> None:
    """The same for an application that returns, and for one that takes the startup message before it raises."""

    async def silent(scope: Scope, receive: Receive, send: Send) -> None:
        return

    async def late(scope: Scope, receive: Receive, send: Send) -> None:
        assert (await receive())["type"] == "lifespan.startup"
        raise KeyError("type")

    for app in (silent, late):
        async with Server(wrapped(app, MemoryStore())).running() as server:
            assert server.answers == ["startup.complete"]
        assert server.answers == ["startup.complete", "shutdown.complete"]


async def test_mounted_application_has_no_lifespan_of_its_own() -> None:
    """A mounted application shares the outer coordinator; a middleware of its own never starts, and says so."""
    inner = Starlette(routes=[Route("/", show_rate)])
    store = await store_with(rate="5")
    app = Starlette(
        routes=[Mount("/shared", inner), Mount("/own", wrapped(inner, store))],
        middleware=[Middleware(TideoverMiddleware, endpoints=[], store=store, cache_dir=False)],
    )
    async with Server(app).running():
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
            assert (await client.get("/shared/")).text == "5"
            with pytest.raises(NotConnected, match="a mounted application has none"):
                await client.get("/own/")


async def test_a_framework_that_gives_its_middleware_no_lifespan() -> None:
    """Middleware that sees requests alone says what to do instead, and around the whole application it works."""

    async def framework(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await lifespan_of_its_own(scope, receive, send)
        else:
            await inside(scope, receive, send)

    async def endpoint(request: Request) -> PlainTextResponse:
        try:
            return PlainTextResponse(tideover.current().config.get("rate"))
        except NotConnected as exc:
            return PlainTextResponse(str(exc), status_code=500)

    app = Starlette(routes=[Route("/", endpoint)])
    lifespan_of_its_own: ASGIApp = Starlette()
    inside: ASGIApp = TideoverMiddleware(app, store=await store_with(rate="5"))
    async with serving(framework) as client:
        response = await client.get("/")
    assert response.status_code == 500
    assert "such as Litestar, is wrapped instead: TideoverMiddleware(app, ...)" in response.text
    inside = app
    async with serving(TideoverMiddleware(framework, store=await store_with(rate="5"))) as client:
        assert (await client.get("/")).text == "5"


async def test_requests_without_a_lifespan() -> None:
    """A server that does not run the lifespan gets errors that say what to do; other requests stay unharmed."""
    app = wrapped(Starlette(routes=[Route("/", show_rate), Route("/ok", PlainTextResponse("ok"))]), MemoryStore())
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        with pytest.raises(NotConnected, match=r"has not run this application's lifespan.*uvicorn --lifespan on"):
            await client.get("/")
        assert (await client.get("/ok")).text == "ok"


async def test_requests_after_the_end() -> None:
    """A request after the shutdown is told that the coordinator is closed."""
    app = wrapped(Starlette(routes=[Route("/", show_rate)]), MemoryStore())
    async with serving(app):
        pass
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test") as client:
        with pytest.raises(Closed, match="closed"):
            await client.get("/")


async def test_websocket_uses_the_coordinator() -> None:
    """A websocket has the coordinator as well."""

    async def echo(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            raise NotImplementedError
        assert (await receive())["type"] == "websocket.connect"
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": tideover.current().config.get("rate")})

    app = wrapped(echo, await store_with(rate="5"))
    async with serving(app):
        assert (await call_websocket(app, "/"))[1] == {"type": "websocket.send", "text": "5"}


# A lifespan that ends badly -------------------------------------------------------------------------------------


async def test_startup_failure_of_the_app_passes_through() -> None:
    """startup.failed and the exception reach the server as they are, and the coordinator is closed."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        raise LookupError("no database")
        yield

    async with Server(wrapped(Starlette(lifespan=lifespan), MemoryStore())).running() as server:
        await anyio.wait_all_tasks_blocked()
        assert not open_coordinators
    assert server.answers == ["startup.failed"]
    assert "no database" in server.sent[0]["message"]
    assert isinstance(server.error, LookupError)


async def test_shutdown_failure_of_the_app_passes_through() -> None:
    """shutdown.failed and the exception reach the server, after the coordinator was closed."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        raise LookupError("cannot flush")

    server = Server(wrapped(Starlette(lifespan=lifespan), MemoryStore()))
    still_open: list[int] = []
    server.on_send(lambda message: still_open.append(len(open_coordinators)))
    async with server.running():
        pass
    assert server.answers == ["startup.complete", "shutdown.failed"]
    assert still_open == [1, 0]
    assert isinstance(server.error, LookupError)


async def test_required_etcd_that_is_away_fails_the_startup() -> None:
    """`require="etcd"` answers startup.failed: at a mere exception uvicorn would assume no lifespan, and serve."""
    started: list[str] = []

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        started.append("app")
        yield

    app = wrapped(Starlette(lifespan=lifespan), lose(MemoryStore()), require="etcd")
    async with Server(app).running() as server:
        await anyio.wait_all_tasks_blocked()
    assert server.answers == ["startup.failed"]
    assert "Unreachable: require='etcd': no etcd member answers" in server.sent[0]["message"]
    assert isinstance(server.error, Unreachable)
    assert not started
    assert not open_coordinators


async def test_start_without_etcd() -> None:
    """With etcd away the application starts at once, and the coordinator recovers behind it."""
    store = lose(await store_with(rate="5"))
    app = wrapped(Starlette(routes=[Route("/", show_rate)]), store)
    began = time.monotonic()
    async with serving(app) as client:
        assert time.monotonic() - began < 0.9
        (tide,) = open_coordinators
        assert tide.health.state is HealthState.UNAVAILABLE
        recover(store)
        with anyio.fail_after(5):
            while tide.config.read("rate").value != "5":
                await anyio.sleep(0.02)
        assert (await client.get("/")).text == "5"


async def test_repr_of_the_messages() -> None:
    """The lifespan's messages show how far they have come."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "lifespan.startup"}

    lifespan = LifespanMessages(receive, send)
    assert repr(lifespan) == "<LifespanMessages starting>"
    await lifespan.send({"type": "lifespan.startup.complete"})
    assert repr(lifespan) == "<LifespanMessages started>"
    await lifespan.send({"type": "lifespan.shutdown.complete"})
    assert repr(lifespan) == "<LifespanMessages ending>"
    assert [message["type"] for message in sent] == ["lifespan.startup.complete"]
    await lifespan.finish()
    assert [message["type"] for message in sent] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


# A real server --------------------------------------------------------------------------------------------------

_SERVED = """
import contextlib, socket, sys
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route
import tideover
from tideover.asgi import TideoverMiddleware

def state(request):
    return PlainTextResponse(tideover.current().health.state)

options = eval(sys.argv[2])
app = Starlette(routes=[Route("/", state)], middleware=[Middleware(TideoverMiddleware, **options)])
server = uvicorn.Server(uvicorn.Config(app, access_log=False))
with contextlib.suppress(KeyboardInterrupt):
    server.run(sockets=[socket.socket(fileno=int(sys.argv[1]))])
print("over", flush=True)
"""


@contextmanager
def _uvicorn(folder: Path, options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run uvicorn on a socket that listens already, so that nobody has to ask whether it is up."""
    script = folder / "served.py"
    script.write_text(_SERVED, encoding="utf-8")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        process = subprocess.Popen(
            [sys.executable, str(script), str(listening.fileno()), options],
            pass_fds=[listening.fileno()],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "XDG_CACHE_HOME": str(folder)},
        )
        try:
            yield process, f"http://127.0.0.1:{listening.getsockname()[1]}/"
        finally:
            process.kill()
            process.communicate()


@pytest.mark.parametrize("etcd", ["refuses", "is silent", "answers"])
def test_uvicorn_stops_cleanly_at_ctrl_c(etcd: str, tmp_path: Path) -> None:
    """Ctrl-C ends a real uvicorn within a second and without a traceback, whether etcd answers or not."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        if etcd == "is silent":
            silent.listen()
        endpoint = f"127.0.0.1:{silent.getsockname()[1]}"
        options = f"dict(endpoints=[{endpoint!r}])"
        if etcd == "answers":
            options = "dict(endpoints=[], store=__import__('tideover.testing').testing.MemoryStore())"
        with _uvicorn(tmp_path, options) as (process, url):
            answer = httpx.get(url, timeout=15).text
            assert answer == ("available" if etcd == "answers" else "unavailable")
            began = time.monotonic()
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=10)
            assert time.monotonic() - began < 1.5
    assert process.returncode == 0, err
    assert out == "over\n"
    assert "Application shutdown complete" in err
    assert "Traceback" not in err
    assert "unsupported" not in err


def test_uvicorn_does_not_serve_what_could_not_start(tmp_path: Path) -> None:
    """With `require="etcd"` and no etcd a real uvicorn exits with the reason, in its default lifespan mode."""
    with socket.socket() as refusing:
        refusing.bind(("127.0.0.1", 0))
        endpoint = f"127.0.0.1:{refusing.getsockname()[1]}"
        with _uvicorn(tmp_path, f"dict(endpoints=[{endpoint!r}], require='etcd')") as (process, _):
            out, err = process.communicate(timeout=15)
    assert "Unreachable: require='etcd': no etcd member answers" in err
    assert "Application startup failed. Exiting." in err
    assert out in ("", "over\n")
