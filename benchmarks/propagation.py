"""From before a put until it is visible in another process: in `config.get`, and in a bare watch.

Two processes read and this one writes, by turns for the one and for the other, so that both share the same moments
of a noisy machine. CLOCK_MONOTONIC is one clock for all processes of a machine: the value written is the time just
before it was sent.
"""

from __future__ import annotations

import asyncio
import statistics
import time

from benchmarks import child, raw
from benchmarks.harness import Comparison, Goal, Row
from tideover import connect
from tideover.testing import EtcdServer

PUTS = 400
# The first few find cold connections.
_WARM_UP = 20
_PAUSE = 0.005
_VISIBLE = "put until visible in another process's config.get"


class SentAt:
    """Notes when a decoded value became visible: `validate=` is called within the change itself."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def note(self, sent_at: int) -> None:
        """Take in a value that is visible now."""
        self.seconds.append((time.monotonic_ns() - sent_at) / 1e9)


async def read_config(endpoint: str) -> list[float]:
    """In a child: seconds until each put was visible in `config.get`."""
    seen = SentAt()
    async with connect(endpoint, cache_dir=False) as tide:
        tide.config.get("stamp", int)

        async def look() -> None:
            async for _ in tide.config.changes("stamp"):
                seen.note(tide.config.get("stamp", int))

        looking = asyncio.create_task(look())
        await asyncio.sleep(0.5)
        child.say_ready()
        await child.until_told()
        looking.cancel()
    return seen.seconds


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
    """Write by turns, with `config.put` and with a bare put."""
    with EtcdServer() as server:
        async with (
            raw.stubs(server.endpoint) as etcd,
            connect(server.endpoint, follow=("elsewhere/",), cache_dir=False) as tide,
        ):
            await tide.config.put("stamp", time.monotonic_ns())
            async with (
                child.running(read_config, server.endpoint) as by_config,
                child.running(read_watch, server.endpoint) as by_watch,
            ):
                await child.wait_ready(by_config)
                await child.wait_ready(by_watch)
                for _ in range(PUTS + _WARM_UP):
                    await tide.config.put("stamp", time.monotonic_ns())
                    await asyncio.sleep(_PAUSE)
                    await etcd.put(b"/raw/stamp", str(time.monotonic_ns()).encode())
                    await asyncio.sleep(_PAUSE)
                config = (await child.finish(by_config))[_WARM_UP:]
                watch = (await child.finish(by_watch))[_WARM_UP:]
    if min(len(config), len(watch)) < PUTS * 0.95:
        raise RuntimeError(f"of {PUTS} puts {len(config)} and {len(watch)} were seen")
    return [_compare(_VISIBLE, config, watch, 0.5), _compare("for scale: 90th percentile", config, watch, 0.9)]


def _compare(what: str, config: list[float], watch: list[float], at: float) -> Comparison:
    """Compare a quantile; the quartiles are those of the ratios of neighbouring puts."""
    ratios = [one / other for one, other in zip(config, watch, strict=False)]
    low, _, high = statistics.quantiles(ratios, n=4)
    return Comparison(what, _quantile(config, at), "until on a bare watch", _quantile(watch, at), low, high)


def _quantile(seconds: list[float], at: float) -> float:
    return sorted(seconds)[int(len(seconds) * at)]


ROW = Row(
    name="propagation",
    what="put until visible in another process's config.get",
    peer="a bare put until on a bare watch",
    goals={_VISIBLE: Goal(1.3)},
    measure=measure,
)
