"""Everything for a long time, while members are struck: what the processes and etcd have must stay flat."""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path

from tests.soak import strikes
from tests.soak.load import EVERY
from tests.soak.slope import Slope, slope
from tideover.etcd.transports import VARIABLE
from tideover.locks.hold_document import published
from tideover.testing import EtcdCluster

# MiB that the memory of one process may grow in an hour.
RSS_BOUND = 4.0
# What must not grow at all.
_FLAT = ("descriptors", "tasks", "keys", "leases")
# The part of a run in which caches and pools fill, and which says nothing of growth.
_WARM_UP = 0.25


@dataclass
class Series:
    """What was sampled of one process, or of etcd.

    Attributes:
        name: Whose it is.
        times: When, in seconds.
        values: What there was, by name.
    """

    name: str
    times: list[float] = field(default_factory=list)
    values: dict[str, list[float]] = field(default_factory=dict)

    def add(self, **sample: float) -> None:
        """Add a sample of now."""
        self.times.append(time.monotonic())
        for what, value in sample.items():
            self.values.setdefault(what, []).append(value)

    def slopes(self) -> dict[str, Slope]:
        """Return the slope of each, after the warm-up."""
        first = int(len(self.times) * _WARM_UP)
        return {what: slope(self.times[first:], values[first:]) for what, values in self.values.items()}


class Churn:
    """One run.

    Args:
        minutes: How long.
        processes: How many processes do everything.
        transports: What each of them goes over, in turn.
        seed: What strikes and loads are drawn from.
        rss_bound: MiB that the memory of one process may grow in an hour.
    """

    def __init__(
        self,
        minutes: float,
        *,
        processes: int = 2,
        transports: Sequence[str] = ("http2",),
        seed: int = 1,
        rss_bound: float = RSS_BOUND,
    ) -> None:
        self._seconds = 60 * minutes
        self._seed = seed
        self._rss_bound = rss_bound
        turns = zip(range(1, processes + 1), cycle(transports), strict=False)
        self._transports = {f"{transport}-{number}": transport for number, transport in turns}
        self._names = list(self._transports)
        self._series = {name: Series(name) for name in (*self._names, "etcd")}
        self._done = {name: Counter[str]() for name in self._names}
        self._strikes: Counter[str] = Counter()

    async def run(self) -> list[str]:
        """Run; return complaints."""
        with EtcdCluster(3) as cluster:
            loads = [await self._start(name, cluster.endpoints) for name in self._names]
            try:
                tasks = [asyncio.create_task(self._read(name, load)) for name, load in loads]
                tasks.append(asyncio.create_task(self._look(cluster)))
                tasks.append(
                    asyncio.create_task(strikes.strike_on(cluster, random.Random(self._seed), self._strikes))
                )
                # A load that ends, or a strike that fails, ends the run.
                await asyncio.wait(tasks, timeout=self._seconds, return_when=asyncio.FIRST_COMPLETED)
                ended = [task for task in tasks if task.done()]
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                for task in ended:
                    task.result()
                endings = [await _ended(name, load) for name, load in loads]
                return [*self.complaints(), *filter(None, endings)]
            finally:
                for _, load in loads:
                    with suppress(ProcessLookupError):
                        load.kill()
                    await load.wait()

    async def _start(self, name: str, endpoints: Sequence[str]) -> tuple[str, asyncio.subprocess.Process]:
        command = [sys.executable, "-m", "tests.soak.load", name, f"{self._seed} {name}", *endpoints]
        process = await asyncio.create_subprocess_exec(
            *command,
            env={**os.environ, VARIABLE: self._transports[name]},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
        )
        return name, process

    async def _read(self, name: str, load: asyncio.subprocess.Process) -> None:
        assert load.stdout is not None
        while line := await load.stdout.readline():
            told = json.loads(line)
            self._series[name].add(**told["sample"])
            self._done[name] = Counter(told["done"])
        raise RuntimeError(f"{name} has ended with {await load.wait()}")

    async def _look(self, cluster: EtcdCluster) -> None:
        while True:
            await asyncio.sleep(EVERY)
            # While no member answers in time there is nothing to look at.
            with suppress(RuntimeError, TimeoutError, OSError):
                self._series["etcd"].add(**await asyncio.to_thread(in_etcd, cluster))

    def complaints(self) -> list[str]:
        """Return what has grown."""
        found = []
        for series in self._series.values():
            for what, seen in series.slopes().items():
                if what in _FLAT and seen.exceeds(0):
                    found.append(f"{series.name}: {what} grow: {seen}")
                if what == "rss" and seen.exceeds(self._rss_bound):
                    found.append(f"{series.name}: rss grows by more than {self._rss_bound:g} MiB: {seen}")
        return found

    def report(self) -> str:
        """Return what was seen, for people."""
        lines = [f"{sum(self._strikes.values())} strikes: {dict(self._strikes)}"]
        for series in self._series.values():
            for what, seen in series.slopes().items():
                values = series.values[what]
                lines.append(f"{series.name:8} {what:12} {values[0]:8.1f} -> {values[-1]:8.1f}, {seen}")
        lines += [f"{name}: {dict(sorted(done.items()))}" for name, done in self._done.items()]
        return "\n".join(lines)


def in_etcd(cluster: EtcdCluster) -> dict[str, float]:
    """Return how many keys and leases there are, and apart from them records of holds: those stay for a week."""
    prefix = published("/").decode()
    counts = [_count(cluster, "", "--prefix"), _count(cluster, prefix, "--prefix")]
    leases = cluster.etcdctl("lease", "list", timeout=3).split()
    return {"keys": counts[0] - counts[1], "records": counts[1], "leases": len(leases)}


def _count(cluster: EtcdCluster, *asked: str) -> int:
    fields = cluster.etcdctl("get", *asked, "--count-only", "--write-out=fields", timeout=3)
    return int(fields.rpartition('"Count" : ')[2])


async def _ended(name: str, load: asyncio.subprocess.Process) -> str:
    """Let a load end; return a complaint, or nothing."""
    try:
        await asyncio.wait_for(load.communicate(b""), 60)
    except TimeoutError:
        return f"{name} does not end"
    return f"{name} has ended with {load.returncode}" if load.returncode else ""
