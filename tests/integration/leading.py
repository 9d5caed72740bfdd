"""A process that leads when it may, and says so on its standard output: one JSON object per line.

Run as: python leading.py ELECTION TTL ON_OUTAGE ENDPOINT...
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

import tideover


def say(what: str, **fields: object) -> None:
    """Print an event with the machine's time."""
    print(json.dumps({"what": what, "at": time.monotonic(), **fields}), flush=True)


async def main(election: str, ttl: str, on_outage: str, *endpoints: str) -> None:
    """Lead, again and again."""
    assert on_outage in ("step_down", "stay")
    async with tideover.connect(*endpoints, cache_dir=False) as tide:
        say("ready")
        while True:
            try:
                async with tide.leader(election, ttl=float(ttl), on_outage=on_outage) as term:  # type: ignore[arg-type]
                    say("leads", token=term.token)
                    while True:
                        before = time.monotonic()
                        await asyncio.sleep(0.02)
                        if time.monotonic() - before > 1:
                            # Stopped for a while: is that known right after, before anything else has run?
                            say("resumed", leads=term.leads)
            except tideover.LeadershipLost as exc:
                say("lost", why=str(exc))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
