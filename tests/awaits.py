"""What a body may be waiting for when it is ended: each answers a cancellation in a way of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.metadata import version
from typing import Any

import anyio
import grpc
import httpx

Awaits = dict[str, Callable[[], Awaitable[object]]]
# Older ones of anyio leave sockets open where httpx is cancelled while it connects.
_RECENT = tuple(map(int, version("anyio").split(".")[:2])) >= (4, 16)
NAMES = ("sleep", "unary", "stream", *(["httpx"] if _RECENT else []), "to_thread", "gather")


@asynccontextmanager
async def never_answered() -> AsyncIterator[Awaits]:
    """Give what waits for ever: a sleep, two calls of grpc.aio, a request of httpx, a thread, and `gather`."""
    async with AsyncExitStack() as stack:
        release = threading.Event()
        stack.callback(release.set)
        channel = await stack.enter_async_context(_grpc_server())
        url = await stack.enter_async_context(_http_server())
        client = httpx.AsyncClient(trust_env=False, timeout=None, limits=httpx.Limits(max_connections=None))
        await stack.enter_async_context(client)

        async def read_stream() -> None:
            async for _ in channel.unary_stream("/test/stream")(b""):
                pass

        async def read_in_parts() -> None:
            async def swallow() -> None:
                try:
                    await asyncio.sleep(60)
                except asyncio.CancelledError:
                    return

            await asyncio.gather(swallow(), swallow())

        async def call() -> object:
            return await channel.unary_unary("/test/unary")(b"")

        yield {
            "sleep": lambda: asyncio.sleep(60),
            "unary": call,
            "stream": read_stream,
            "httpx": lambda: client.get(url),
            "to_thread": lambda: asyncio.to_thread(release.wait, 60),
            "gather": read_in_parts,
        }


@asynccontextmanager
async def _grpc_server() -> AsyncIterator[grpc.aio.Channel]:
    async def unary(request: bytes, context: object) -> bytes:
        await asyncio.sleep(600)
        return b""

    async def stream(request: bytes, context: object) -> AsyncIterator[bytes]:
        yield b"first"
        await asyncio.sleep(600)

    handlers: dict[str, Any] = {
        "unary": grpc.unary_unary_rpc_method_handler(unary),
        "stream": grpc.unary_stream_rpc_method_handler(stream),
    }
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel
    finally:
        await server.stop(None)
        # grpc's own thread still reports what was cancelled, to a loop that must be there.
        await asyncio.sleep(0.1)


@asynccontextmanager
async def _http_server() -> AsyncIterator[str]:
    async def ignore(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with await asyncio.start_server(ignore, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        server.close()


async def plain(wait: Callable[[], Awaitable[object]]) -> None:
    """Wait just so."""
    await wait()


async def in_timeout(wait: Callable[[], Awaitable[object]]) -> None:
    """Wait within `asyncio.timeout`."""
    async with asyncio.timeout(60):
        await wait()


async def in_fail_after(wait: Callable[[], Awaitable[object]]) -> None:
    """Wait within `anyio.fail_after`."""
    with anyio.fail_after(60):
        await wait()


async def in_group(wait: Callable[[], Awaitable[object]]) -> None:
    """Wait within `asyncio.TaskGroup`, in its task and in a child."""

    async def child() -> None:
        await wait()

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(child())
        await wait()


async def in_task_group(wait: Callable[[], Awaitable[object]]) -> None:
    """Wait within anyio's task group, in its task and in a child."""

    async def child() -> None:
        await wait()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(child)
        await wait()


Enclosure = Callable[[Callable[[], Awaitable[object]]], Awaitable[None]]
ENCLOSURES: tuple[Enclosure, ...] = (plain, in_timeout, in_fail_after, in_group, in_task_group)
# httpx has scopes of anyio's, which misbehave by themselves in a child task: anyio 4.11 may cancel in a circle for
# ever, and up to 4.16 they take back cancellations that they have not requested.
CASES = [
    (name, within)
    for name in NAMES
    for within in ENCLOSURES
    if name != "httpx" or within not in (in_group, in_task_group)
]
