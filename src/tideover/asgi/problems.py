"""Problems as of RFC 9457: makes the answers to requests that are not served.

A client of HTTP gets `application/problem+json`, or the same in plain text if it prefers that. A WebSocket is
refused before it is accepted, with the same answer, where the server can do that (ASGI's denial response).
Elsewhere it is accepted and closed with 1013, "try again later": an earlier close is a 403 on every server, which
would tell the client never to come back.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from urllib.parse import quote

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

# Where the documentation is read; `[project.urls]` and mkdocs' `site_url` say the same.
DOCS = "https://tideover.readthedocs.io/en/stable/"

# RFC 6455's registry: the server is overloaded, or otherwise cannot serve this client now.
TRY_AGAIN_LATER = 1013
# The room in a close frame, in bytes, and the most of a path that is repeated, in characters.
_REASON = 123
_INSTANCE = 500

_JSON = ("application/problem+json", "application/json")
_TEXT = ("text/plain",)
_QUALITY = re.compile(r"0(\.[0-9]{0,3})?|1(\.0{0,3})?")


@dataclass(frozen=True, slots=True)
class Problem:
    """Why a request is not served.

    Attributes:
        title: The kind of problem in a few words; empty means the status's own phrase.
        see: The section of the documentation that explains the problem, such as
            `how-to/use-locks/#when-etcd-is-away`; empty where the status alone says it (`about:blank`).
        retry_after: Whole seconds after which to try again; None if unknown.
        outage_id: The present outage's id, empty if there is none; None where outages do not matter.
        requirement: The unmet requirement; None if the request has none.
    """

    status: int
    detail: str
    title: str = ""
    see: str = ""
    retry_after: int | None = None
    outage_id: str | None = None
    requirement: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    more: Mapping[str, object] = field(default_factory=dict)

    @property
    def headline(self) -> str:
        """The title, or the status's own phrase."""
        return self.title or HTTPStatus(self.status).phrase

    def members(self, path: str | None) -> dict[str, object]:
        """Return the members of the JSON object, without those that are None."""
        found = {
            "type": DOCS + self.see if self.see else "about:blank",
            "title": self.headline,
            "status": self.status,
            "detail": self.detail,
            # Two slashes would be another host's address.
            "instance": path and quote("/" + path[:_INSTANCE].lstrip("/"), errors="replace"),
            "outage_id": self.outage_id,
            "requirement": self.requirement,
            "retry_after": self.retry_after,
            **self.more,
        }
        return {name: value for name, value in found.items() if value is not None}

    def response(self, scope: Scope | None) -> Response:
        """Return the answer to a request, or to the handshake of a WebSocket."""
        scope = scope or {"headers": ()}
        if prefers_text(Headers(scope=scope).get("accept")):
            body, media_type = f"{self.status} {self.headline}: {self.detail}\n", "text/plain"
        else:
            body, media_type = json.dumps(self.members(scope.get("path"))), "application/problem+json"
        headers = {**self.headers, "Cache-Control": "no-store"}
        if self.retry_after is not None:
            headers["Retry-After"] = str(self.retry_after)
        response = Response(body.encode(errors="backslashreplace"), self.status, headers, media_type)
        if scope.get("method") == "HEAD":
            # The fields are those of GET, Content-Length among them.
            response.body = b""
        return response


async def refuse(problem: Problem, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer a request with a problem, or refuse a WebSocket of which nothing has been received yet."""
    if scope["type"] == "websocket":
        await refuse_websocket(problem, WebSocket(scope, receive, send))
    else:
        await problem.response(scope)(scope, receive, send)


async def refuse_websocket(problem: Problem, websocket: WebSocket) -> None:
    """Refuse a WebSocket, or close it if it has been accepted."""
    accepted = websocket.application_state is WebSocketState.CONNECTED
    if not accepted and "websocket.http.response" in (websocket.scope.get("extensions") or {}):
        await websocket.send_denial_response(problem.response(websocket.scope))
        return
    # The client may go at any moment.
    with suppress(WebSocketDisconnect, OSError):
        if not accepted:
            # Browsers fail a connection that answers none of the subprotocols they have offered.
            offered = websocket.scope.get("subprotocols") or [None]
            await websocket.accept(subprotocol=offered[0])
        reason = problem.detail.encode(errors="backslashreplace")[:_REASON].decode(errors="ignore")
        await websocket.close(TRY_AGAIN_LATER, reason)


def prefers_text(accept: str | None) -> bool:
    """Return whether a client prefers plain text to JSON."""
    if not accept or "text" not in accept.lower():
        return False
    ranges = dict(filter(None, map(_media_range, accept.split(","))))
    return _quality(ranges, _TEXT) > _quality(ranges, _JSON)


def _media_range(text: str) -> tuple[str, float] | None:
    name, *parameters = (part.strip().lower() for part in text.split(";"))
    weight = next((value for key, _, value in (p.partition("=") for p in parameters) if key.strip() == "q"), "1")
    return (name, float(weight)) if _QUALITY.fullmatch(weight.strip()) else None


def _quality(ranges: Mapping[str, float], offered: tuple[str, ...]) -> float:
    """Return the best weight of some media types; for each the most specific range counts."""
    wildcards = [f"{offered[0].partition('/')[0]}/*", "*/*"]
    named = [ranges[name] for name in offered if name in ranges]
    return max(named) if named else next((ranges[name] for name in wildcards if name in ranges), 0.0)
