"""A thousand registrations of one process return after an outage in which their leases have ended.

The link is silent for longer than the leases last, so that etcd lets them end, and then carries again. When each
is back is seen by a watch at etcd itself.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import psutil

from benchmarks import child, raw
from benchmarks.harness import Comparison, Goal, Row
from benchmarks.sessions import register
from tests.slow_links import slow_link
from tideover import connect
from tideover.testing import EtcdServer

COUNT = 1000
RUNS = 3
_TTL = 15
_PREFIX = b"/services/api/"
_SETTLE = 6.0
# Seconds until the last key must be gone, and until all must be there again.
_GONE, _BACK = 60.0, 120.0
_DONE = "1,000 registrations back after an outage, worst of 3"
_SPREAD = "least spread of their returns, missing from 2 s"
_CPU = "CPU of each of them, worst of 3"
_PEER = "1,000 bare transactions"


@dataclass(frozen=True, slots=True)
class Return:
    """One return.

    Attributes:
        done: Seconds until the last one is back.
        spread: Seconds from the first to the last one.
        cpu: Seconds of the processor for each.
    """

    done: float
    spread: float
    cpu: float


async def registered(endpoint: str) -> None:
    """In a child: be so many registrations until told to end."""
    async with connect(endpoint, cache_dir=False, follow=(), sync_members=False, start_timeout=20) as tide:
        await register(tide, COUNT, ttl=_TTL)
        child.say_ready()
        await child.until_told()


async def bare_writes(endpoint: str) -> dict[str, float]:
    """In a child: what as many transactions by bare stubs take, sixteen at once."""
    async with raw.stubs(endpoint) as etcd:
        room = asyncio.Semaphore(16)

        async def write(number: int) -> None:
            async with room:
                await etcd.put_all({b"/bare/%d" % number: b"x" * 100, b"/bare/%d/" % number: b"x"})

        await write(0)
        began, used = time.monotonic(), time.process_time()
        await asyncio.gather(*[write(number) for number in range(COUNT)])
        return {"done": time.monotonic() - began, "cpu": (time.process_time() - used) / COUNT}


async def run() -> tuple[Return, dict[str, float]]:
    """Let them return once; and write as many keys barely."""
    with EtcdServer() as server:
        async with (
            slow_link(server.endpoint) as link,
            child.running(registered, link.endpoint) as process,
            raw.watching(server.endpoint, _PREFIX) as stream,
        ):
            await child.wait_ready(process, timeout=120)
            await _seen(stream, COUNT, deleted=False, timeout=_BACK)
            await asyncio.sleep(_SETTLE)
            link.silence(silent=True)
            await _seen(stream, COUNT, deleted=True, timeout=_GONE)
            await asyncio.sleep(1)
            began, used = time.monotonic(), _processor(process.pid)
            link.silence(silent=False)
            times = await _seen(stream, COUNT, deleted=False, timeout=_BACK)
            cpu = (_processor(process.pid) - used) / COUNT
            await child.finish(process, timeout=120)
        bare = await child.call(bare_writes, server.endpoint)
    return Return(max(times) - began, max(times) - min(times), cpu), bare


def _processor(pid: int) -> float:
    return float(sum(psutil.Process(pid).cpu_times()[:2]))


async def _seen(stream: object, count: int, *, deleted: bool, timeout: float) -> list[float]:
    """Read a watch until so many keys are there, or are gone; return when each was."""
    found: dict[bytes, float] = {}
    async with asyncio.timeout(timeout):
        while len(found) < count:
            for event in (await stream.read()).events:  # type: ignore[attr-defined]
                if bool(event.type) is deleted:
                    found.setdefault(event.kv.key, time.monotonic())
    return list(found.values())


async def measure() -> list[Comparison]:
    """Let them return three times; all three count."""
    runs = [await run() for _ in range(RUNS)]
    returns, bare = [found for found, _ in runs], [found for _, found in runs]
    least = min(one.spread for one in returns)
    return [
        Comparison(_DONE, max(one.done for one in returns), _PEER, max(one["done"] for one in bare)),
        Comparison(_SPREAD, max(0.0, 2.0 - least), "spread", least),
        Comparison(_CPU, max(one.cpu for one in returns), _PEER, max(one["cpu"] for one in bare)),
    ]


ROW = Row(
    name="registrations-return",
    what="1,000 registrations returning after an outage in which their leases have ended",
    peer=_PEER,
    goals={
        _DONE: Goal(3.5, of="value"),
        _SPREAD: Goal(0, of="value"),
        _CPU: Goal(0.0015, of="value"),
    },
    measure=measure,
)
