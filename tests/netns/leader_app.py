"""The application of `leader_server.py`: each of its workers is a candidate as `leader_client.py` is."""

from __future__ import annotations

import ctypes
import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from starlette.applications import Starlette
from starlette.middleware import Middleware

import tideover
from tests.history.recorder import Recorder
from tests.netns.leader_client import FAILSAFE, stand
from tideover.asgi import TideoverMiddleware

ARGUMENTS = "LEADER_SERVER"
_PR_SET_PDEATHSIG = 1


@asynccontextmanager
async def _candidates(app: Starlette) -> AsyncIterator[None]:
    history, name, policies, *_ = json.loads(os.environ[ARGUMENTS])
    with Recorder(history, name) as recorder:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stand, tideover.current(), recorder, policies)
            yield
            tasks.cancel_scope.cancel()


def make_app() -> Starlette:
    """Make a worker's application."""
    # A test that kills the server would leave its workers behind.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    endpoints = json.loads(os.environ[ARGUMENTS])[3:]
    middleware = Middleware(TideoverMiddleware, endpoints=endpoints, cache_dir=False, follow=(), failsafe=FAILSAFE)
    return Starlette(lifespan=_candidates, middleware=[middleware])
