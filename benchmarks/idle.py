"""A coordinator that idles: how often its process wakes up, beside a bare watch on a gRPC channel of its own.

A wake-up is a voluntary context switch of any thread, as Linux counts them: gRPC's own threads are told apart.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil

from benchmarks import child, raw
from benchmarks.harness import Comparison, Goal, NotMeasured, Row
from tideover import connect
from tideover.testing import EtcdServer

# Seconds for the start's own work to be over, and of looking on.
_SETTLE = 15.0
_WINDOW = 40.0
# How many prefixes the large one follows.
_MANY = 200
_WAKE_UPS = "idle coordinator, wake-ups a second"

Idle = dict[str, float]


async def idle_coordinator(endpoint: str, folder: str, prefixes: int) -> Idle:
    """In a child: what a coordinator costs that follows so many prefixes in which nothing happens."""
    follow = ("config/",) if prefixes == 1 else tuple(f"config-{number}/" for number in range(prefixes))
    before = psutil.Process().memory_info().rss
    async with connect(endpoint, follow=follow, cache_dir=folder, start_timeout=30.0):
        return await _look_on(before)


async def idle_watch(endpoint: str) -> Idle:
    """In a child: the same of a bare watch."""
    before = psutil.Process().memory_info().rss
    async with raw.watching(endpoint, b"/config/"):
        return await _look_on(before)


async def _look_on(before: int) -> Idle:
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
        "memory": float(process.memory_info().rss - before),
    }


def _switches() -> dict[int, int]:
    """Return how often each thread of this process has gone to sleep by itself."""
    found = {}
    for task in Path("/proc/self/task").iterdir():
        lines = dict(line.split(":", 1) for line in (task / "status").read_text().splitlines() if ":" in line)
        found[int(task.name)] = int(lines["voluntary_ctxt_switches"])
    return found


async def measure() -> list[Comparison]:
    """Look at three processes by turns, each with the same real etcd."""
    if sys.platform != "linux" or not os.path.exists("/proc/self/task"):
        raise NotMeasured("wake-ups are counted by Linux")
    with EtcdServer() as server, tempfile.TemporaryDirectory() as folder:
        ours = await child.call(idle_coordinator, server.endpoint, f"{folder}/one", 1)
        bare = await child.call(idle_watch, server.endpoint)
        many = await child.call(idle_coordinator, server.endpoint, f"{folder}/many", _MANY)
    peer = "one bare watch, idle"
    large = f"for scale: {_MANY} followed prefixes, idle"
    return [
        Comparison(_WAKE_UPS, ours["all"], peer, bare["all"], unit=""),
        Comparison("for scale: of the event loop's thread", ours["loop"], peer, bare["loop"], unit=""),
        Comparison("for scale: idle coordinator, CPU", ours["cpu"], peer, bare["cpu"], unit="%"),
        Comparison("for scale: idle coordinator, threads", ours["threads"], peer, bare["threads"], unit=""),
        Comparison("for scale: idle coordinator, tasks", ours["tasks"], peer, bare["tasks"], unit=""),
        Comparison("for scale: idle coordinator, memory", ours["memory"], peer, bare["memory"], unit="B"),
        Comparison(f"{large}, CPU", many["cpu"], "one followed prefix", ours["cpu"], unit="%"),
        Comparison(f"{large}, tasks", many["tasks"], "one followed prefix", ours["tasks"], unit=""),
        Comparison(f"{large}, memory", many["memory"], "one followed prefix", ours["memory"], unit="B"),
    ]


ROW = Row(
    name="idle",
    what="wake-ups, CPU, threads, tasks and memory of a coordinator that idles",
    peer="one bare watch",
    goals={_WAKE_UPS: Goal(10, of="value")},
    measure=measure,
)
