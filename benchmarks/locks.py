"""Locks, beside etcd's Go client: taken by one, by eight in one process, and by several processes.

All take turns on one etcd, round after round. Moments are those of CLOCK_MONOTONIC, which is one clock for all
processes of a machine: a hold is (wanted, acquired, released). Waits are medians: the least would show luck.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import pairwise
from typing import NamedTuple

from benchmarks import child, go_client, peers, raw
from benchmarks.harness import Comparison, Goal, Row
from tideover import Coordinator, connect
from tideover.testing import EtcdServer

_TIMES = 150
_ROUNDS = 5
_SECONDS = 1.0
_WORKERS = 8
_PROCESSES = 3
# Between two acquires, on all sides: so the release is over, and nobody's processes are warmer than the others'.
_PAUSE = 0.002
_GO = "etcd's Go client"
_BARE = "the same transaction by bare grpc.aio stubs"
_ACQUIRE = "uncontended lock: acquire"
_PASS_ON = "from letting go until another process has it"
_CONTENDED = "8 in one process want it: time per hold"
_REMOTE = "meanwhile, how long another process waits"
_ACROSS = "3 processes want it: time per hold"
_ACROSS_P95 = "3 processes want it: from letting go until another has it, p95"
_AGAIN = "the same lock again, nobody waiting"
_RIVAL = "how long the first rival then waits"
_COLD = "a lock that nobody had"
# Times that a rival comes in a round, and seconds after which no key is warm.
_RIVALS = 15
_COOL = 0.15


class Hold(NamedTuple):
    """One time of having the lock, in nanoseconds of the monotonic clock."""

    wanted: int
    acquired: int
    released: int
    process: int = 0


# Clients --------------------------------------------------------------------------------------------------------


async def contend(endpoint: str, name: str, workers: int, handover: bool) -> None:
    """In a child: take and release a lock in so many coroutines, for a second at each line of input."""
    async with connect(endpoint, cache_dir=False, follow=()) as tide:
        async with tide.lock("warm"):
            pass
        child.say_ready()
        while line := await asyncio.to_thread(sys.stdin.readline):
            until = time.monotonic_ns() + int(float(line) * 1e9)
            holds: list[tuple[int, int, int]] = []

            async def work(until: int = until, holds: list[tuple[int, int, int]] = holds) -> None:
                while (wanted := time.monotonic_ns()) < until:
                    async with tide.lock(name, handover=handover):
                        acquired = time.monotonic_ns()
                    holds.append((wanted, acquired, acquired))

            await asyncio.gather(*[work() for _ in range(workers)])
            print(json.dumps(holds), flush=True)


class Ours:
    """A child process that contends when told."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def round(self) -> list[Hold]:
        """Let it contend for a second; return its holds."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{_SECONDS}\n".encode())
        return [Hold(*hold) for hold in json.loads(await self._process.stdout.readline())]


class Gos:
    """The Go program that contends when told."""

    def __init__(self, client: go_client.GoClient) -> None:
        self._client = client

    async def round(self) -> list[Hold]:
        """Let it contend for a second; return its holds."""
        found = await self._client.round()
        return [Hold(hold["wanted"], hold["acquired"], hold["released"]) for hold in found["holds"]]


@asynccontextmanager
async def contenders(
    endpoint: str, name: str, workers: Sequence[int]
) -> AsyncIterator[tuple[list[Ours], list[Gos]]]:
    """Run a process of each kind for each number of workers."""
    async with AsyncExitStack() as stack:
        ours, gos = [], []
        for count in workers:
            process = await stack.enter_async_context(
                child.running(contend, endpoint, f"ours-{name}", count, True)
            )
            assert process.stdout is not None
            await process.stdout.readline()
            ours.append(Ours(process))
            options = [f"-endpoint={endpoint}", f"-name=gos-{name}", f"-workers={count}", f"-seconds={_SECONDS}"]
            gos.append(Gos(await stack.enter_async_context(go_client.running("contend", *options))))
        yield ours, gos


async def _together(clients: Sequence[Ours] | Sequence[Gos]) -> list[Hold]:
    """Let all contend at the same time; return their holds in the order in which they had the lock."""
    rounds = await asyncio.gather(*[client.round() for client in clients])
    holds = [hold._replace(process=n) for n, one in enumerate(rounds) for hold in one]
    return sorted(holds, key=lambda hold: hold.acquired)


# What is measured -----------------------------------------------------------------------------------------------


def _per_hold(holds: Sequence[Hold]) -> float:
    return (holds[-1].acquired - holds[0].wanted) / 1e9 / len(holds)


def _passed_on(holds: Sequence[Hold]) -> list[float]:
    """Return the seconds from one process's letting go until another had it that had been waiting."""
    return [
        (after.acquired - before.released) / 1e9
        for before, after in pairwise(holds)
        if before.process != after.process and after.wanted < before.released
    ]


def _waits(holds: Sequence[Hold], process: int) -> list[float]:
    return [(hold.acquired - hold.wanted) / 1e9 for hold in holds if hold.process == process]


def _quartiles(ratios: Sequence[float]) -> tuple[float, float]:
    low, _, high = statistics.quantiles(ratios, n=4)
    return low, high


def _compare(what: str, ours: Sequence[float], gos: Sequence[float], peer: str = _GO) -> Comparison:
    """Compare the medians of rounds."""
    low, high = _quartiles([mine / theirs for mine, theirs in zip(ours, gos, strict=True)])
    return Comparison(what, statistics.median(ours), peer, statistics.median(gos), low, high)


async def measure_alone() -> list[Comparison]:
    """Take a lock that nobody else wants; then let two processes pass one on."""
    await asyncio.to_thread(go_client.build)
    acquire: dict[str, list[float]] = {"ours": [], "gos": [], "bare": [], "aetcd": []}
    passed: dict[str, list[float]] = {"ours": [], "gos": []}
    with EtcdServer(fsync=True) as server:
        options = [f"-endpoint={server.endpoint}", f"-count={_TIMES}", f"-pause={_PAUSE}s"]
        async with (
            connect(server.endpoint, cache_dir=False, follow=()) as tide,
            go_client.running("lock", *options) as go,
            peers.aetcd_client(server.endpoint) as aetcd,
            raw.stubs(server.endpoint) as bare,
        ):
            anchored_at = await bare.put(b"bare/anchor", b"")
            for _ in range(_ROUNDS):
                acquire["gos"].append(statistics.median((await go.round())["acquire"]))
                times = []
                for n in range(_TIMES):
                    began = time.perf_counter()
                    # A name that was not had just before: no key is found warm.
                    async with tide.lock(f"bench-{n}"):
                        times.append(time.perf_counter() - began)
                    await asyncio.sleep(_PAUSE)
                acquire["ours"].append(statistics.median(times))
                times = []
                for _ in range(_TIMES):
                    began = time.perf_counter()
                    await bare.take(b"bare/locks/one", b"bare/anchor", anchored_at)
                    times.append(time.perf_counter() - began)
                    await bare.delete(b"bare/locks/one")
                    await asyncio.sleep(_PAUSE)
                acquire["bare"].append(statistics.median(times))
                times = []
                for _ in range(20):
                    lock = aetcd.lock(b"aetcd", ttl=15)
                    began = time.perf_counter()
                    await lock.acquire()
                    times.append(time.perf_counter() - began)
                    await lock.release()
                    await asyncio.sleep(_PAUSE)
                acquire["aetcd"].append(statistics.median(times))
        async with contenders(server.endpoint, "passed", [1, 1]) as (ours, gos):
            for _ in range(_ROUNDS):
                passed["gos"].append(statistics.median(_passed_on(await _together(gos))))
                passed["ours"].append(statistics.median(_passed_on(await _together(ours))))
    return [
        _compare(_ACQUIRE, acquire["ours"], acquire["gos"]),
        _compare(_PASS_ON, passed["ours"], passed["gos"]),
        _compare("for scale: acquire, beside bare stubs", acquire["ours"], acquire["bare"], _BARE),
        _compare(f"for scale: {_BARE}", acquire["bare"], acquire["gos"]),
        _compare("for scale: acquire, beside aetcd", acquire["ours"], acquire["aetcd"], "aetcd"),
    ]


async def measure_together() -> list[Comparison]:
    """Let eight in one process contend, then with one elsewhere, then three processes."""
    await asyncio.to_thread(go_client.build)
    found: dict[str, list[float]] = {}

    def note(what: str, whose: str, value: float) -> None:
        found.setdefault(f"{what} {whose}", []).append(value)

    with EtcdServer(fsync=True) as server:
        async with contenders(server.endpoint, "eight", [_WORKERS, 1]) as (ours, gos):
            for _ in range(_ROUNDS):
                note(_CONTENDED, "gos", _per_hold(await _together(gos[:1])))
                note(_CONTENDED, "ours", _per_hold(await _together(ours[:1])))
                note(_REMOTE, "gos", statistics.median(_waits(await _together(gos), 1)))
                note(_REMOTE, "ours", statistics.median(_waits(await _together(ours), 1)))
        async with contenders(server.endpoint, "across", [1] * _PROCESSES) as (ours, gos):
            for _ in range(_ROUNDS):
                for whose, clients in (("gos", gos), ("ours", ours)):
                    holds = await _together(clients)
                    note(_ACROSS, whose, _per_hold(holds))
                    note(_ACROSS_P95, whose, statistics.quantiles(_passed_on(holds), n=20)[-1])
    whats = (_CONTENDED, _REMOTE, _ACROSS, _ACROSS_P95)
    return [_compare(what, found[f"{what} ours"], found[f"{what} gos"]) for what in whats]


async def _take(tide: Coordinator, name: str) -> float:
    began = time.perf_counter()
    async with tide.lock(name):
        return time.perf_counter() - began


async def measure_again() -> list[Comparison]:
    """Take the same lock again and again; then let somebody elsewhere want it, too."""
    await asyncio.to_thread(go_client.build)
    again: list[float] = []
    gos: list[float] = []
    waits: list[float] = []
    cold: list[float] = []
    with EtcdServer(fsync=True) as server:
        options = [f"-endpoint={server.endpoint}", f"-count={_TIMES}", f"-pause={_PAUSE}s"]
        async with (
            connect(server.endpoint, cache_dir=False, follow=()) as tide,
            connect(server.endpoint, cache_dir=False, follow=()) as rival,
            go_client.running("lock", *options) as go,
        ):
            await _take(rival, "warm")
            for _ in range(_ROUNDS):
                gos.append(statistics.median((await go.round())["acquire"]))
                times = []
                for _ in range(_TIMES):
                    times.append(await _take(tide, "again"))
                    await asyncio.sleep(_PAUSE)
                again.append(statistics.median(times))
                warm, alone = [], []
                for n in range(_RIVALS):
                    for _ in range(3):
                        await _take(tide, "again")
                        await asyncio.sleep(_PAUSE)
                    warm.append(await _take(rival, "again"))
                    await asyncio.sleep(_COOL)
                    alone.append(await _take(rival, f"cold-{n}"))
                waits.append(statistics.median(warm))
                cold.append(statistics.median(alone))
    return [_compare(_AGAIN, again, gos), _compare(_RIVAL, waits, cold, _COLD)]


ROW = Row(
    name="lock",
    what="a lock that nobody else wants, and one that two processes pass on",
    peer="etcd's Go client; bare stubs; aetcd",
    goals={_ACQUIRE: Goal(1.1), _PASS_ON: Goal(1.1)},
    measure=measure_alone,
)

CONTENDED = Row(
    name="lock-contended",
    what="a lock that eight coroutines, or three processes, want without end",
    peer="etcd's Go client",
    goals={_CONTENDED: Goal(1 / 500), _REMOTE: Goal(2.0), _ACROSS: Goal(1 / 12), _ACROSS_P95: Goal(0.05)},
    measure=measure_together,
)

AGAIN = Row(
    name="lock-again",
    what="a lock that the same process wants again at once, and what that costs the first rival",
    peer="etcd's Go client; a lock that nobody had",
    goals={_AGAIN: Goal(0.15), _RIVAL: Goal(4.0)},
    measure=measure_again,
)
