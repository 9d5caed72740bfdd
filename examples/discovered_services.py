"""Two services, and a shop that calls them by name: one is killed while etcd is away, and no caller notices.

    etcd &
    python examples/discovered_services.py

Two instances of `billing` run as processes of their own, with uvicorn, and register themselves. The shop asks
`http://billing.service/` fifty times a second. Stop etcd, wait for "unavailable", and kill -9 one of the two
processes: the list of endpoints is frozen, so the dead one stays in it, and still no call fails.
`ETCD_ENDPOINTS` names other members, separated by commas.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections import Counter

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

import tideover
from tideover import Registration
from tideover.asgi import TideoverMiddleware
from tideover.contrib.httpx import DiscoveryTransport

ENDPOINTS = os.environ.get("ETCD_ENDPOINTS", "127.0.0.1:2379").split(",")


def say(text: str) -> None:
    """Print a line."""
    print(text, flush=True)  # noqa: T201  # a program's output


# One instance of billing ----------------------------------------------------------------------------------------


async def invoice(request: Request) -> PlainTextResponse:
    """Answer with who this is."""
    return PlainTextResponse(f"{os.getpid()}")


def serve() -> None:
    """Serve on a free port, registered under it."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        registration = Registration("billing", url)
        middleware = Middleware(TideoverMiddleware, endpoints=ENDPOINTS, register=registration)
        app = Starlette(routes=[Route("/", invoice)], middleware=[middleware])
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        server.run(sockets=[listening])


# The shop -------------------------------------------------------------------------------------------------------


async def shop() -> None:
    """Call billing all the time, and say once a second how that goes."""
    async with tideover.connect(*ENDPOINTS) as tide:
        billing = tide.discover("billing")
        await billing.wait_for(2, timeout=20)
        async with httpx.AsyncClient(transport=DiscoveryTransport(tide)) as client:
            while True:
                answers: Counter[str] = Counter()
                for _ in range(50):
                    try:
                        answers[(await client.get("http://billing.service/")).text] += 1
                    except httpx.HTTPError as exc:
                        answers[f"FAILED: {exc!r}"] += 1
                    await asyncio.sleep(0.02)
                by = ", ".join(f"{who}: {count}" for who, count in sorted(answers.items()))
                out = f", {len(billing.ejected)} ejected" if billing.ejected else ""
                say(f"etcd {tide.health.state}, {len(billing.endpoints)} endpoints{out}; {by}")


async def main() -> None:
    """Run everything until Ctrl-C or SIGTERM."""
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    command = [sys.executable, __file__, "serve"]
    instances = [await asyncio.create_subprocess_exec(*command) for _ in range(2)]
    say(f"billing runs as {instances[0].pid} {instances[1].pid}")
    calling = asyncio.create_task(shop())
    stopping = asyncio.create_task(stopped.wait())
    try:
        await asyncio.wait({calling, stopping}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        calling.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await calling
        for instance in instances:
            if instance.returncode is None:
                instance.terminate()
        for instance in instances:
            await instance.wait()


if __name__ == "__main__":
    if sys.argv[1:] == ["serve"]:
        serve()
    else:
        asyncio.run(main())
