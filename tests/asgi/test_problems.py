"""A problem is one answer in three forms: JSON, text, and the refusal of a WebSocket."""

from __future__ import annotations

import json
from typing import Any

import anyio
import httpx
import pytest
from starlette.types import Message, Receive, Scope, Send

from tests.support import mock_trio
from tideover.asgi.problems import DOCS, Problem, prefers_text, refuse

AWAY = Problem(
    503,
    "etcd has no quorum",
    title="Not now",
    see="explanation/errors/#errors",
    retry_after=7,
    outage_id="0123456789abcdef",
    requirement="lock",
)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, object]]:
    """Run on trio with a clock that jumps."""
    return mock_trio()


async def ask(problem: Problem, method: str = "GET", path: str = "/pay", **headers: str) -> httpx.Response:
    """Return how a service answers that refuses everything with a problem."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await refuse(problem, scope, receive, send)

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as client:
        return await client.request(method, path, headers=headers)


async def handshake(problem: Problem, **scope: Any) -> list[Message]:
    """Return what is sent to a client that asks for a WebSocket."""
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    await refuse(problem, {"type": "websocket", "path": "/ws", "headers": [], **scope}, receive, send)
    return sent


@pytest.mark.anyio
async def test_a_problem_is_json() -> None:
    """All that is known stands in the object, and how long to wait in the field as well."""
    answer = await ask(AWAY)
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.headers["retry-after"], answer.headers["cache-control"]) == ("7", "no-store")
    assert answer.json() == {
        "type": DOCS + "explanation/errors/#errors",
        "title": "Not now",
        "status": 503,
        "detail": "etcd has no quorum",
        "instance": "/pay",
        "outage_id": "0123456789abcdef",
        "requirement": "lock",
        "retry_after": 7,
    }


@pytest.mark.anyio
async def test_what_does_not_matter_is_left_out() -> None:
    """A plain 405 says what HTTP says, and carries the fields it is given."""
    answer = await ask(Problem(405, "only GET", headers={"Allow": "GET, HEAD"}), "POST", "/not/é")
    assert answer.headers["allow"] == "GET, HEAD"
    assert "retry-after" not in answer.headers
    assert answer.json() == {
        "type": "about:blank",
        "title": "Method Not Allowed",
        "status": 405,
        "detail": "only GET",
        "instance": "/not/%C3%A9",
    }
    assert Problem(404, "").members("//other.host/\udc80?#\n")["instance"] == "/other.host/%3F%3F%23%0A"
    assert len(str(Problem(404, "").members("/" * 9_000 + "a" * 9_000)["instance"])) <= 500


@pytest.mark.anyio
async def test_text_for_who_prefers_it() -> None:
    """A client that prefers text gets a line of it, with the same fields."""
    answer = await ask(AWAY, accept="text/plain")
    assert answer.text == "503 Not now: etcd has no quorum\n"
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["retry-after"] == "7"


@pytest.mark.anyio
async def test_a_head_has_no_body() -> None:
    """HEAD gets the fields of GET, and nothing else."""
    answer = await ask(AWAY, "HEAD")
    assert answer.content == b""
    assert answer.headers["content-length"] == str(len((await ask(AWAY)).content))


@pytest.mark.anyio
async def test_any_text_can_be_answered() -> None:
    """A surrogate neither ends the answer nor leaves it."""
    odd = Problem(503, "\ud800\x1b\r\n")
    assert (await ask(odd)).json()["detail"] == "\ud800\x1b\r\n"
    assert (await ask(odd, accept="text/plain")).status_code == 503


@pytest.mark.parametrize(
    ("accept", "text"),
    [
        (None, False),
        ("", False),
        ("*/*", False),
        ("text/plain", True),
        ("TEXT/PLAIN", True),
        ("text/*", True),
        ("text/plain, */*", False),
        ("text/plain, */*;q=0.1", True),
        ("application/json, text/plain, */*", False),
        ("text/plain;q=0.5, application/json;q=0.4", True),
        ("text/plain;q=0.5, application/problem+json", False),
        ("text/plain; q=0.5, application/*; q=0.6", False),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", False),
        ("text/plain;q=nan", False),
        ("text/plain;q=9", False),
        ("text/plain;q=0", False),
        (";;;=,text/plain;charset=utf-8", True),
    ],
)
def test_what_a_client_prefers(accept: str | None, text: bool) -> None:
    """Weights and wildcards count as RFC 9110 says; a tie and what is malformed mean JSON."""
    assert prefers_text(accept) is text


@pytest.mark.anyio
async def test_a_websocket_is_denied() -> None:
    """Where the server offers it, the handshake is answered like any request."""
    start, body = await handshake(AWAY, extensions={"websocket.http.response": {}})
    assert (start["type"], start["status"]) == ("websocket.http.response.start", 503)
    assert (b"retry-after", b"7") in start["headers"]
    assert json.loads(body["body"])["instance"] == "/ws"


@pytest.mark.anyio
@pytest.mark.parametrize("scope", [{}, {"extensions": None}, {"extensions": {}, "subprotocols": ["chat", "x"]}])
async def test_a_websocket_is_closed(scope: dict[str, Any]) -> None:
    """Elsewhere it is accepted, in a subprotocol that it offered, and closed with 1013."""
    accept, close = await handshake(Problem(503, "ü" * 100), **scope)
    assert accept["type"] == "websocket.accept"
    assert accept["subprotocol"] == ("chat" if scope.get("subprotocols") else None)
    assert close == {"type": "websocket.close", "code": 1013, "reason": "ü" * 61}


@pytest.mark.anyio
async def test_a_client_that_has_gone_is_nobodys_error() -> None:
    """A WebSocket whose client went away meanwhile needs no refusal."""

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        await anyio.lowlevel.checkpoint()
        raise OSError

    await refuse(AWAY, {"type": "websocket", "path": "/", "headers": []}, receive, send)
