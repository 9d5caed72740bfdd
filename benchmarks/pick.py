"""A pick among 1,000 endpoints of a service, beside `itertools.cycle`, and beside nginx's way of doing it."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence

from benchmarks.harness import Comparison, Goal, Row, interleave, statement
from tideover import connect
from tideover.discovery.endpoint import Endpoint
from tideover.testing import MemoryStore

COUNT = 1_000
_EQUAL = f"view.pick(), {COUNT:,} endpoints of equal weight"
_WEIGHTED = f"view.pick(), {COUNT:,} endpoints of different weights"


class Smooth:
    """nginx's smooth weighted round robin, as published: it looks at every endpoint at each pick."""

    def __init__(self, weights: Sequence[float]) -> None:
        self._weights = weights
        self._current = [0.0] * len(weights)
        self._total = sum(weights)

    def next(self) -> int:
        """Return whose turn it is."""
        current = self._current
        best = 0
        for n, weight in enumerate(self._weights):
            current[n] += weight
            if current[n] > current[best]:
                best = n
        current[best] -= self._total
        return best


def services(weights: Sequence[float], name: str) -> dict[bytes, bytes]:
    """Return a service as it lies in etcd."""
    found = (Endpoint(f"http://10.0.0.{n}:80", w, {}, f"i{n}", "x", name) for n, w in enumerate(weights))
    return {f"/{endpoint.key}".encode(): endpoint.encode() for endpoint in found}


async def measure() -> list[Comparison]:
    """Pick over and over."""
    chance = random.Random(7)
    weights = [chance.uniform(1, 10) for _ in range(COUNT)]
    store = MemoryStore()
    store.rebuild(services([1.0] * COUNT, "equal") | services(weights, "weighted"))
    async with connect(store=store, cache_dir=False) as tide:
        equal, weighted = tide.discover("equal"), tide.discover("weighted")
        for view in (equal, weighted):
            await view.wait_for(COUNT, timeout=10)
        turns = itertools.cycle(equal.endpoints)
        used = "with view.use() as endpoint: pass"
        times = await interleave(
            {
                "cycle": statement("next(turns)", {"turns": turns}),
                "equal": statement("view.pick()", {"view": equal}),
                "weighted": statement("view.pick()", {"view": weighted}),
                "use": statement(used, {"view": weighted}),
                "smooth": statement("smooth.next()", {"smooth": Smooth(weights)}),
            }
        )
    return [
        times.compare(_EQUAL, "equal", "next(itertools.cycle(...))", "cycle"),
        times.compare(_WEIGHTED, "weighted", "next(itertools.cycle(...))", "cycle"),
        times.compare("for scale: with view.use()", "use", "next(itertools.cycle(...))", "cycle"),
        times.compare("for scale: view.pick(), beside nginx's algorithm", "weighted", "in Python", "smooth"),
    ]


ROW = Row(
    name="pick",
    what="a pick among 1,000 endpoints",
    peer="itertools.cycle",
    goals={_EQUAL: Goal(3e-6, of="value"), _WEIGHTED: Goal(3e-6, of="value")},
    measure=measure,
)
