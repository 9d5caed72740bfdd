"""The start with etcd dead until the first value, beside the imports it needs, each in a fresh process."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.coordinators import save_snapshot
from benchmarks.harness import Comparison, Goal, Row
from benchmarks.scripts import compiled

# Fresh processes per script.
RUNS = 10
_STARTED = "start with etcd dead, beyond the imports"
_LOADS = "grpc modules that `import tideover` loads"

_BEGIN = "import time; began = time.perf_counter()\n"
_END = "\nprint(time.perf_counter() - began)"
# Everything the start needs, the transport and the event loop's backend among it.
_IMPORTS = """
import asyncio, anyio, anyio._backends._asyncio, tideover, tideover.etcd.adapter, tideover.etcd.transports
tideover.connect, tideover.etcd.transports.load(tideover.etcd.transports.chosen(None, "127.0.0.1:1"))
"""
_START = """
import asyncio, logging, tideover
logging.getLogger("tideover").setLevel(logging.CRITICAL)
async def main():
    async with tideover.connect(*{endpoints!r}, cache_dir={folder!r}) as tide:
        assert tide.config.get("key-0", float) == 0.5
        assert tide.health.state == "unavailable"
        print(time.perf_counter() - began)
asyncio.run(main())
"""
_COUNT = "\nimport sys, tideover; print(sum(name.split('.')[0] == 'grpc' for name in sys.modules))"


async def measure() -> list[Comparison]:
    """Start processes in turn."""
    endpoints = _closed_ports(3)
    async with compiled() as processes:
        with tempfile.TemporaryDirectory() as temp:
            scripts = {"imports": _BEGIN + _IMPORTS + _END}
            for keys in (1, 10_000):
                folder = Path(temp) / str(keys)
                save_snapshot(folder, {f"key-{n}": f"{n}.5" for n in range(keys)}, endpoints=endpoints)
                scripts[f"start {keys}"] = _BEGIN + _START.format(endpoints=endpoints, folder=str(folder))
            times = await processes.by_turns(scripts, rounds=RUNS)
        loaded, of_grpc = await processes.run(_COUNT), await processes.run("import grpc" + _COUNT)
    return [
        times.compare(_STARTED, lambda t: t["start 1"] - t["imports"], "the imports alone", "imports"),
        times.compare("for scale: start with etcd dead, all of it", "start 1", "the imports alone", "imports"),
        times.compare(
            "for scale: beyond the imports, snapshot of 10,000 keys",
            lambda t: t["start 10000"] - t["imports"],
            "the imports alone",
            "imports",
        ),
        Comparison(_LOADS, loaded, "grpc modules that `import grpc` loads", of_grpc, unit=""),
    ]


def _closed_ports(count: int) -> Sequence[str]:
    """Return addresses where nobody listens."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    endpoints = [f"127.0.0.1:{one.getsockname()[1]}" for one in sockets]
    for one in sockets:
        one.close()
    return endpoints


ROW = Row(
    name="start",
    what="from nothing to the first value with etcd dead",
    peer="the imports alone",
    goals={_STARTED: Goal(0.05, of="value"), _LOADS: Goal(0, of="value")},
    measure=measure,
)
