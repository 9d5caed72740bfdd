"""A shop with a new checkout behind a flag in etcd: turned on and off without a restart, and known without etcd.

    pip install 'tideover[openfeature]' uvicorn
    etcd &
    etcdctl put /shop/config/flags/new-checkout true
    uvicorn --app-dir examples feature_flags:app
    curl -i http://127.0.0.1:8000/

Then put `false`, and ask again; stop etcd, and ask again: the flag stays as it was, and after some seconds its
reason is STALE instead of STATIC. `ETCD_ENDPOINTS` names other members, separated by commas.
"""

from __future__ import annotations

import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from openfeature import api
from openfeature.event import EventDetails, ProviderEvent
from openfeature.exception import ProviderNotReadyError
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

import tideover
from tideover.asgi import TideoverMiddleware
from tideover.contrib.openfeature import TideoverProvider

ENDPOINTS = os.environ.get("ETCD_ENDPOINTS", "127.0.0.1:2379").split(",")

log = logging.getLogger("uvicorn.error")
flags = api.get_client()


def tell(details: EventDetails) -> None:
    """Say which flags have changed; OpenFeature calls this in a thread."""
    log.info("changed flags: %s", details.flags_changed)


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    """Let OpenFeature ask the coordinator, which the middleware has entered and will close."""
    api.add_handler(ProviderEvent.PROVIDER_CONFIGURATION_CHANGED, tell)
    with suppress(
        ProviderNotReadyError
    ):  # neither etcd nor a snapshot: until one is there, flags are their defaults
        api.set_provider_and_wait(TideoverProvider(tideover.current()))
    yield
    api.shutdown()


def checkout(request: Request) -> Response:
    """Answer by the flag. This is a synchronous function, in a worker thread: reading a flag is reading memory."""
    new = flags.get_boolean_value("new-checkout", False)
    return PlainTextResponse("the new checkout\n" if new else "the old checkout\n")


async def show(request: Request) -> Response:
    """Answer with the flag, and with why it is as it is."""
    found = await flags.get_boolean_details_async("new-checkout", False)
    return JSONResponse({"value": found.value, "variant": found.variant, "reason": found.reason})


app = Starlette(
    routes=[Route("/", checkout), Route("/flag", show)],
    middleware=[Middleware(TideoverMiddleware, endpoints=ENDPOINTS, namespace="/shop", status_header=True)],
    lifespan=lifespan,
)
