"""From before a put until it is visible in another process: in `config.get`, and in a bare watch.

Two processes read and this one writes, by turns for the one and for the other, so that both share the same moments
of a noisy machine. CLOCK_MONOTONIC is one clock for all processes of a machine: the value written is the time just
before it was sent.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from dataclasses import dataclass

from benchmarks import child, raw
from benchmarks.harness import Comparison, Goal, Row
from tideover import connect
from tideover.testing import EtcdServer

PUTS = 400
# The first few find cold connections.
_WARM_UP = 20
_PAUSE = 0.005
_VISIBLE = "put until visible in another process's config.get"


@dataclass
class Stamps:
    """What is written.

    Attributes:
        bare: By a bare put.
        config: By `config.put`.
    """

    bare: int = 0
    config: int = 0


class SentAt:
    """Notes how long ago a value was sent that is visible now."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def note(self, sent_at: int) -> None:
        """Take in a value that is visible now."""
        self.seconds.append((time.monotonic_ns() - sent_at) / 1e9)


async def read_config(endpoint: str) -> dict[str, list[float]]:
    """In a child: seconds until each put was visible in `config.get`.

    `validate=` is called within the change itself, so nothing has to be polled and no task has to wake up first.
    """
    seen = {"bare": SentAt(), "config": SentAt()}
    newest = {"bare": 0, "config": 0}
    async with connect(endpoint, cache_dir=False) as tide:

        def look(_: Stamps) -> None:
            for key, was in newest.items():
                stamp = tide.config.get(key, int, default=0)
                if stamp != was:
                    seen[key].note(stamp)
                    newest[key] = stamp

        live = tide.config.bind(Stamps, validate=look)
        await asyncio.sleep(0.5)
        child.say_ready()
        await child.until_told()
        assert live.rejection is None
    return {key: sent.seconds for key, sent in seen.items()}


async def read_watch(endpoint: str) -> list[float]:
    """In a child: seconds until each put had arrived on a bare watch."""
    seen = SentAt()
    async with raw.watching(endpoint, b"/raw/") as stream:

        async def look() -> None:
            while True:
                reply = await stream.read()
                for event in reply.events:
                    seen.note(int(event.kv.value))

        looking = asyncio.create_task(look())
        await asyncio.sleep(0.5)
        child.say_ready()
        await child.until_told()
        looking.cancel()
    return seen.seconds


async def measure() -> list[Comparison]:
    """Write by turns what the one reads and what the other reads."""
    with EtcdServer() as server:
        async with (
            raw.stubs(server.endpoint) as etcd,
            connect(server.endpoint, follow=("elsewhere/",), cache_dir=False) as tide,
            child.running(read_config, server.endpoint) as by_config,
            child.running(read_watch, server.endpoint) as by_watch,
        ):
            await child.wait_ready(by_config)
            await child.wait_ready(by_watch)
            for _ in range(PUTS + _WARM_UP):
                await etcd.put(b"/config/bare", _now())
                await asyncio.sleep(_PAUSE)
                await etcd.put(b"/raw/stamp", _now())
                await asyncio.sleep(_PAUSE)
                await tide.config.put("config", time.monotonic_ns())
                await asyncio.sleep(_PAUSE)
            visible = await child.finish(by_config)
            watched = (await child.finish(by_watch))[_WARM_UP:]
    bare, config = visible["bare"][_WARM_UP:], visible["config"][_WARM_UP:]
    if min(map(len, (bare, config, watched))) < PUTS * 0.95:
        raise RuntimeError(f"of {PUTS} puts {len(bare)}, {len(config)} and {len(watched)} were seen")
    return [
        _compare(_VISIBLE, bare, watched, 0.5),
        _compare("for scale: 90th percentile", bare, watched, 0.9),
        _compare("for scale: from config.put, not a bare put", config, watched, 0.5),
    ]


def _now() -> bytes:
    return str(time.monotonic_ns()).encode()


def _compare(what: str, seconds: list[float], peer: list[float], at: float) -> Comparison:
    """Compare a quantile; the quartiles are those of the ratios of neighbouring puts."""
    ratios = [one / other for one, other in zip(seconds, peer, strict=False)]
    low, _, high = statistics.quantiles(ratios, n=4)
    return Comparison(what, _quantile(seconds, at), "until on a bare watch", _quantile(peer, at), low, high)


def _quantile(seconds: list[float], at: float) -> float:
    return sorted(seconds)[int(len(seconds) * at)]


ROW = Row(
    name="propagation",
    what="put until visible in another process's config.get",
    peer="a bare put until on a bare watch",
    goals={_VISIBLE: Goal(1.3)},
    measure=measure,
)
