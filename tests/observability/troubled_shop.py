"""The shop, instrumented as in `examples/observability`, and with what troubles it: what each alert is for.

Environment: ETCD_ENDPOINTS, PUBLIC_URL, CACHE_DIR; what instrumentation.py and OpenTelemetry's SDK read.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Literal

from fastapi import FastAPI
from observability.instrumentation import instrument
from shop import make_app

import tideover
from tideover import LeadershipLost, LockConflict, LockTimeout, Registration, TideoverError

OnOutage = Literal["step_down", "stay"]

_tasks: set[asyncio.Task[None]] = set()


async def lead(name: str, on_outage: OnOutage) -> None:
    """Lead an election again and again; its ttl is short, so that no test waits long for a second leader."""
    while True:
        try:
            async with tideover.current().leader(name, ttl=3, on_outage=on_outage):
                await asyncio.sleep(3600)
        except LeadershipLost:
            await asyncio.sleep(0.1)


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
        _tasks.add(asyncio.create_task(lead(name, on_outage)))

    @app.post("/trouble/block")
    async def block(seconds: float) -> None:
        time.sleep(seconds)  # that is the trouble

    @app.post("/trouble/hold/{name}")
    async def hold(name: str, seconds: float) -> str:
        try:
            async with tideover.current().lock(name, on_outage="local") as held:
                await asyncio.sleep(seconds)
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
        async def fail() -> None:
            raise ZeroDivisionError

        await tideover.current().run_while_leading("troubled", fail)

    @app.post("/trouble/task")
    async def task() -> None:
        failures = [ZeroDivisionError()]

        async def fail_once() -> None:
            if failures:
                raise failures.pop()

        tideover.current()._home.start("trouble", fail_once)

    return app


app = make_troubled()
instrument(app)
