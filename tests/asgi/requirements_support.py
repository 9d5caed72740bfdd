"""Applications with requirements, on a fake cluster and a mock clock."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.routing import BaseRoute

from tests.asgi.support import client_of
from tests.support import connected
from tideover import Coordinator
from tideover.asgi import TideoverMiddleware
from tideover.store.protocol import Store


@asynccontextmanager
async def service(
    store: Store, routes: Sequence[BaseRoute], **options: Any
) -> AsyncIterator[tuple[httpx.AsyncClient, Coordinator]]:
    """Run an application of Starlette's on a cluster; give a client of it and its coordinator."""
    async with connected(store, **options) as tide:
        app = TideoverMiddleware(Starlette(routes=list(routes)), coordinator=tide)
        async with client_of(app) as client:
            yield client, tide
