"""`config.fetch` when both lanes are open: refused inside the process, answered from what is known."""

from __future__ import annotations

from typing import TypeVar

from benchmarks.coordinators import healthy, in_outage
from benchmarks.harness import Comparison, Goal, Row, awaiting, interleave
from tideover.store.operations import Op, Range, Result
from tideover.testing import MemoryStore

R = TypeVar("R", bound=Result)

KEY = "payments/timeout"
_FETCH = "fetch with both lanes open"
_PACKETS = "calls to etcd by such a fetch"


class CountingStore(MemoryStore):
    """Counts attempts, whether or not they reach a member; the monitor's probes are none of the caller's."""

    def __init__(self) -> None:
        super().__init__()
        self.attempts = 0

    async def call(self, op: Op[R], *, member: str, timeout: float) -> R:
        """Count, then make the attempt."""
        self.attempts += not (isinstance(op, Range) and op.key.endswith(b"/tideover/probe"))
        return await super().call(op, member=member, timeout=timeout)


async def measure() -> list[Comparison]:
    """Fetch a followed key, known from a snapshot, from a cluster of which no member answers."""
    well_store, ill_store = CountingStore(), CountingStore()
    values = {KEY: "2.5"}
    async with healthy(values, store=well_store) as well, in_outage(values, store=ill_store) as ill:
        line = "await fetch(key, float)"
        before = ill_store.attempts
        times = await interleave(
            {
                "open": awaiting(line, {"fetch": ill.config.fetch, "key": KEY}),
                "memory": awaiting(line, {"fetch": well.config.fetch, "key": KEY}),
            }
        )
        packets, needed = ill_store.attempts - before, 1.0
    return [
        times.compare(_FETCH, "open", "fetch answered by a store in memory", "memory"),
        Comparison(_PACKETS, packets, "calls by a fetch while healthy", needed, unit=""),
    ]


ROW = Row(
    name="fetch-refused",
    what="config.fetch with both lanes open",
    peer="the same fetch answered by a store in memory, without a network",
    goals={_FETCH: Goal(50e-6, of="value"), _PACKETS: Goal(0, of="value")},
    measure=measure,
)
