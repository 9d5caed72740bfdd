"""The page at a path of an application that it is no part of."""

from __future__ import annotations

from starlette.types import Receive, Scope, Send

from tideover.asgi.status_page.app import StatusApp, path_within
from tideover.coordinator.coordinator import Coordinator


class StatusMount:
    """A status page in front of an application.

    Args:
        path: Where; it begins with a slash and does not end with one.

    Raises:
        ImportError: The extra `status` is not installed.
        ValueError: It is no such path.
    """

    def __init__(self, path: str) -> None:
        if not path.startswith("/") or path.endswith("/"):
            raise ValueError(f"status must be a path such as '/_tideover/status', not {path!r}")
        self._path = path
        self._app = StatusApp()

    def __repr__(self) -> str:
        """Show where it is."""
        return f"<StatusMount {self._path}>"

    def scope_of(self, scope: Scope) -> Scope | None:
        """Return the scope of a request to the page; None if it is one to the application."""
        path = path_within(scope)
        if scope["type"] != "http" or not (path == self._path or path.startswith(f"{self._path}/")):
            return None
        root = scope.get("root_path", "")
        return {**scope, "path": root + path, "root_path": root + self._path}

    async def __call__(self, coordinator: Coordinator, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request to the page.

        Args:
            coordinator: Whose status.
            scope: The request's, as `scope_of` returns it.
            receive: The server's.
            send: The server's.
        """
        await self._app.serve(coordinator, scope, receive, send)
