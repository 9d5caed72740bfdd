"""A thousand sessions or registrations that idle in one process, and what opening a session takes.

Each is measured beyond a coordinator that idles beside it, in a process of its own, with as many tasks that wait:
what a body costs is its owner's. In Go a session is a lease that is renewed, without a proof and without a watch.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import sys
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import NamedTuple

import psutil

from benchmarks import child, go_client
from benchmarks.harness import Comparison, Goal, NotMeasured, Row
from tideover import Coordinator, Registration, connect
from tideover.testing import EtcdServer

COUNT = 1000
ROUNDS = 5
# Seconds of doing nothing in a round, several renewals long; before that, for the start's work to end.
WINDOW = 20.0
_SETTLE = 6.0
_TTL = 15
# How many are begun at once; and how many are opened to see what opening takes, before the first is renewed.
_AT_ONCE = 16
_OPENED = 300
_GO = "etcd's Go client, 1,000 sessions"
_IDLE = "a coordinator that idles"
_CPU = "1,000 idle {}, CPU of a core beyond an idle coordinator"
_MEMORY = "1,000 idle {}, memory beyond an idle coordinator"
_OPEN = "opening a session, CPU"


class Idle(NamedTuple):
    """What a process takes while it does nothing: per cent of a core, and bytes."""

    cpu: float
    memory: float

    def beyond(self, other: Idle) -> Idle:
        """Return how much more that is than another."""
        return Idle(max(0.0, self.cpu - other.cpu), max(0.0, self.memory - other.memory))


# In a child -----------------------------------------------------------------------------------------------------


@asynccontextmanager
async def bodies(tide: Coordinator | None, count: int) -> AsyncIterator[None]:
    """Run so many bodies, each in a task with a session around it; without one if there is no coordinator."""
    end, room = asyncio.Event(), asyncio.Semaphore(_AT_ONCE)

    async def body(entered: asyncio.Event) -> None:
        async with AsyncExitStack() as stack:
            if tide is not None:
                async with room:
                    await stack.enter_async_context(tide.session(ttl=_TTL, on_outage="wait"))
            entered.set()
            await end.wait()

    async with asyncio.TaskGroup() as tasks:
        all_entered = [asyncio.Event() for _ in range(count)]
        for entered in all_entered:
            tasks.create_task(body(entered))
        for entered in all_entered:
            await entered.wait()
        yield
        end.set()


async def idle_sessions(endpoint: str, sessions: bool) -> None:
    """In a child: hold so many sessions, or as many tasks without, until told to end."""
    async with (
        connect(endpoint, cache_dir=False, follow=(), start_timeout=10) as tide,
        bodies(tide if sessions else None, COUNT),
    ):
        await _idle()


async def idle_registrations(endpoint: str, registrations: bool) -> None:
    """In a child: hold so many registrations, or none, until told to end."""
    async with connect(endpoint, cache_dir=False, follow=(), start_timeout=10) as tide:
        if registrations:
            await register(tide, COUNT, ttl=_TTL)
        await _idle()


async def register(tide: Coordinator, count: int, *, ttl: int) -> None:
    """Register so many endpoints; return when all are."""
    handles = [
        tide._parts.registrations.start(Registration("api", f"http://10.0.0.7:{10_000 + number}", ttl=ttl))
        for number in range(count)
    ]
    for handle in handles:
        await handle.wait_registered()


async def _idle() -> None:
    gc.collect()
    child.say_ready()
    await child.until_told()


async def opening(endpoint: str, sessions: bool) -> float:
    """In a child: seconds of the processor that opening a session takes, or starting a task without one."""
    async with connect(endpoint, cache_dir=False, follow=(), start_timeout=10) as tide, bodies(tide, 20):
        await asyncio.sleep(1)
        began = time.process_time()
        async with bodies(tide if sessions else None, _OPENED):
            return (time.process_time() - began) / _OPENED


# What is measured -----------------------------------------------------------------------------------------------


async def _look(pids: Sequence[int]) -> list[Idle]:
    """Return what processes take while they are left alone."""
    await asyncio.sleep(_SETTLE)
    processes = [psutil.Process(pid) for pid in pids]
    before, began = [sum(one.cpu_times()[:2]) for one in processes], time.monotonic()
    await asyncio.sleep(WINDOW)
    elapsed = time.monotonic() - began
    return [
        Idle(100 * (sum(one.cpu_times()[:2]) - was) / elapsed, one.memory_info().rss)
        for one, was in zip(processes, before, strict=True)
    ]


@asynccontextmanager
async def _ready(process: Process) -> AsyncIterator[int]:
    await child.wait_ready(process, timeout=300)
    yield process.pid
    await child.finish(process, timeout=120)


async def _round(endpoint: str, what: str) -> tuple[Idle, Idle | None]:
    """Return what so many take beyond an idle coordinator, and what Go's sessions take; None without Go."""
    function = idle_sessions if what == "sessions" else idle_registrations
    async with AsyncExitStack() as stack:
        full = await stack.enter_async_context(child.running(function, endpoint, True))
        empty = await stack.enter_async_context(child.running(function, endpoint, False))
        pids = [await stack.enter_async_context(_ready(one)) for one in (full, empty)]
        before = None
        if _has_go():
            go = await stack.enter_async_context(go_client.running("sessions", f"-endpoint={endpoint}"))
            before = psutil.Process(go.pid).memory_info().rss
            await go.round()
            pids.append(go.pid)
        found = await _look(pids)
    ours = found[0].beyond(found[1])
    return ours, None if before is None else Idle(found[2].cpu, found[2].memory - before)


def _has_go() -> bool:
    try:
        go_client.build()
    except NotMeasured as exc:
        print(f"without the peer: {exc}", file=sys.stderr)
        return False
    return True


async def _measure(what: str) -> list[Comparison]:
    with EtcdServer() as server:
        rounds = [await _round(server.endpoint, what) for _ in range(ROUNDS)]
    ours = [found for found, _ in rounds]
    gos = [found for _, found in rounds if found is not None]
    cpu = statistics.median(one.cpu for one in ours), [one.cpu for one in gos]
    memory = statistics.median(one.memory for one in ours), [one.memory for one in gos]
    return [
        _compare(_CPU.format(what), *cpu, unit="%"),
        _compare(_MEMORY.format(what), *memory, unit="B"),
    ]


def _compare(what: str, ours: float, gos: Sequence[float], *, unit: str) -> Comparison:
    peer, theirs = (_GO, statistics.median(gos)) if gos else (_IDLE, 0.0)
    return Comparison(what, ours, peer, theirs, unit="%" if unit == "%" else "B")


async def measure_sessions() -> list[Comparison]:
    """Let a thousand sessions idle."""
    return await _measure("sessions")


async def measure_registrations() -> list[Comparison]:
    """Let a thousand registrations idle."""
    return await _measure("registrations")


async def measure_opening() -> list[Comparison]:
    """Open sessions, by turns with Go."""
    ours, gos = [], []
    with EtcdServer() as server:
        for _ in range(ROUNDS):
            with_session = await child.call(opening, server.endpoint, True, timeout=300)
            ours.append(with_session - await child.call(opening, server.endpoint, False, timeout=300))
            if _has_go():
                options = [f"-endpoint={server.endpoint}", f"-count={_OPENED}"]
                async with go_client.running("sessions", *options) as go:
                    gos.append((await go.round())["each"])
    peer, theirs = (_GO, statistics.median(gos)) if gos else (_IDLE, 0.0)
    return [Comparison(_OPEN, statistics.median(ours), peer, theirs)]


def _goals(what: str) -> dict[str, Goal]:
    return {
        _CPU.format(what): Goal(5, of="value"),
        _MEMORY.format(what): Goal(25 * 2**20, of="value"),
    }


ROW = Row(
    name="sessions",
    what="1,000 idle sessions in one process, beyond an idle coordinator",
    peer=_GO,
    goals=_goals("sessions"),
    measure=measure_sessions,
)
REGISTRATIONS = Row(
    name="registrations",
    what="1,000 idle registrations in one process, beyond an idle coordinator",
    peer=_GO,
    goals=_goals("registrations"),
    measure=measure_registrations,
)
OPENING = Row(
    name="session-open",
    what="the processor's time of opening a session",
    peer=_GO,
    goals={_OPEN: Goal(0.001, of="value")},
    measure=measure_opening,
)
