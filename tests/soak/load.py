"""One process that does everything a service may do with tideover, at once, until its standard input ends.

Run as: python -m tests.soak.load NAME SEED ENDPOINT...

Prints a line of JSON every two seconds: what the process has, and how often each thing was done or has failed.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable

import psutil

import tideover
from tideover import Coordinator, TideoverError
from tideover.locks.ledger import Past

# Seconds between two samples.
EVERY = 2.0
LOCKS = 1_000
KEYS = 200
# How much of everything there is in one process.
_PUTTERS, _LOCKERS, _CANDIDACIES, _SESSIONS, _REGISTRATIONS = 2, 8, 8, 20, 20
Doing = Callable[[], Awaitable[object]]


class Load:
    """Everything at once, on one coordinator.

    Args:
        tide: The coordinator.
        name: What this process is called; unique among those of a run.
        chance: What is drawn from.

    Attributes:
        done: How often each thing was done, or failed with which error.
    """

    def __init__(self, tide: Coordinator, name: str, chance: random.Random) -> None:
        self.done: Counter[str] = Counter()
        self._tide = tide
        self._name = name
        self._chance = chance
        self._count = 0

    def begin(self, tasks: asyncio.TaskGroup) -> list[asyncio.Task[None]]:
        """Begin with everything; return the tasks."""
        doings: list[tuple[Doing, int]] = [
            (self._put, _PUTTERS),
            (self._lock, _LOCKERS),
            (self._lead, _CANDIDACIES),
            (self._keep_session, _SESSIONS),
            (self._open_session, 1),
            (self._stay_registered, _REGISTRATIONS),
            (self._register, 1),
            (self._follow, 1),
            (self._discover, 1),
        ]
        return [tasks.create_task(self._again(doing)) for doing, count in doings for _ in range(count)]

    async def _again(self, doing: Doing) -> None:
        name = doing.__name__.lstrip("_")
        while True:
            try:
                await doing()
                self.done[name] += 1
            except TideoverError as exc:
                self.done[f"{name}: {type(exc).__name__}"] += 1
                await asyncio.sleep(0.2)

    def _number(self) -> int:
        self._count += 1
        return self._count

    async def _pause(self, most: float) -> None:
        await asyncio.sleep(self._chance.uniform(0, most))

    async def _put(self) -> None:
        # All keys at first: what is there already cannot be taken for growth.
        number = self._number() if self._count < KEYS else self._chance.randrange(KEYS)
        await self._tide.config.put(f"soak/{number}", "x" * self._chance.randrange(200))
        await self._pause(0.1)

    async def _lock(self) -> None:
        async with self._tide.lock(f"soak/{self._chance.randrange(LOCKS)}", timeout=5):
            await self._pause(0.05)
        await self._pause(0.2)

    async def _lead(self) -> None:
        async with self._tide.leader(f"soak/{self._chance.randrange(_CANDIDACIES // 2)}", address=self._name):
            await self._pause(4)

    async def _keep_session(self) -> None:
        async with self._tide.session(ttl=10, on_outage="wait") as session:
            await session.put(f"soak/kept/{self._name}/{self._number()}")
            await session.lost

    async def _open_session(self) -> None:
        async with self._tide.session(ttl=5) as session:
            own = await session.put(f"soak/opened/{self._name}/{self._number()}")
            await self._pause(2)
            await session.delete(own)

    async def _stay_registered(self) -> None:
        async with self._tide.register("soak", f"http://{self._name}:{1000 + self._number()}"):
            await asyncio.Event().wait()

    async def _register(self) -> None:
        port = 5000 + self._number() % 1000
        async with self._tide.register("soak", f"http://{self._name}:{port}", ttl=5):
            await self._pause(2)

    async def _follow(self) -> None:
        async for _ in self._tide.config.changes("soak/"):
            self.done["change"] += 1

    async def _discover(self) -> None:
        self._tide.discover("soak").pick()
        await self._pause(0.2)


async def _sample(load: Load) -> None:
    process = psutil.Process()
    while True:
        await asyncio.sleep(EVERY)
        found = {
            "rss": process.memory_info().rss / 2**20,
            "descriptors": process.num_fds(),
            "tasks": len(asyncio.all_tasks()),
            "threads": process.num_threads(),
            "cpu": sum(process.cpu_times()[:2]),
        }
        print(json.dumps({"sample": found, "done": load.done}), flush=True)


def _remember_holds(tide: Coordinator) -> None:
    """Fill what is remembered of ended holds, which is bounded: while it fills it looks like a leak."""
    past = tide._parts.locks._ledger.past
    now = time.clock_gettime(time.CLOCK_BOOTTIME)
    ages = range(past.maxlen or 0, 0, -1)
    past.extend(Past(f"soak/{age % LOCKS}", now - age - 0.5, now - age - 0.25, (age, age)) for age in ages)


async def main(name: str, seed: str, *endpoints: str) -> None:
    """Do everything until the input ends."""
    async with tideover.connect(*endpoints, cache_dir=False, start_timeout=10) as tide:
        _remember_holds(tide)
        load = Load(tide, name, random.Random(seed))
        async with asyncio.TaskGroup() as tasks:
            running = [*load.begin(tasks), tasks.create_task(_sample(load))]
            await asyncio.to_thread(sys.stdin.read)
            for task in running:
                task.cancel()


if __name__ == "__main__":
    logging.getLogger("tideover").setLevel(logging.CRITICAL)
    asyncio.run(main(*sys.argv[1:]))
