"""A web server of two worker processes, each of which is a candidate as `leader_client.py` is.

Run as: python leader_server.py HISTORY NAME POLICY,POLICY,... ENDPOINT...

uvicorn replaces a worker that has died, or that has not answered it for 5 s.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware

import tideover
from tests.history.recorder import Recorder
from tests.netns.leader_client import FAILSAFE, stand
from tideover.asgi import TideoverMiddleware

_ARGUMENTS = "LEADER_SERVER"
_PR_SET_PDEATHSIG = 1


@asynccontextmanager
async def _candidates(app: Starlette) -> AsyncIterator[None]:
    history, name, policies, *_ = json.loads(os.environ[_ARGUMENTS])
    with Recorder(history, name) as recorder:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stand, tideover.current(), recorder, policies)
            yield
            tasks.cancel_scope.cancel()


def make_app() -> Starlette:
    """Make a worker's application."""
    # A test that kills the server would leave its workers behind.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    endpoints = json.loads(os.environ[_ARGUMENTS])[3:]
    middleware = Middleware(TideoverMiddleware, endpoints=endpoints, cache_dir=False, follow=(), failsafe=FAILSAFE)
    return Starlette(lifespan=_candidates, middleware=[middleware])


if __name__ == "__main__":
    os.environ[_ARGUMENTS] = json.dumps(sys.argv[1:])
    uvicorn.run(
        "tests.netns.leader_server:make_app",
        factory=True,
        workers=2,
        host="0.0.0.0",
        port=0,
        log_level="warning",
    )
