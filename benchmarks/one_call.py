"""One `config.fetch` and one `config.put` by itself, beside a Get and a Put of etcd's Go client.

All take turns on one etcd, round after round, a hundred calls each. The key is not followed and not cached: each
fetch asks the quorum, and no put waits for a view that shows it.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping

from benchmarks import child, go_client
from benchmarks.harness import Comparison, Goal, Row
from tideover import connect
from tideover.testing import EtcdServer

CALLS = 100
ROUNDS = 21
_WARM_UP = 3
_KEY = "calls"
_GO = "etcd's Go client"
_FETCH, _PUT = "one config.fetch", "one config.put"

Round = Callable[[], Awaitable[float]]


async def measure() -> list[Comparison]:
    """Let all take turns, in a fresh process."""
    await asyncio.to_thread(go_client.build)
    rounds: list[dict[str, float]] = await child.call(take_turns, timeout=240.0)
    return [_compare(rounds, what, f"go {what}") for what in (_FETCH, _PUT)]


def _compare(rounds: list[dict[str, float]], what: str, peer: str) -> Comparison:
    value, reference = (statistics.median(one[name] for one in rounds) for name in (what, peer))
    low, _, high = statistics.quantiles([one[what] / one[peer] for one in rounds], n=4)
    return Comparison(what, value, _GO, reference, low, high)


async def take_turns() -> list[dict[str, float]]:
    """In a child: seconds per call of every client in every round."""
    with EtcdServer() as server:
        flags = ("calls", "-endpoint", server.endpoint, "-key", f"/config/{_KEY}", f"-count={CALLS}")
        async with (
            connect(server.endpoint, follow=("elsewhere/",), cache_dir=False) as tide,
            go_client.running(*flags) as reader,
            go_client.running(*flags, "-put") as writer,
        ):
            config = tide.config
            cases: dict[str, Round] = {
                _FETCH: _calling(lambda: config.fetch(_KEY)),
                f"go {_FETCH}": _told(reader),
                _PUT: _calling(lambda: config.put(_KEY, "0123456789")),
                f"go {_PUT}": _told(writer),
            }
            return await _rounds(cases)


async def _rounds(cases: Mapping[str, Round]) -> list[dict[str, float]]:
    found = [{case: await run() / CALLS for case, run in cases.items()} for _ in range(_WARM_UP + ROUNDS)]
    return found[_WARM_UP:]


def _calling(call: Callable[[], Awaitable[object]]) -> Round:
    async def run() -> float:
        began = time.perf_counter()
        for _ in range(CALLS):
            await call()
        return time.perf_counter() - began

    return run


def _told(client: go_client.GoClient) -> Round:
    async def run() -> float:
        return float((await client.round())["seconds"])

    return run


ROW = Row(
    name="one-call",
    what="one config.fetch and one config.put at a time",
    peer="etcd's Go client",
    goals={_FETCH: Goal(1.5), _PUT: Goal(1.2)},
    measure=measure,
)
