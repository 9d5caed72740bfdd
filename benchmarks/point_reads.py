"""1,000 keys read at once, each by itself: `config.fetch`, beside etcd's Go client and aetcd.

All take turns on one etcd, round after round. Each Python client is this process, one asyncio event loop and one
connection, with the garbage collector on, as a service has it; the Go client is a process of its own with a
goroutine per read. The keys are not followed and not cached, so that each fetch asks the quorum.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping

from benchmarks import child, go_client, peers, raw
from benchmarks.harness import Comparison, Goal, NotMeasured, Row, Timings
from tideover import connect
from tideover.testing import EtcdServer

READS = 1000
ROUNDS = 30
_WARM_UP = 3
# aetcd takes several times as long as the others.
_AETCD_EVERY = 3
_GO = "the Go client, 1,000 goroutines"
_FETCH = "1,000 concurrent fetches, per fetch"
_ON_UVLOOP = f"{_FETCH}, on uvloop"

Round = Callable[[], Awaitable[float]]


async def measure() -> list[Comparison]:
    """Let all take turns, in a fresh process, so that its garbage collector has only its own to look after."""
    await asyncio.to_thread(go_client.build)
    rounds: list[dict[str, float]] = await child.call(take_turns, timeout=240.0)
    times = Timings(rounds)
    found = [
        times.compare(_FETCH, "tideover", _GO, "go"),
        _median("for scale: the same, median of the rounds", times, "tideover", _GO, "go"),
        times.compare("for scale: beside aetcd", "tideover", "aetcd, 1,000 coroutines", "aetcd"),
        times.compare("for scale: coroutines that only wait for an event", "waiting", _GO, "go"),
        times.compare("for scale: 8 transactions by bare stubs", "raw", _GO, "go"),
    ]
    if peers.sdk_installed():
        sdk = Timings(await child.call(take_turns, True, timeout=240.0))
        found.append(sdk.compare("for scale: with the SDK recording every span", "tideover", _GO, "go"))
    return found


async def measure_on_uvloop() -> list[Comparison]:
    """Let all take turns on uvloop."""
    if not peers.uvloop_installed():
        raise NotMeasured("uvloop is not installed")
    await asyncio.to_thread(go_client.build)
    times = Timings(await child.call(take_turns, timeout=240.0, loop="uvloop"))
    return [times.compare(_ON_UVLOOP, "tideover", _GO, "go")]


def _median(what: str, times: Timings, of: str, peer: str, to: str) -> Comparison:
    value, reference = (statistics.median(one[case] for one in times.rounds) for case in (of, to))
    return Comparison(what, value, peer, reference)


async def take_turns(recorded: bool = False) -> list[dict[str, float]]:
    """In a child: seconds per read of every client in every round.

    Args:
        recorded: Whether the OpenTelemetry SDK records spans.
    """
    if recorded:
        peers.record_spans()
    names = [f"k{n}" for n in range(READS)]
    keys = [b"/config/" + name.encode() for name in names]
    with EtcdServer() as server:
        async with (
            raw.stubs(server.endpoint) as etcd,
            connect(server.endpoint, follow=("elsewhere/",), cache_dir=False) as tide,
            peers.aetcd_client(server.endpoint) as aetcd,
            go_client.running("reads", "-endpoint", server.endpoint, "-prefix=/config/k", f"-keys={READS}") as go,
        ):
            for first in range(0, READS, 100):
                await etcd.put_all({key: key[9:] for key in keys[first : first + 100]})
            expected = [name[1:] for name in names]

            async def fetch_all() -> float:
                began = time.perf_counter()
                readings = await asyncio.gather(*[tide.config.fetch(name) for name in names])
                took = time.perf_counter() - began
                assert [reading.value for reading in readings] == expected
                return took

            async def go_get_all() -> float:
                return float((await go.round())["seconds"])

            async def aetcd_get_all() -> float:
                began = time.perf_counter()
                await asyncio.gather(*[aetcd.get(key) for key in keys])
                return time.perf_counter() - began

            async def raw_batches() -> float:
                began = time.perf_counter()
                await asyncio.gather(*[etcd.read_all(keys[n : n + 128]) for n in range(0, READS, 128)])
                return time.perf_counter() - began

            cases: dict[str, Round] = {
                "go": go_get_all,
                "tideover": fetch_all,
                "waiting": _wait_for_an_event,
                "raw": raw_batches,
                "aetcd": aetcd_get_all,
            }
            return await _rounds(cases)


async def _rounds(cases: Mapping[str, Round]) -> list[dict[str, float]]:
    found: list[dict[str, float]] = []
    for number in range(_WARM_UP + ROUNDS):
        one = {}
        for case, run in cases.items():
            if case == "aetcd" and found and number % _AETCD_EVERY:
                one[case] = found[-1][case]
            else:
                one[case] = await run() / READS
        if number >= _WARM_UP:
            found.append(one)
    return found


async def _wait_for_an_event() -> float:
    """What asyncio takes for so many coroutines that do nothing else."""
    event = asyncio.Event()
    asyncio.get_running_loop().call_soon(event.set)
    began = time.perf_counter()
    await asyncio.gather(*[event.wait() for _ in range(READS)])
    return time.perf_counter() - began


ROW = Row(
    name="point-reads",
    what="1,000 concurrent config.fetch of keys that are not cached",
    peer="etcd's Go client; aetcd",
    goals={_FETCH: Goal(0.4)},
    measure=measure,
)

UVLOOP = Row(
    name="point-reads-uvloop",
    what="the same on uvloop",
    peer="etcd's Go client",
    goals={_ON_UVLOOP: Goal(0.3)},
    measure=measure_on_uvloop,
)
