"""Fresh processes: `python -m benchmarks.child MODULE FUNCTION JSON` prints what a function returns."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from importlib import import_module
from inspect import iscoroutinefunction
from pathlib import Path
from typing import Any, Literal

Loop = Literal["asyncio", "uvloop"]

ROOT = Path(__file__).parent.parent


def _command(function: Callable[..., object], arguments: tuple[object, ...], loop: Loop) -> list[str]:
    return [
        sys.executable,
        "-m",
        "benchmarks.child",
        function.__module__,
        function.__name__,
        json.dumps(arguments),
        loop,
    ]


async def call(
    function: Callable[..., object], *arguments: object, timeout: float = 120.0, loop: Loop = "asyncio"
) -> Any:
    """Call a module's function in a fresh process.

    Args:
        function: Takes and returns what JSON can carry; may be a coroutine function.
        arguments: What it is called with.
        timeout: Seconds until it is killed.
        loop: Whose event loop runs it.

    Returns:
        What it returned.

    Raises:
        RuntimeError: It failed; the message has its standard error.
    """
    async with running(function, *arguments, loop=loop) as process:
        return await finish(process, timeout=timeout)


@asynccontextmanager
async def running(
    function: Callable[..., object], *arguments: object, loop: Loop = "asyncio"
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a module's function in a fresh process, with pipes; killed at the end if it still runs."""
    process = await asyncio.create_subprocess_exec(
        *_command(function, arguments, loop),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
        limit=2**26,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def finish(process: asyncio.subprocess.Process, *, timeout: float = 30.0) -> Any:
    """Close a child's input and return what its function returned."""
    output, errors = await asyncio.wait_for(process.communicate(b""), timeout)
    if process.returncode:
        raise RuntimeError(f"child exited with {process.returncode}:\n{errors.decode()}")
    return json.loads(output.splitlines()[-1])


def say_ready() -> None:
    """In a child: tell the parent to go on."""
    print("ready", flush=True)


async def until_told() -> None:
    """In a child: wait until the parent closes the input."""
    await asyncio.to_thread(sys.stdin.read)


async def wait_ready(process: asyncio.subprocess.Process, *, timeout: float = 30.0) -> None:
    """In the parent: wait until a child has said that it is ready."""
    assert process.stdout is not None
    line = await asyncio.wait_for(process.stdout.readline(), timeout)
    if line.strip() != b"ready":
        await finish(process)
        raise RuntimeError(f"child said {line!r} instead of ready")


def _main() -> None:
    logging.getLogger("tideover").setLevel(logging.CRITICAL)
    module, name, arguments, loop = sys.argv[1:]
    function: Callable[..., Awaitable[object]] = getattr(import_module(module), name)
    returned = function(*json.loads(arguments))
    run = import_module(loop).run
    print(json.dumps(run(_await(returned)) if iscoroutinefunction(function) else returned))


async def _await(awaitable: Awaitable[object]) -> object:
    return await awaitable


if __name__ == "__main__":
    _main()
