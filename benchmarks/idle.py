"""A coordinator that idles: how often its process wakes up, beside a bare watch on a gRPC channel of its own.

A wake-up is a voluntary context switch of any thread, as Linux counts them: gRPC's own threads are told apart.
Memory is that of the process beyond what asyncio, anyio and the OpenTelemetry API take once imported.
"""

from __future__ import annotations

import os
import sys
import tempfile

from benchmarks import child
from benchmarks.harness import Comparison, Goal, NotMeasured, Row
from benchmarks.idlers import idle_coordinator, idle_watch
from tideover.testing import EtcdServer

# How many prefixes the large one follows.
_MANY = 200
_WAKE_UPS = "idle coordinator, wake-ups a second"
_CPU = "idle coordinator, CPU of a core"
_THREADS = "idle coordinator, threads"
_MEMORY = "idle coordinator, memory beyond asyncio, anyio, OpenTelemetry's API"


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
        Comparison(_CPU, ours["cpu"], peer, bare["cpu"], unit="%"),
        Comparison(_THREADS, ours["threads"], peer, bare["threads"], unit=""),
        Comparison("for scale: idle coordinator, tasks", ours["tasks"], peer, bare["tasks"], unit=""),
        Comparison(_MEMORY, ours["memory"], peer, bare["memory"], unit="B"),
        Comparison("for scale: of that, modules", ours["imports"], peer, bare["memory"], unit="B"),
        Comparison(f"{large}, CPU", many["cpu"], "one followed prefix", ours["cpu"], unit="%"),
        Comparison(f"{large}, tasks", many["tasks"], "one followed prefix", ours["tasks"], unit=""),
        Comparison(f"{large}, memory", many["memory"], "one followed prefix", ours["memory"], unit="B"),
    ]


ROW = Row(
    name="idle",
    what="wake-ups, CPU, threads, tasks and memory of a coordinator that idles",
    peer="one bare watch",
    goals={
        _WAKE_UPS: Goal(6, of="value"),
        _CPU: Goal(0.11, of="value"),
        _THREADS: Goal(2, of="value"),
        _MEMORY: Goal(8 * 2**20, of="value"),
    },
    measure=measure,
)
