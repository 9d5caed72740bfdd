"""A warm `config.get`, beside a dict and the caches that services use for the same purpose."""

from __future__ import annotations

from benchmarks import peers
from benchmarks.coordinators import healthy
from benchmarks.harness import Comparison, Goal, Row, awaiting, interleave, statement
from tideover import StalenessLimit

KEY = "payments/timeout"
_PLAIN = "config.get(key, float)"
_LIMITED = "config.get(key, float) with max_stale"


async def measure() -> list[Comparison]:
    """Read one key over and over."""
    values = {KEY: "2.5"}
    async with (
        healthy(values) as tide,
        healthy(values, limits={"payments/": StalenessLimit(3600.0)}) as limited,
    ):
        cashews = await peers.cashews_cache(KEY, 2.5)
        aiocache = await peers.aiocache_cache(KEY, 2.5)
        cases = {
            "dict": statement("values.get(key)", {"values": {KEY: 2.5}, "key": KEY}),
            "get": statement("config.get(key, float)", {"config": tide.config, "key": KEY}),
            "limited": statement("config.get(key, float)", {"config": limited.config, "key": KEY}),
            "current": statement("tide.config.get(key, float)", {"tide": tide, "key": KEY}),
            "cachetools": statement("cache.get(key)", {"cache": peers.ttl_cache(KEY, 2.5), "key": KEY}),
            "cashews": awaiting("await cache.get(key)", {"cache": cashews, "key": KEY}),
            "aiocache": awaiting("await cache.get(key)", {"cache": aiocache, "key": KEY}),
        }
        times = await interleave(cases)
        await cashews.close()
    return [
        times.compare(_PLAIN, "get", "dict.get", "dict"),
        times.compare(_LIMITED, "limited", "dict.get", "dict"),
        times.compare("for scale: tide.config.get(key, float)", "current", "dict.get", "dict"),
        times.compare("for scale: cachetools TTLCache.get", "cachetools", "dict.get", "dict"),
        times.compare("for scale: cashews get", "cashews", "dict.get", "dict"),
        times.compare("for scale: aiocache get", "aiocache", "dict.get", "dict"),
    ]


ROW = Row(
    name="warm-get",
    what="a warm config.get",
    peer="dict.get",
    goals={_PLAIN: Goal(5), _LIMITED: Goal(6.5)},
    measure=measure,
)
