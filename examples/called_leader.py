"""Two processes of which one leads, and a caller whose writes go to whichever it is, without a load balancer.

    etcd &
    python examples/called_leader.py

Both run with uvicorn, as candidates that say where they are. The caller posts to `http://reaper.leader/write` ten
times a second. End the leader with `kill`: it resigns, and the next write is the other one's. Use `kill -9`, and
writes wait some seconds until the other one is elected. At the most one fails: that which was under way may have
been done. Stop etcd: the leader is called as long as its term lasts. `ETCD_ENDPOINTS` names other members,
separated by commas.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections import Counter

import anyio
import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

import tideover
from tideover import Leading
from tideover.asgi import TideoverMiddleware
from tideover.contrib.httpx import DiscoveryTransport

ENDPOINTS = os.environ.get("ETCD_ENDPOINTS", "127.0.0.1:2379").split(",")


def say(text: str) -> None:
    """Print a line."""
    print(text, flush=True)  # noqa: T201  # a program's output


# One candidate --------------------------------------------------------------------------------------------------


async def reap() -> None:
    """Work that one process of all does."""
    await anyio.sleep_forever()


async def write(request: Request) -> PlainTextResponse:
    """Take a write and say who this is; the middleware lets those alone through that are for the leader here."""
    return PlainTextResponse(f"{os.getpid()}")


def serve() -> None:
    """Serve on a free port, as a candidate with its URL for an address."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        leading = {"reaper": Leading(reap, ttl=5, address=url)}
        middleware = Middleware(TideoverMiddleware, endpoints=ENDPOINTS, while_leading=leading)
        app = Starlette(routes=[Route("/write", write, methods=["POST"])], middleware=[middleware])
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        server.run(sockets=[listening])


# The caller -----------------------------------------------------------------------------------------------------


async def call() -> None:
    """Write all the time, and say once a second who took that."""
    async with (
        tideover.connect(*ENDPOINTS) as tide,
        # A write waits for the next leader as long as it may take to connect.
        httpx.AsyncClient(transport=DiscoveryTransport(tide), timeout=20) as client,
    ):
        while True:
            answers: Counter[str] = Counter()
            for _ in range(10):
                try:
                    answers[(await client.post("http://reaper.leader/write")).text] += 1
                except httpx.HTTPError as exc:
                    answers[f"FAILED: {exc!r}"] += 1
                await asyncio.sleep(0.1)
            by = ", ".join(f"{who}: {count}" for who, count in sorted(answers.items()))
            say(f"etcd {tide.health.state}; {by}")


async def main() -> None:
    """Run everything until Ctrl-C or SIGTERM."""
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    command = [sys.executable, __file__, "serve"]
    candidates = [await asyncio.create_subprocess_exec(*command) for _ in range(2)]
    say(f"candidates run as {candidates[0].pid} {candidates[1].pid}")
    calling = asyncio.create_task(call())
    stopping = asyncio.create_task(stopped.wait())
    try:
        await asyncio.wait({calling, stopping}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        calling.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await calling
        for candidate in candidates:
            if candidate.returncode is None:
                candidate.terminate()
        for candidate in candidates:
            await candidate.wait()


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        serve()
    else:
        asyncio.run(main())
