"""`FencingMiddleware`: refuses requests of a lock's former holders."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from tideover.asgi.problems import Problem, refuse
from tideover.fencing.token import FENCING_FIELD, Fence
from tideover.shown import quoted, shown

SEE = "how-to/fence-a-resource/#what-a-client-is-told"

Admit = Callable[[Fence], bool | Awaitable[bool]]

_FIELD = FENCING_FIELD.lower().encode()


class FenceMemory:
    """Remembers the largest token of each lock, in this process: for one process, or as a model of what a
    database does.

    Called with a fence, returns whether it is at least as large as all before. Names are never forgotten, because
    a former holder would then pass: about 200 bytes for each lock, 40 MB for 200,000.
    """

    def __init__(self) -> None:
        self._largest: dict[str, tuple[int, int]] = {}

    def __repr__(self) -> str:
        return f"<FenceMemory of {len(self._largest)} locks>"

    def __call__(self, fence: Fence) -> bool:
        """Return whether a fence may pass, and remember it if so."""
        shown = fence.epoch, fence.token
        if shown < self._largest.get(fence.lock, (0, 0)):
            return False
        self._largest[fence.lock] = shown
        return True


class FencingMiddleware:
    """Pure ASGI: lets a request through only if its fencing token is as large as any that came before.

    The request carries `held.headers()`. One without that field is answered with 428, a malformed one with 400,
    and one from a former holder with 412, each as problem+json (RFC 9457).

    Args:
        app: The application.
        admit: Called with each `Fence`, sync or async; says whether it may pass. It must compare and remember
            `(epoch, token)` in one step, where all processes of the service see it. None remembers in this
            process only, and never forgets a name that a request has: about 200 bytes each.
        lock: The one lock that protects this service; None takes whichever the request names.
        methods: The methods that are fenced.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        admit: Admit | None = None,
        lock: str | None = None,
        methods: tuple[str, ...] = ("POST", "PUT", "PATCH", "DELETE"),
    ) -> None:
        self.app = app
        self._admit = admit or FenceMemory()
        self._lock = lock
        self._methods = methods

    def __repr__(self) -> str:
        """Show which lock protects what."""
        return f"<FencingMiddleware by {self._lock or 'any lock'} of {self.app!r}>"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] not in self._methods:
            await self.app(scope, receive, send)
            return
        problem = await self._find_problem(scope)
        if problem is not None:
            await refuse(problem, scope, receive, send)
            return
        await self.app(scope, receive, send)

    async def _find_problem(self, scope: Scope) -> Problem | None:
        """Return why a request is refused; None to let it pass."""
        values = [value for name, value in scope["headers"] if name == _FIELD]
        if not values:
            return Problem(428, f"this service is fenced: send the field {FENCING_FIELD}", see=SEE)
        try:
            fence = Fence.from_field(b", ".join(values).decode("latin-1"))
        except ValueError as exc:
            return Problem(400, shown(str(exc)), see=SEE)
        if self._lock is not None and fence.lock != self._lock:
            text = f"this service is protected by lock {self._lock!r}, not by {quoted(fence.lock)}"
            return Problem(412, text, see=SEE)
        admitted = self._admit(fence)
        if inspect.isawaitable(admitted):
            admitted = await admitted
        if not admitted:
            text = f"lock {quoted(fence.lock)} has had a later holder than token {fence.token}"
            return Problem(412, text, see=SEE)
        return None
