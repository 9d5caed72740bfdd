"""What an application registers, from its start to the first sign of its end."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from starlette.applications import Starlette
from starlette.types import Receive, Scope, Send

from tests.asgi.support import Server, lose, recover
from tests.registration.support import URL, published
from tideover import Registration, connect
from tideover.asgi import TideoverMiddleware
from tideover.asgi.shutdown import EarlyWarning
from tideover.testing import EtcdServer, MemoryStore

pytestmark = pytest.mark.anyio

API = Registration("api", URL)


def wrapped(app: Any, store: MemoryStore, register: Any) -> TideoverMiddleware:
    """Put the middleware around an application, on a fake cluster."""
    return TideoverMiddleware(app, store=store, cache_dir=False, register=register)


async def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    """Wait for a state."""
    with anyio.fail_after(seconds):
        while not condition():
            await anyio.sleep(0.005)


async def test_registered_from_startup_to_shutdown() -> None:
    """Registered once the application has started, all that was given, and gone when the server begins to stop."""
    store = MemoryStore()
    web = Registration("web", "http://10.0.0.7:8001")
    async with Server(wrapped(Starlette(), store, [API, web])).running():
        await until(lambda: len(published(store)) == len(published(store, "web")) == 1)
    assert not published(store)
    assert not store.leases


async def test_gone_before_the_application_hears_of_the_shutdown() -> None:
    """While the application shuts down, nobody is sent there any more."""
    store = MemoryStore()
    seen: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        assert not published(store)
        await send({"type": "lifespan.startup.complete"})
        await until(lambda: len(published(store)) == 1)
        await receive()
        seen.append(len(published(store)))
        await send({"type": "lifespan.shutdown.complete"})

    async with Server(wrapped(app, store, API)).running():
        pass
    assert seen == [0]


async def test_an_application_without_a_lifespan_is_registered_too() -> None:
    """The middleware's own lifespan counts."""
    store = MemoryStore()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        raise NotImplementedError

    async with Server(wrapped(app, store, API)).running():
        await until(lambda: len(published(store)) == 1)
    assert not published(store)


async def test_an_application_that_does_not_start_is_not_registered() -> None:
    """After startup.failed nothing is in etcd, and nothing was."""
    store = MemoryStore()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no"})

    async with Server(wrapped(app, store, API)).running():
        await anyio.sleep(0.1)
        assert not published(store)
    assert not any("services" in str(op) for _, op in store.calls)


async def test_an_outage_does_not_keep_an_application_from_starting() -> None:
    """With etcd away it starts as ever, and is registered when etcd is back."""
    store = lose(MemoryStore())
    async with Server(wrapped(Starlette(), store, API)).running() as server:
        assert server.answers == ["startup.complete"]
        recover(store)
        await until(lambda: len(published(store)) == 1, 10)
    assert not published(store)


async def test_with_a_coordinator_of_the_callers_own() -> None:
    """`coordinator=` with `register=`: the registration ends with the application, the coordinator stays."""
    store = MemoryStore()
    async with connect(store=store) as tide:
        async with Server(TideoverMiddleware(Starlette(), coordinator=tide, register=API)).running():
            await until(lambda: len(published(store)) == 1)
        assert not published(store)
        assert tide.config.get("a", default="b") == "b"
    server = Server(TideoverMiddleware(Starlette(), coordinator=connect(store=store), register=API))
    async with server.running():
        assert server.answers == ["startup.failed"]
        assert "enter it before" in server.sent[0]["message"]


def test_what_is_no_registration_is_refused() -> None:
    """A URL or a name alone is refused when the application is built."""
    with pytest.raises(TypeError, match="Registration"):
        wrapped(Starlette(), MemoryStore(), [URL])


# Signals --------------------------------------------------------------------------------------------------------


@pytest.fixture
def former() -> Iterator[list[int]]:
    """Set handlers as a server does; return what they heard."""
    heard: list[int] = []
    kept = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    for number in kept:
        signal.signal(number, lambda number, frame: heard.append(number))
    yield heard
    for number, handler in kept.items():
        signal.signal(number, handler)


def test_handlers_are_called_and_put_back(former: list[int]) -> None:
    """Ours tells the loop, calls the server's, and is gone after `stop`; what was set since stays."""
    told: list[str] = []

    async def main() -> None:
        before: Any = signal.getsignal(signal.SIGTERM)
        warning: Any = EarlyWarning(lambda: told.append("told"))
        warning.listen()
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
        assert former == [signal.SIGTERM, signal.SIGINT]
        await asyncio.sleep(0)
        assert told == ["told", "told"]
        later: Any = signal.signal(signal.SIGINT, signal.SIG_IGN)
        assert later is warning
        warning.stop()
        assert signal.getsignal(signal.SIGTERM) is before
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN

    asyncio.run(main())


def test_handlers_wait_until_others_know(former: list[int]) -> None:
    """While callers may still be sent here the server is not told, so that it closes no connection they use."""
    told: list[str] = []
    listed = True

    async def main() -> None:
        nonlocal listed
        warning = EarlyWarning(lambda: told.append("told"), unheard=lambda: listed)
        warning.listen()
        signal.raise_signal(signal.SIGTERM)
        await asyncio.sleep(0.1)
        assert (told, former) == (["told"], [])
        listed = False
        while not former:
            await asyncio.sleep(0.01)
        signal.raise_signal(signal.SIGTERM)
        assert former == [signal.SIGTERM] * 2
        warning.stop()

    asyncio.run(main())


@pytest.mark.parametrize("how", ["patience", "a second signal", "stop"])
def test_no_signal_is_lost(former: list[int], how: str) -> None:
    """The server hears of its end if callers do not: after half a second, at a second signal, at the end."""

    async def main() -> None:
        warning = EarlyWarning(lambda: None, unheard=lambda: True)
        warning.listen()
        signal.raise_signal(signal.SIGTERM)
        assert former == []
        if how == "a second signal":
            signal.raise_signal(signal.SIGINT)
            assert former == [signal.SIGTERM, signal.SIGINT]
        elif how == "stop":
            warning.stop()
        while not former:
            await asyncio.sleep(0.01)
        assert former[0] == signal.SIGTERM
        await asyncio.sleep(0.1)
        assert len(former) == (2 if how == "a second signal" else 1)
        warning.stop()

    asyncio.run(main())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT])
def test_handlers_of_the_event_loop_are_called_as_well(former: list[int], number: signal.Signals) -> None:
    """Servers that use `loop.add_signal_handler`, as hypercorn and gunicorn's uvicorn worker do, hear them too."""
    told: list[str] = []

    async def main() -> None:
        heard = asyncio.Event()
        asyncio.get_running_loop().add_signal_handler(number, heard.set)
        warning = EarlyWarning(lambda: told.append("told"))
        warning.listen()
        os.kill(os.getpid(), number)
        await asyncio.wait_for(heard.wait(), 5)
        await asyncio.sleep(0)
        assert told == ["told"]
        warning.stop()
        os.kill(os.getpid(), number)
        await asyncio.sleep(0.05)
        assert told == ["told"]

    asyncio.run(main())


def test_what_would_end_the_process_is_left_alone(former: list[int]) -> None:
    """A default action is not replaced; nor is anything in another thread, or without asyncio."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    async def main() -> None:
        warning = EarlyWarning(lambda: None)
        warning.listen()
        assert repr(warning) == "<EarlyWarning of nothing>"
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL

    asyncio.run(main())
    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    thread.join()
    EarlyWarning(lambda: None).listen()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


# A real server --------------------------------------------------------------------------------------------------

_SERVED = """
import contextlib, socket, sys
import anyio, uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from tideover import Registration
from tideover.asgi import TideoverMiddleware

async def slow(request):
    print("begun", flush=True)
    while not await anyio.Path(sys.argv[4]).exists():
        await anyio.sleep(0.02)
    return PlainTextResponse("done")

port = int(sys.argv[2])
register = Registration("api", f"http://127.0.0.1:{port}", ttl=60)
middleware = Middleware(TideoverMiddleware, endpoints=[sys.argv[3]], cache_dir=False, register=register)
app = Starlette(routes=[Route("/", slow)], middleware=[middleware])
with contextlib.suppress(KeyboardInterrupt):
    uvicorn.Server(uvicorn.Config(app, access_log=False)).run(sockets=[socket.socket(fileno=int(sys.argv[1]))])
"""


@contextmanager
def uvicorn(folder: Path, endpoint: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run a real uvicorn whose application registers."""
    script = folder / "served.py"
    script.write_text(_SERVED, encoding="utf-8")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        process = subprocess.Popen(
            [sys.executable, str(script), str(listening.fileno()), str(port), endpoint, str(folder / "released")],
            pass_fds=[listening.fileno()],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            yield process, f"http://127.0.0.1:{port}/"
        finally:
            process.kill()
            process.communicate()


def registered(server: EtcdServer) -> bool:
    """Whether anything is in the registry, as etcdctl sees it."""
    return bool(server.etcdctl("get", "--prefix", "/services/", "--keys-only").strip())


@pytest.mark.etcd
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_uvicorn_drains_what_nobody_is_sent_to(
    etcd_server: EtcdServer, tmp_path: Path, number: signal.Signals
) -> None:
    """At the signal the key is gone while a request is in flight; that is answered, and uvicorn ends as ever."""
    with uvicorn(tmp_path, etcd_server.endpoint) as (process, url), ThreadPoolExecutor(1) as pool:
        request = pool.submit(httpx.get, url, timeout=30)
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        while not registered(etcd_server):
            assert process.poll() is None
        began = time.monotonic()
        process.send_signal(number)
        while registered(etcd_server):
            assert time.monotonic() - began < 10
        assert not request.done()
        (tmp_path / "released").touch()
        assert request.result().text == "done"
        _, err = process.communicate(timeout=10)
    assert process.returncode == (0 if number is signal.SIGINT else -number)
    assert "Application shutdown complete" in err
    assert "Traceback" not in err
