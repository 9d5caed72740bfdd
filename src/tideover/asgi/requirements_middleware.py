"""`RequirementsMiddleware`: requirements by path, for frameworks whose endpoints cannot be decorated."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from starlette.types import ASGIApp, Receive, Scope, Send

from tideover.asgi.paths import Paths, is_plain
from tideover.asgi.refusals import find_refusal
from tideover.asgi.requirements import Requirement
from tideover.asgi.rules.requirements import Need


class RequirementsMiddleware:
    """Pure ASGI: lets a request or a WebSocket through only if what its path requires can be had.

        app = RequirementsMiddleware(app, {"/pay": [requires("lock"), requires("config", max_age=60)]})

    Belongs inside `TideoverMiddleware`, or inside what else runs the coordinator.

    Args:
        app: The application.
        requirements: Path to what it requires, and all that is below it; `"/"` means all paths. Of several paths
            that a request is for, all requirements count, and all that are not met are named in one answer. Paths
            are compared as they are written, percent-encoding resolved and several slashes taken for one. Of a
            request that applications may read as another path than is written, because of `/../` in it, or
            because it begins with no slash (`GET http://shop/pay`), the requirements of all paths count.

    Raises:
        TypeError: A path is no string, or a requirement none of `requires` and `leader_only`.
        ValueError: A path does not begin with a slash.
    """

    def __init__(self, app: ASGIApp, requirements: Mapping[str, Iterable[Requirement]]) -> None:
        self.app = app
        self._needs = [
            (Paths("requirements", [path]), tuple(_need(path, each) for each in required))
            for path, required in requirements.items()
        ]

    def __repr__(self) -> str:
        return f"<RequirementsMiddleware for {len(self._needs)} paths of {self.app!r}>"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            plain = is_plain(scope)
            needs = [need for paths, needs in self._needs if not plain or paths.contain(scope) for need in needs]
            refusal = find_refusal(needs) if needs else None
            if refusal is not None:
                await refusal.send(scope, receive, send)
                return
        await self.app(scope, receive, send)


def _need(path: str, requirement: object) -> Need:
    if not isinstance(requirement, Requirement):
        raise TypeError(f"{path!r} must have a list of requires(...) and leader_only(...), not of {requirement!r}")
    return requirement.need
