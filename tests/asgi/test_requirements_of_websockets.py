"""WebSockets with requirements: refused before they are accepted, where the server can do that."""

from __future__ import annotations

import json
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.endpoints import WebSocketEndpoint
from starlette.routing import WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket

from tests.asgi.support import call_websocket, lose, store_with
from tests.support import connected, mock_trio
from tideover import TideoverError, Unavailable
from tideover.asgi import RequirementsMiddleware, TideoverMiddleware, leader_only, problem_handler, requires
from tideover.types import HealthState

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    """Run on trio with a clock that jumps."""
    return mock_trio()


@leader_only("reaper", redirect=True)
@requires("lock")
async def echo(websocket: WebSocket) -> None:
    """Answer one text."""
    await websocket.accept()
    await websocket.send_text(await websocket.receive_text())
    await websocket.close()


class Echo(WebSocketEndpoint):
    """An endpoint by methods."""

    encoding = "text"

    @requires("lock")
    async def on_connect(self, websocket: WebSocket) -> None:
        """Accept."""
        await websocket.accept()

    async def on_receive(self, websocket: WebSocket, data: Any) -> None:
        """Answer."""
        await websocket.send_text(data)


class Late(Echo):
    """One that asks for a lock with each message."""

    async def on_connect(self, websocket: WebSocket) -> None:
        """Accept."""
        await websocket.accept()

    @requires("lock")
    async def on_receive(self, websocket: WebSocket, data: Any) -> None:
        """Answer."""
        await websocket.send_text(data)


async def plain(websocket: WebSocket) -> None:
    """Answer one text, whatever the state of etcd."""
    await websocket.accept()
    await websocket.send_text(await websocket.receive_text())


async def failing(websocket: WebSocket) -> None:
    """Fail before accepting."""
    raise Unavailable("10.0.0.1:2379 is silent")


async def failing_late(websocket: WebSocket) -> None:
    """Fail after accepting."""
    await websocket.accept()
    raise Unavailable("10.0.0.1:2379 is silent")


ROUTES = [
    WebSocketRoute("/echo", echo),
    WebSocketRoute("/class", Echo),
    WebSocketRoute("/late", Late),
    WebSocketRoute("/plain", plain),
    WebSocketRoute("/failing", failing),
    WebSocketRoute("/failing-late", failing_late),
]


def offering(app: ASGIApp) -> ASGIApp:
    """Return an application on a server that can answer a handshake."""

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, "extensions": {"websocket.http.response": {}}}, receive, send)

    return serve


async def ask(path: str, *, denials: bool, outage: bool = True) -> list[dict[str, Any]]:
    """Return what a WebSocket is sent."""
    store = await store_with(a="1")
    app = Starlette(routes=ROUTES, exception_handlers={TideoverError: problem_handler})
    guarded = RequirementsMiddleware(app, {"/plain": [requires("etcd")]})
    async with connected(store) as tide, tide.leader("reaper"):
        if outage:
            lose(store)
            await tide.health.wait_for(HealthState.UNAVAILABLE)
        served = TideoverMiddleware(guarded, coordinator=tide)
        return await call_websocket(offering(served) if denials else served, path, "hello")


@pytest.mark.parametrize("path", ["/echo", "/class", "/late", "/plain"])
async def test_what_is_met_is_served(path: str) -> None:
    """While all is well a WebSocket is what it is without."""
    sent = await ask(path, denials=True, outage=False)
    assert [each["type"] for each in sent][:2] == ["websocket.accept", "websocket.send"]
    assert sent[1]["text"] == "hello"


@pytest.mark.parametrize("path", ["/echo", "/class", "/plain", "/failing"])
async def test_a_handshake_is_answered(path: str) -> None:
    """Where the server offers it, the client gets the 503 with the whole problem, also for a raised error."""
    start, body = await ask(path, denials=True)
    assert (start["type"], start["status"]) == ("websocket.http.response.start", 503)
    assert dict(start["headers"])[b"content-type"] == b"application/problem+json"
    assert int(dict(start["headers"])[b"retry-after"]) >= 1
    found = json.loads(body["body"])
    assert found["instance"] == path
    assert "10.0.0.1" not in body["body"].decode()


@pytest.mark.parametrize("path", ["/echo", "/class", "/plain", "/late", "/failing", "/failing-late"])
async def test_elsewhere_it_is_closed(path: str) -> None:
    """Without that it is accepted and closed with 1013; and so is one that was accepted before."""
    accept, close = await ask(path, denials=False)
    assert accept["type"] == "websocket.accept"
    assert (close["type"], close["code"]) == ("websocket.close", 1013)
    assert "etcd" in close["reason"] or "lock" in close["reason"]
