"""A pytest plugin for the suites of others: every application that their test clients are given is wrapped.

Around it is each middleware of tideover's, with an etcd that refuses connections: what their tests say of an
application must be true of it all the same.
"""

from __future__ import annotations

import tempfile
from typing import Any

import starlette.testclient

from tideover.asgi import FencingMiddleware, RequirementsMiddleware, TideoverMiddleware, requires

# Nobody listens there.
_DEAD = "127.0.0.1:1"
# Starlette's tests look out for folders that are made within a request.
_folder = tempfile.mkdtemp(prefix="tideover-suite-")

_init = starlette.testclient.TestClient.__init__


def wrapped(app: Any) -> Any:
    """Return an application with all of the middleware around it."""
    guarded = RequirementsMiddleware(app, {"/guarded-by-tideover": [requires("lock")]})
    fenced = FencingMiddleware(guarded, methods=("FENCED",))
    return TideoverMiddleware(fenced, endpoints=[_DEAD], cache_dir=_folder, start_timeout=1.0, status_header=True)


def _wrapping_init(self: Any, app: Any, *args: Any, **options: Any) -> None:
    _init(self, app, *args, **options)
    # What it has made of the application: one of ASGI 2 is adapted by now.
    self.app = self._transport.app = wrapped(self.app)
    wrappings.append(app)


wrappings: list[object] = []


def pytest_configure(config: Any) -> None:
    """Begin to wrap."""
    starlette.testclient.TestClient.__init__ = _wrapping_init  # type: ignore[method-assign]


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say how many were wrapped, so that none is not taken for success."""
    terminalreporter.write_line(f"tideover: {len(wrappings)} applications were wrapped")
