"""The picture of a fleet that returns: `python -m benchmarks.fleet_picture docs/assets/coming-back.svg`."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from benchmarks import fleet
from benchmarks.picture import Mark, bars


async def main(file: str) -> None:
    """Measure once, and draw it."""
    seen = await fleet.outage()
    done, back = max(seen.registered) - seen.killed, seen.back - seen.killed
    peak = max(seen.rate)
    text = (
        f"etcd is away from 0 to {back:.1f} s and comes back empty. {fleet.CLIENTS} registrations return between "
        f"{min(seen.registered) - seen.killed:.1f} and {done:.1f} s; etcd gets up to {peak:,.0f} requests/s."
    )
    marks = [Mark(0.0, "etcd killed"), Mark(back, "it answers, empty"), Mark(done, "all are there")]
    drawn = bars("1,000 services return", text, seen.rate, step=fleet.STEP, marks=marks, unit="requests/s")
    await asyncio.to_thread(Path(file).write_text, drawn, encoding="utf-8")
    print(text)
    print(f"spread {seen.spread:.2f} s, done {seen.done:.2f} s after etcd answered", end=", ")
    print(f"last of {len(seen.followed)} followers {max(seen.followed) - seen.back:.2f} s")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
