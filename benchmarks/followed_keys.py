"""10,000 followed keys: their memory beside a dict of them, and what following costs while nothing happens."""

from __future__ import annotations

import asyncio
import gc
import tempfile
import time
import tracemalloc
from asyncio.subprocess import Process
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack

import psutil

from benchmarks import child, raw
from benchmarks.harness import Comparison, Goal, Row
from tideover import HealthState, connect
from tideover.testing import EtcdServer

KEYS = 10_000
# Seconds of doing nothing, long enough for two of the regular snapshots of so many keys; and before that, for the
# start's own work to be over.
WINDOW = 35.0
_SETTLE = 2.0
_MEMORY = "10,000 keys followed, memory"
_IDLE = "10,000 keys followed, idle CPU"


def key(number: int) -> str:
    """Return a key as long as keys are."""
    return f"service-{number % 100:03}/setting-{number:05}"


def value(number: int) -> bytes:
    """Return a value as long as values are."""
    return f"value {number} of some forty bytes, as they are".encode()


async def measure_memory(endpoint: str) -> dict[str, float]:
    """In a child: bytes allocated by following the keys, by having read each of them, and by a dict of them."""
    async with connect(endpoint, follow=("nothing/",), cache_dir=False):
        pass  # everything that is imported or cached at the first use is there now
    found = {}
    tracemalloc.start()
    async with connect(endpoint, cache_dir=False) as tide:
        _expect_all(tide.status().config[0].keys)
        await asyncio.sleep(1.0)
        found["followed"] = _allocated()
        for number in range(KEYS):
            tide.config.get(key(number))
        found["read"] = _allocated()
        before = _allocated()
        plain = {key(number): value(number) for number in range(KEYS)}
        found["dict"] = _allocated() - before
        assert len(plain) == KEYS
    return found


def _allocated() -> float:
    gc.collect()
    return float(tracemalloc.get_traced_memory()[0])


def _expect_all(keys: int) -> None:
    if keys != KEYS:
        raise RuntimeError(f"expected {KEYS} keys, found {keys}")


async def idle_following(endpoint: str, folder: str | None) -> float:
    """In a child: the share of a core that following takes while nothing changes, with snapshots or without."""
    async with connect(endpoint, cache_dir=folder or False) as tide:
        _expect_all(tide.status().config[0].keys)
        used = await _cpu_share(child.until_told)
        assert tide.health.state is HealthState.AVAILABLE
        return used


async def idle_watching(endpoint: str) -> float:
    """In a child: the share of a core that one bare watch takes."""
    async with raw.watching(endpoint, b"/config/"):
        return await _cpu_share(child.until_told)


async def _cpu_share(until_told: Callable[[], Awaitable[None]]) -> float:
    await asyncio.sleep(_SETTLE)
    gc.collect()
    child.say_ready()
    process = psutil.Process()
    before, began = process.cpu_times(), time.monotonic()
    await until_told()
    after, elapsed = process.cpu_times(), time.monotonic() - began
    return 100 * float(after.user + after.system - before.user - before.system) / elapsed


async def measure() -> list[Comparison]:
    """Fill a real etcd, then look at processes that follow it."""
    with EtcdServer() as server, tempfile.TemporaryDirectory() as folder:
        async with raw.stubs(server.endpoint) as etcd:
            for first in range(0, KEYS, 100):
                await etcd.put_all({b"/config/" + key(n).encode(): value(n) for n in range(first, first + 100)})
        memory = await child.call(measure_memory, server.endpoint)
        usual, bare, watching = await _idle_together(
            child.running(idle_following, server.endpoint, folder),
            child.running(idle_following, server.endpoint, None),
            child.running(idle_watching, server.endpoint),
        )
    plain = "dict[str, bytes] of them"
    return [
        Comparison(_MEMORY, memory["followed"], plain, memory["dict"], unit="B"),
        Comparison("for scale: and each read once", memory["read"], plain, memory["dict"], unit="B"),
        Comparison(_IDLE, usual, "one bare watch, idle", watching, unit="%"),
        Comparison("for scale: idle CPU without snapshots", bare, "one bare watch, idle", watching, unit="%"),
    ]


async def _idle_together(*children: AbstractAsyncContextManager[Process]) -> list[float]:
    async with AsyncExitStack() as stack:
        processes = [await stack.enter_async_context(one) for one in children]
        for process in processes:
            await child.wait_ready(process)
        await asyncio.sleep(WINDOW)
        return [await child.finish(process) for process in processes]


ROW = Row(
    name="followed-keys",
    what="memory and idle CPU of 10,000 followed keys",
    peer="dict[str, bytes] of them; one bare watch",
    goals={_MEMORY: Goal(4), _IDLE: Goal(0.5, of="value")},
    measure=measure,
)
