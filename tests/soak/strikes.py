"""A member of a cluster struck every ten seconds: killed, or stopped and continued, and back before the next."""

from __future__ import annotations

import asyncio
import random
from collections import Counter

from tideover.testing import EtcdCluster

# Seconds from one strike to the next, and for how long the member is away.
EVERY = 10.0
_AWAY = (0.5, 5.0)


async def strike_on(cluster: EtcdCluster, chance: random.Random, done: Counter[str]) -> None:
    """Strike one member after the other until cancelled; all run in the end.

    Args:
        cluster: The cluster.
        chance: What is drawn from.
        done: How often each strike was done.
    """
    while True:
        member, kind, away = (
            chance.choice(cluster.members),
            chance.choice(("kill", "stop")),
            chance.uniform(*_AWAY),
        )
        done[kind] += 1
        member.kill() if kind == "kill" else member.pause()
        try:
            await asyncio.sleep(away)
        finally:
            member.start() if kind == "kill" else member.resume()
        await asyncio.sleep(EVERY - away)
