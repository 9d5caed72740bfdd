"""The shop, instrumented as in `examples/observability`, and with what troubles it: what each alert is for.

Environment: ETCD_ENDPOINTS, PUBLIC_URL, CACHE_DIR; what instrumentation.py and OpenTelemetry's SDK read.
"""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Literal

import anyio
from fastapi import FastAPI
from observability.instrumentation import instrument
from shop import make_app

import tideover
from tideover import Leading, LockConflict, LockTimeout, Registration, TideoverError

OnOutage = Literal["step_down", "stay"]


def failing_once() -> Callable[[], Awaitable[None]]:
    """Return a function that raises, and does nothing from then on."""
    failures = [ZeroDivisionError()]

    async def fail() -> None:
        if failures:
            raise failures.pop()

    return fail


def make_troubled() -> FastAPI:
    """Return the application."""
    app = make_app(
        endpoints=os.environ["ETCD_ENDPOINTS"].split(","),
        # The members tell addresses of their own, which go around a link that is cut.
        sync_members=False,
        register=Registration("shop", os.environ["PUBLIC_URL"]),
        cache_dir=Path(os.environ["CACHE_DIR"]),
    )

    @app.post("/trouble/lead/{name}")
    async def candidate(name: str, on_outage: OnOutage) -> None:
        # A short ttl, so that no test waits long for a second leader.
        leading = Leading(anyio.sleep_forever, ttl=5, on_outage=on_outage)
        tideover.current().job(name, leading).start()

    @app.post("/trouble/block")
    async def block(seconds: float) -> None:
        time.sleep(seconds)  # that is the trouble

    @app.post("/trouble/hold/{name}")
    async def hold(name: str, seconds: float) -> str:
        try:
            async with tideover.current().lock(name, on_outage="local") as held:
                await anyio.sleep(seconds)
                return held.mode
        except LockConflict:
            return "conflict"

    @app.post("/trouble/wait/{name}")
    async def wait(name: str) -> str:
        try:
            async with tideover.current().lock(name), tideover.current().lock(name, timeout=0.01):
                return "both"
        except LockTimeout:
            return "timeout"

    @app.post("/trouble/fetch/{key}")
    async def fetch(key: str) -> str:
        try:
            return (await tideover.current().config.fetch(key, default="")).source
        except TideoverError as exc:
            return type(exc).__name__

    @app.post("/trouble/job")
    async def job() -> None:
        await tideover.current().run_while_leading("troubled", failing_once())

    @app.post("/trouble/task")
    async def task() -> None:
        tideover.current()._parts.client.home.start("trouble", failing_once())

    return app


app = make_troubled()
instrument(app)
