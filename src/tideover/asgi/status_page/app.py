"""`status_app`: the answer to each request, and who may see the page."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import quote
from weakref import WeakKeyDictionary

from starlette.types import ASGIApp, Receive, Scope, Send

from tideover import telemetry
from tideover.asgi.lifespan_messages import run_lifespan
from tideover.asgi.paths import route_path
from tideover.asgi.problems import Problem, refuse
from tideover.asgi.status_page.answers import Answer, problem
from tideover.asgi.status_page.query import Query
from tideover.coordinator.coordinator import Coordinator, life_of
from tideover.errors import AmbiguousCoordinator, NotConnected
from tideover.extras import installed, lacking
from tideover.functions import current

if TYPE_CHECKING:
    from tideover.asgi.status_page.pulse import Pulse
    from tideover.asgi.status_page.streams import Streams

Authorize = Callable[[Scope], bool | Awaitable[bool]]

# Finds the coordinator of a request.
Find = Callable[[Scope], Coordinator]

_NOT_FOUND = "not found"
_NOBODY = "no coordinator is open here, or several are and it is not known which one is meant"


def status_app(
    coordinator: Coordinator | None = None,
    *,
    authorize: Authorize | None = None,
    title: str | None = None,
    window: float = 3600.0,
) -> ASGIApp:
    """Return an ASGI application with a coordinator's status for people, kept up to date.

        app.mount("/_tideover/status", status_app(authorize=is_operator))

    `TideoverMiddleware(status="/_tideover/status")` mounts one that is open. Values of keys are never shown. It
    answers GET and HEAD: the page itself, status.json, which is `tide.status()`, and `events`, its changes.

    Args:
        coordinator: Whose status; None means the one that `current` returns at each request.
        authorize: Called with the scope of each request, and awaited if it returns an awaitable; a refused request
            is answered with 404, as if there were no page. Without it every client that reaches the page may see
            it, which is logged once at WARNING.
        title: The name of the service at the top of the page; None means the namespace.
        window: Seconds that the chart shows, from 60 to 3600: what a coordinator remembers.

    Returns:
        The application, to be mounted.

    Raises:
        ImportError: jinja2 is not installed; the extra `status` has it.
        TypeError: `coordinator` is no coordinator, or `authorize` cannot be called.
        ValueError: `window` is out of range.

    When degraded:
        The page shows the outage. No request waits for etcd.
    """
    return StatusApp(coordinator, authorize=authorize, title=title, window=window)


class StatusApp:
    """The application of `status_app`, which documents the arguments and what they raise."""

    def __init__(
        self,
        coordinator: Coordinator | None = None,
        *,
        authorize: Authorize | None = None,
        title: str | None = None,
        window: float = 3600.0,
    ) -> None:
        if coordinator is not None and not isinstance(coordinator, Coordinator):
            raise TypeError(f"coordinator must be what connect() returns, not {coordinator!r}")
        if authorize is not None and not callable(authorize):
            raise TypeError(f"authorize must be a function of the scope, not {authorize!r}")
        if not 60 <= window <= 3600:
            raise ValueError(f"window must be from 60 to 3600 seconds, not {window!r}")
        if needs := lacking("the status page", "jinja2", install="'tideover[status]'"):
            raise ImportError(needs)
        # Here, because it takes a while, and not within a request.
        from tideover.asgi.status_page.pulse import Pulse
        from tideover.asgi.status_page.templates import ICONS

        self._new_pulse = partial(Pulse, title=title, window=float(window))
        self._icons = ICONS
        self._find: Find = lambda _: current() if coordinator is None else coordinator
        self._shown = coordinator or "the current coordinator"
        self._authorize = authorize
        self._pulses: WeakKeyDictionary[Coordinator, Pulse] = WeakKeyDictionary()
        self._streams = _streams()
        if authorize is None:
            telemetry.page_open()

    def __repr__(self) -> str:
        return f"<StatusApp of {self._shown!r}>"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request about the coordinator that was given, or the present one."""
        if scope["type"] == "lifespan":
            await run_lifespan(receive, send)
        else:
            await self.answer(self._find, route_path(scope), scope, receive, send)

    async def answer(self, find: Find, path: str, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request for `path`, such as `/status.json`, for the coordinator that `find` returns."""
        found = await self._answer(find, path.strip("/"), scope)
        if isinstance(found, Problem):
            await refuse(found, scope, receive, send)
        elif isinstance(found, Answer):
            await found(scope, send)
        else:
            await found(scope, receive, send)

    async def _admits(self, scope: Scope) -> bool:
        if self._authorize is None:
            return True
        answer = self._authorize(scope)
        # Only a true answer admits: the None of a forgotten `return` does not.
        return bool(await answer if inspect.isawaitable(answer) else answer)

    def _pulse(self, tide: Coordinator) -> Pulse:
        if tide not in self._pulses:
            self._pulses[tide] = self._new_pulse()
        return self._pulses[tide]

    async def _answer(self, find: Find, name: str, scope: Scope) -> Answer | ASGIApp | Problem:
        if scope["type"] != "http" or not await self._admits(scope):
            return problem(404, _NOT_FOUND)
        if scope["method"] not in ("GET", "HEAD"):
            return problem(405, "GET and HEAD are answered here", allow="GET, HEAD")
        try:
            tide = find(scope)
        except (NotConnected, AmbiguousCoordinator):
            return problem(503, _NOBODY, retry_after=5)
        if life_of(tide).loop is None:
            return problem(503, "the coordinator has not been entered", retry_after=5)
        if name == "events" and self._streams is not None:
            return self._stream(self._streams, tide, scope)
        if not name:
            live = self._streams is not None
            return self._pulse(tide).page(tide, Query.of(scope), base=_base(scope), live=live)
        if name == "status.json":
            return _conditional(scope, self._pulse(tide).beat(tide).as_json())
        if name in self._icons:
            return Answer(200, self._icons[name], "image/svg+xml", {"cache-control": "max-age=3600"})
        return problem(404, _NOT_FOUND)

    def _stream(self, streams: Streams, tide: Coordinator, scope: Scope) -> Answer | ASGIApp | Problem:
        if streams.full:
            return problem(503, "too many viewers, or the process is about to end", retry_after=5)
        if scope["method"] == "HEAD":
            return Answer(200, media_type="text/event-stream")
        return partial(streams, next_frame=partial(self._pulse(tide).frame, tide, Query.of(scope)))


def _streams() -> Streams | None:
    """Return the streams; None without the extra, where the page polls instead."""
    if not installed("sse_starlette"):
        return None
    from tideover.asgi.status_page.streams import Streams

    return Streams()


def _base(scope: Scope) -> str:
    """Return the base of the page's links, relative to the page, so that no proxy's rewriting breaks them."""
    last = scope["path"].rpartition("/")[2]
    return f"./{quote(last, safe='')}/" if last else ""


def _conditional(scope: Scope, answer: Answer) -> Answer:
    """Return the answer, or that nothing has changed since the client asked last."""
    asked = b",".join(value for name, value in scope["headers"] if name == b"if-none-match")
    tags = {tag.strip() for tag in asked.decode("latin-1").split(",")}
    return replace(answer, status=304, body=b"") if answer.headers["etag"] in tags else answer
