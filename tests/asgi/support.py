"""A server small enough to see through: it runs an application's lifespan, and a fake cluster behind it."""

from __future__ import annotations

import socket
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import anyio
import httpx
import uvicorn
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tideover.clock import Clock, system_boot_time
from tideover.coordinator.coordinator import Coordinator
from tideover.options import Options
from tideover.store.operations import Put
from tideover.testing import MemoryStore


class Server:
    """One run of an application's lifespan, as a server drives it.

    Args:
        app: The application.
        state: Whether the lifespan's scope has a state.

    Attributes:
        sent: What the application has answered, in order.
        error: What the lifespan raised; None if it returned.
        state: What a server hands on to each request; None if it does not.
    """

    def __init__(self, app: ASGIApp, *, state: bool = True) -> None:
        self.state: dict[str, Any] | None = {} if state else None
        self.sent: list[Message] = []
        self.error: BaseException | None = None
        self._app = app
        self._on_send: Callable[[Message], object] = lambda message: None
        self._answered = anyio.Event()
        self._to_app, self._from_server = anyio.create_memory_object_stream[Message](2)

    @property
    def answers(self) -> list[str]:
        """The types of what was sent, without their common beginning."""
        return [message["type"].removeprefix("lifespan.") for message in self.sent]

    def on_send(self, callback: Callable[[Message], object]) -> None:
        """Call back at the moment the application answers."""
        self._on_send = callback

    async def _send(self, message: Message) -> None:
        self._on_send(message)
        self.sent.append(message)
        self._answered.set()

    async def _run(self) -> None:
        scope: Scope = {"type": "lifespan", "asgi": {"version": "3.0", "spec_version": "2.0"}}
        if self.state is not None:
            scope["state"] = self.state
        try:
            await self._app(scope, self._from_server.receive, self._send)
        except Exception as exc:
            self.error = exc
        finally:
            self._answered.set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Server]:
        """Start the application, and stop it in the end; one without a lifespan is served all the same."""
        with self._to_app, self._from_server:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._run)
                await self._to_app.send({"type": "lifespan.startup"})
                await self._answered.wait()
                yield self
                await self._to_app.send({"type": "lifespan.shutdown"})


@asynccontextmanager
async def serving(app: ASGIApp) -> AsyncIterator[httpx.AsyncClient]:
    """Run the application's lifespan, and return a client of it."""
    async with Server(app).running() as server, client_of(app) as client:
        assert server.answers == ["startup.complete"], server.error
        yield client


@asynccontextmanager
async def uvicorn_serving(app: ASGIApp) -> AsyncIterator[httpx.AsyncClient]:
    """Serve an application with a real uvicorn in this event loop, on a port of its own; give a client of it."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = listening.getsockname()[1]
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical"))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server.serve, [listening])
            while not server.started:
                await anyio.sleep(0.02)
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
                yield client
            server.should_exit = True


def client_of(app: ASGIApp) -> httpx.AsyncClient:
    """Return a client that needs no network and no lifespan."""
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://test")


async def store_with(**values: str) -> MemoryStore:
    """Return a cluster that holds configuration; two underscores in a name stand for a slash."""
    store = MemoryStore()
    for name, value in values.items():
        put = Put(f"/config/{name.replace('__', '/')}".encode(), value.encode())
        await store.call(put, member=store.members[0], timeout=1)
    return store


def lose(store: MemoryStore) -> MemoryStore:
    """Take the whole cluster down."""
    store.down = set(store.members)
    store.touch()
    return store


def recover(store: MemoryStore) -> None:
    """Bring the whole cluster back."""
    store.down = set()
    store.touch()


async def degraded_store(cache_dir: Path, *, age: float = 100.0, **values: str) -> MemoryStore:
    """Return a cluster that is down and whose configuration an earlier process has left on disk.

    Args:
        cache_dir: Where.
        age: Seconds since that process was last in sync.
        values: The configuration.
    """
    store = await store_with(**values)
    clock = Clock(boot=lambda: system_boot_time() - age, wall=lambda: time.time() - age)
    options = Options(endpoints=tuple(store.members), cache_dir=cache_dir)
    async with Coordinator(options, store=store, clock=clock):
        pass
    return lose(store)


async def call_websocket(
    app: ASGIApp, path: str, text: str = "", *, headers: Mapping[str, str] = MappingProxyType({})
) -> list[dict[str, Any]]:
    """Open a websocket, send one text, and return what the application sent until it returned."""
    incoming: list[Message] = [
        {"type": "websocket.connect"},
        {"type": "websocket.receive", "text": text},
        {"type": "websocket.disconnect", "code": 1000},
    ]
    sent: list[dict[str, Any]] = []

    async def receive() -> Message:
        return incoming.pop(0)

    async def send(message: Message) -> None:
        sent.append(dict(message))

    scope: Scope = {
        "type": "websocket",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "scheme": "ws",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"test"), *((name.encode(), value.encode()) for name, value in headers.items())],
        "server": ("test", 80),
        "client": ("127.0.0.1", 1),
        "subprotocols": [],
        "state": {},
    }
    receiver: Receive = receive
    sender: Send = send
    await app(scope, receiver, sender)
    return sent
