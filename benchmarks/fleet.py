"""A fleet that returns after an outage: 1,000 registrations and 100 followers, on an etcd rebuilt from nothing.

    python -m benchmarks --only fleet
    python -m benchmarks.fleet_picture docs/assets/coming-back.svg       # and the picture

Rebuilt from nothing is the worst there is: every lease is gone, so that each client has to grant one and to write
two keys, and every follower reads in full. After an outage that etcd survives with its data, leases go on, and
nothing of this is needed.

The clients are in a few processes, ten sessions to each connection, because on two cores a thousand
processes would measure the cores. The requests are counted where they arrive, by etcd itself
(`grpc_server_msg_received_total`, which counts renewals too).
"""

from __future__ import annotations

import asyncio
import time
import urllib.request
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import pairwise

from benchmarks import child, raw
from benchmarks.harness import Comparison, Goal, Row
from tideover import Registration, Source, connect
from tideover.testing import EtcdServer

CLIENTS = 1000
PROCESSES = 4
# Registrations to one connection, and one follower.
PER_COORDINATOR = 10
OUTAGE = 8.0
STEP = 0.1
_TTL = 15
_DONE = "1,000 back after a rebuild, until the last one is registered"
_SPREAD = "least spread of their returns, missing from 2 s"
_FOLLOW = "until the last follower has read it all"


@dataclass
class Return:
    """One outage of a fleet, in seconds of the same clock.

    Attributes:
        killed: When etcd was killed.
        back: When it answered a linearizable read again.
        registered: When each endpoint was created, by etcd's watch.
        followed: When each follower was live again.
        rate: Requests a second that etcd has handled, from `killed` on, a number per tenth of a second.
    """

    killed: float
    back: float
    registered: list[float]
    followed: list[float]
    rate: list[float] = field(default_factory=list)

    @property
    def spread(self) -> float:
        """From the first to the last one."""
        return max(self.registered) - min(self.registered)

    @property
    def done(self) -> float:
        """From etcd's return to the last one."""
        return max(self.registered) - self.back


async def members(endpoint: str, first: int, count: int) -> list[float]:
    """In a child: be so many clients; return when the followers were live again after the outage."""
    live: list[float] = []
    async with AsyncExitStack() as stack:
        tides = []
        for number in range(first, first + count, PER_COORDINATOR):
            tide = await stack.enter_async_context(connect(endpoint, cache_dir=False, start_timeout=20))
            tides.append(tide)
            handles = [
                tide._parts.registrations.start(Registration("api", f"http://10.0.0.7:{port}", ttl=_TTL))
                for port in range(number, number + PER_COORDINATOR)
            ]
            for handle in handles:
                await handle.wait_registered()
        child.say_ready()

        async def note(index: int) -> None:
            # Not by `status()`: a whole report of each, fifty times a second, is more work than what is measured.
            view, identity = tides[index]._parts.views[0], tides[index]._parts.epoch
            while not identity.resets:
                await asyncio.sleep(0.05)
            while view.source is not Source.LIVE:
                await asyncio.sleep(0.02)
            live.append(time.monotonic())

        noting = [asyncio.create_task(note(index)) for index in range(len(tides))]
        await child.until_told()
        for task in noting:
            task.cancel()
    return live


async def outage() -> Return:
    """Start a fleet, take etcd away, and bring it back empty."""
    share = CLIENTS // PROCESSES
    with EtcdServer() as server:
        server.wait_ready()
        async with AsyncExitStack() as stack:
            fleet = []
            for number in range(PROCESSES):
                running = child.running(members, server.endpoint, 10_000 + number * share, share)
                fleet.append(await stack.enter_async_context(running))
            for process in fleet:
                await child.wait_ready(process, timeout=120)
            await asyncio.sleep(3)
            counting = asyncio.create_task(_count(server))
            killed = time.monotonic()
            await asyncio.to_thread(server.kill)
            await asyncio.sleep(OUTAGE)
            server.wipe()
            await asyncio.to_thread(server.start)
            back = await _answers(server.endpoint)
            registered = await _created(server.endpoint, CLIENTS)
            await asyncio.sleep(3)
            counting.cancel()
            followed = [moment for process in fleet for moment in await child.finish(process, timeout=60)]
            # Only `counting` knows what it counted, and it has been cancelled.
            return Return(killed, back, registered, followed, _rate(_counted, killed))


_counted: list[tuple[float, float]] = []


async def _count(server: EtcdServer) -> None:
    """Ask etcd, ten times a second, how many requests it has handled."""
    _counted.clear()
    while True:
        began = time.monotonic()
        try:
            text = await asyncio.to_thread(_metrics, server.endpoint)
        except OSError:
            text = None
        if text is not None:
            handled = sum(
                float(line.rsplit(" ", 1)[1])
                for line in text.splitlines()
                if line.startswith("grpc_server_msg_received_total")
            )
            _counted.append((time.monotonic(), handled))
        await asyncio.sleep(max(0.0, STEP - (time.monotonic() - began)))


def _metrics(endpoint: str) -> str:
    with urllib.request.urlopen(f"http://{endpoint}/metrics", timeout=1) as answer:
        text: str = answer.read().decode()
        return text


def _rate(counted: Sequence[tuple[float, float]], since: float) -> list[float]:
    """Return requests a second for each step: what was counted between two looks, spread over the time between.

    Nothing where etcd was away, or has begun to count anew.
    """
    steps = max(0, int((counted[-1][0] - since) / STEP)) + 1 if counted else 0
    requests = [0.0] * steps
    for (before, was), (now, handled) in pairwise(counted):
        if handled < was or now <= max(before, since):
            continue
        for step in range(max(0, int((before - since) / STEP)), int((now - since) / STEP) + 1):
            begins, ends = since + step * STEP, since + (step + 1) * STEP
            within = max(0.0, min(now, ends) - max(before, begins))
            requests[step] += (handled - was) * within / (now - before)
    return [count / STEP for count in requests]


async def _answers(endpoint: str) -> float:
    """Ask until a linearizable read is answered; return when."""
    while True:
        async with raw.stubs(endpoint) as etcd:
            try:
                await etcd.read(b"/x", timeout=0.3)
                return time.monotonic()
            except Exception:
                await asyncio.sleep(0.02)


async def _created(endpoint: str, count: int) -> list[float]:
    """Follow the registry from its beginning; return when each endpoint was created."""
    found: dict[bytes, float] = {}
    async with raw.watching(endpoint, b"/services/api/", since=1) as stream, asyncio.timeout(60):
        while len(found) < count:
            for event in (await stream.read()).events:
                found.setdefault(event.kv.key, time.monotonic())
    return list(found.values())


async def measure() -> list[Comparison]:
    """One outage."""
    seen = await outage()
    restart = seen.back - seen.killed - OUTAGE
    return [
        Comparison(_DONE, seen.done, "restart until etcd answers", restart),
        Comparison(_SPREAD, max(0.0, 2.0 - seen.spread), "spread", seen.spread),
        Comparison(_FOLLOW, max(seen.followed) - seen.back, "restart until etcd answers", restart),
    ]


ROW = Row(
    name="fleet",
    what="1,000 registrations and 100 followers returning to an etcd that was rebuilt from nothing",
    peer="etcd's own start",
    goals={_DONE: Goal(4, of="value"), _SPREAD: Goal(0, of="value"), _FOLLOW: Goal(4, of="value")},
    measure=measure,
)
