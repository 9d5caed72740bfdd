"""Processes that idle, for the row `idle`; what they have imported before is counted as nothing of tideover's.

Hence no import of it here, nor of the harness.
"""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from contextlib import AsyncExitStack
from pathlib import Path

import anyio  # noqa: F401
import psutil
from opentelemetry import metrics, trace  # noqa: F401

# Seconds for the start's own work to be over, and of looking on.
_SETTLE = 15.0
_WINDOW = 40.0

Idle = dict[str, float]


async def idle_coordinator(endpoint: str, folder: str, prefixes: int) -> Idle:
    """In a child: what a coordinator costs that follows so many prefixes in which nothing happens."""
    before = _resident()
    from tideover import connect
    from tideover.etcd import adapter, transports  # noqa: F401

    transports.load(transports.chosen(None, endpoint))
    imported = _resident()
    follow = ("config/",) if prefixes == 1 else tuple(f"config-{number}/" for number in range(prefixes))
    async with connect(endpoint, follow=follow, cache_dir=folder, start_timeout=30.0):
        return {**await _look_on(before), "imports": imported - before}


async def idle_watch(endpoint: str) -> Idle:
    """In a child: the same of a bare watch."""
    before = _resident()
    from benchmarks import raw

    async with AsyncExitStack() as stack:
        await stack.enter_async_context(raw.watching(endpoint, b"/config/"))
        return await _look_on(before)


async def _look_on(before: float) -> Idle:
    await asyncio.sleep(_SETTLE)
    gc.collect()
    process, tasks = psutil.Process(), len(asyncio.all_tasks()) - 1
    switches, cpu, began = _switches(), process.cpu_times(), time.monotonic()
    await asyncio.sleep(_WINDOW)
    seconds, after, used = time.monotonic() - began, _switches(), process.cpu_times()
    of_each = {thread: count - switches.get(thread, 0) for thread, count in after.items()}
    return {
        "all": sum(of_each.values()) / seconds,
        "loop": of_each[threading.get_native_id()] / seconds,
        "cpu": 100 * (used.user + used.system - cpu.user - cpu.system) / seconds,
        "threads": float(len(after)),
        "tasks": float(tasks),
        "memory": _resident() - before,
    }


def _resident() -> float:
    gc.collect()
    return float(psutil.Process().memory_info().rss)


def _switches() -> dict[int, int]:
    """Return how often each thread of this process has gone to sleep by itself."""
    found = {}
    for task in Path("/proc/self/task").iterdir():
        lines = dict(line.split(":", 1) for line in (task / "status").read_text().splitlines() if ":" in line)
        found[int(task.name)] = int(lines["voluntary_ctxt_switches"])
    return found
