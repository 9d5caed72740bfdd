"""A flag by OpenFeature's client, beside the same client with a provider that knows nothing but one value."""

from __future__ import annotations

from benchmarks import peers
from benchmarks.coordinators import healthy
from benchmarks.harness import Comparison, Goal, Row, awaiting, interleave, statement

_PLAIN = "a flag by OpenFeature's client"
_VARIANT = "a flag with variants"
_ASYNC = "a flag, async"


async def measure() -> list[Comparison]:
    """Evaluate one flag over and over."""
    from tideover.contrib.openfeature import TideoverProvider

    api = peers.openfeature_api()
    variants = '{"variants": {"on": true, "off": false}, "default": "on"}'
    async with healthy({"flags/a": "true", "flags/b": variants}) as tide:
        api.set_provider_and_wait(peers.constant_flags(), "constant")
        api.set_provider_and_wait(TideoverProvider(tide), "tideover")
        constant, client = api.get_client("constant"), api.get_client("tideover")
        sync, awaited = "client.get_boolean_value(key, False)", "await client.get_boolean_value_async(key, False)"
        times = await interleave(
            {
                "constant": statement(sync, {"client": constant, "key": "a"}),
                "plain": statement(sync, {"client": client, "key": "a"}),
                "variant": statement(sync, {"client": client, "key": "b"}),
                "constant async": awaiting(awaited, {"client": constant, "key": "a"}),
                "async": awaiting(awaited, {"client": client, "key": "a"}),
            }
        )
        api.shutdown()
    peer = "with a constant provider"
    return [
        times.compare(_PLAIN, "plain", peer, "constant"),
        times.compare(_VARIANT, "variant", peer, "constant"),
        times.compare(_ASYNC, "async", peer, "constant async"),
    ]


ROW = Row(
    name="flags",
    what="evaluating a flag by OpenFeature's client",
    peer="the same client with a provider that returns a constant",
    goals={_PLAIN: Goal(1.3), _VARIANT: Goal(1.3), _ASYNC: Goal(1.3)},
    measure=measure,
)
