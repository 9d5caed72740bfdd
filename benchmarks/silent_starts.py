"""Starts while one of three members is silent, beside starts while all answer: how long, and whether any is wrong.

    python -m benchmarks.silent_starts 25             # 25 of a kind; etcd of TIDEOVER_ETCD_DIR, or of the wheel

A start is wrong if it does not end AVAILABLE, or `tideover config put` does not exit with 0. Not a row of
`python -m benchmarks`: the peer is the same start with all members.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable

import anyio.to_thread

from tideover import HealthState, connect
from tideover.errors import TideoverError
from tideover.testing import EtcdCluster, EtcdServer
from tideover.testing.etcd.binary import binary_version, find_etcd


async def _by_library(cluster: EtcdCluster) -> bool:
    try:
        async with connect(*cluster.endpoints, cache_dir=False, require="etcd", start_timeout=5) as tide:
            return tide.health.state is HealthState.AVAILABLE
    except TideoverError:
        return False


async def _by_command(cluster: EtcdCluster) -> bool:
    command = [sys.executable, "-m", "tideover.cli", "config", "put", "greeting", "hello"]
    endpoints = [argument for endpoint in cluster.endpoints for argument in ("-e", endpoint)]
    done = await anyio.to_thread.run_sync(
        lambda: subprocess.run([*command, *endpoints], capture_output=True, check=False)
    )
    return done.returncode == 0


_WAYS: dict[str, Callable[[EtcdCluster], Awaitable[bool]]] = {"connect()": _by_library, "CLI": _by_command}


async def _measured(cluster: EtcdCluster, count: int) -> dict[str, tuple[list[float], int]]:
    found = {}
    for name, start in _WAYS.items():
        took, wrong = [], 0
        for _ in range(count):
            began = time.perf_counter()
            wrong += not await start(cluster)
            took.append(time.perf_counter() - began)
        found[name] = (sorted(took), wrong)
    return found


async def main(count: int) -> None:
    """Print the table."""
    print(f"etcd {binary_version(find_etcd())}, {count} starts of a kind")
    print("| start | silent | median | 95 % | longest | wrong |\n|---|---|---|---|---|---|")
    with EtcdCluster() as cluster:
        roles: dict[str, Callable[[], EtcdServer | None]] = {
            "nobody": lambda: None,
            "a follower": lambda: cluster.followers()[0],
            "the leader": cluster.leader,
        }
        for role, choose in roles.items():
            silent = choose()
            if silent is not None:
                silent.pause()
                await anyio.to_thread.run_sync(cluster.wait_ready)
            for name, (took, wrong) in (await _measured(cluster, count)).items():
                most = took[min(len(took) - 1, int(len(took) * 0.95))]
                middle = statistics.median(took)
                print(f"| {name} | {role} | {middle:.2f} s | {most:.2f} s | {took[-1]:.2f} s | {wrong} |")
            if silent is not None:
                silent.resume()
                await cluster.ready()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 25))
