"""The page's events: the only place that imports sse_starlette, which changes uvicorn when it is imported.

A stream ends by itself after a while, and before the process does: a stream that is cut off is an error in the
server's log, and one that goes on keeps gunicorn's and granian's workers alive.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import anyio
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.types import Receive, Scope, Send

from tideover.asgi.shutdown import EarlyWarning
from tideover.asgi.status_page.answers import ALWAYS
from tideover.asgi.status_page.pulse import EVERY, Frame

# The most streams at once.
MOST = 50
# Seconds until a stream ends by itself, and the browser opens another.
LIFETIME = 60.0
# Seconds between two events of ages; a browser that has heard nothing for longer than 15 says so.
PING = 10
# Seconds that the last event may take, and that a browser may take for any event.
_GRACE = 2.0
_SEND_TIMEOUT = 10.0
# Seconds after the sign of the process's end in which no stream begins.
_QUIET = 30.0
# Milliseconds after which the browser comes back.
_COMES_BACK = 1000


class Streams:
    """The streams of one page, bounded in number and in time."""

    def __init__(self) -> None:
        self._open = 0
        self._ending = anyio.Event()
        self._warning = EarlyWarning(self._end)
        self._ended_at = 0.0

    @property
    def full(self) -> bool:
        """Whether no other may begin."""
        if self._ending.is_set() and (self._open or anyio.current_time() - self._ended_at < _QUIET):
            return True
        return self._open >= MOST

    async def __call__(
        self, scope: Scope, receive: Receive, send: Send, *, next_frame: Callable[[], Frame]
    ) -> None:
        """Send events until the browser has gone, the process is asked to end, or `LIFETIME` is over."""
        if not self._open:
            self._ending = anyio.Event()
            self._warning = EarlyWarning(self._end)
            self._warning.listen()
        self._open += 1
        try:
            response = EventSourceResponse(
                self._events(next_frame),
                headers={**ALWAYS},
                ping=PING,
                ping_message_factory=lambda: _ages(next_frame()),
                send_timeout=_SEND_TIMEOUT,
                shutdown_event=self._ending,
                shutdown_grace_period=_GRACE,
            )
            # It is the server's affair, and forbidden in HTTP/2.
            del response.headers["connection"]
            await response(scope, receive, send)
        except TimeoutError:
            # The browser takes nothing any more. The server closes its connection.
            pass
        finally:
            self._open -= 1
            self._ended_at = anyio.current_time()
            if not self._open:
                self._warning.stop()

    def _end(self) -> None:
        # Called by the event loop, where anyio knows of none.
        self._ending.set()

    async def _events(self, next_frame: Callable[[], Frame]) -> AsyncIterator[ServerSentEvent]:
        ending, end = self._ending, anyio.current_time() + LIFETIME
        sent: dict[str, str] = {}
        # With an event: clients that are no browsers take a block without one for an event that is empty.
        retry: int | None = _COMES_BACK
        while not ending.is_set() and anyio.current_time() < end:
            frame = next_frame()
            changed = [each for each in frame.fragments.values() if sent.get(each.name) != each.version]
            for fragment in changed:
                yield ServerSentEvent(fragment.html, event=fragment.name, retry=retry)
                retry = None
                sent[fragment.name] = fragment.version
            if changed:
                yield _ages(frame)
            with anyio.move_on_after(EVERY):
                await ending.wait()


def _ages(frame: Frame) -> ServerSentEvent:
    return ServerSentEvent(frame.ages, event="ages")
