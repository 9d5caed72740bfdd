"""A candidate with the policy "peers" that says what becomes of it: one JSON object per line.

Run as: python peers_worker.py ELECTION TTL ENDPOINT...
"""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time

import tideover

SECRET = "not a secret, for tests only"


def say(what: str, **fields: object) -> None:
    """Print an event with the machine's time."""
    print(json.dumps({"what": what, "at": time.monotonic(), **fields}), flush=True)


async def lead(tide: tideover.Coordinator, election: str, ttl: float) -> None:
    """Lead, again and again."""
    while True:
        try:
            async with tide.leader(election, ttl=ttl, on_outage="peers") as term:
                told = ""
                while True:
                    term.check()
                    if (standing := str(term.standing)) != told:
                        told = standing
                        say(told, token=term.token)
                    await asyncio.sleep(0.02)
        except tideover.LeadershipLost as exc:
            say("lost", why=str(exc))


async def main(election: str, ttl: str, *endpoints: str) -> None:
    """Connect, and lead until a signal ends it."""
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    failsafe = tideover.Failsafe(secret=SECRET, listen="127.0.0.1:0")
    async with tideover.connect(*endpoints, cache_dir=False, failsafe=failsafe) as tide:
        say("ready")
        task = asyncio.create_task(lead(tide, election, float(ttl)))
        await stopped.wait()
        task.cancel()
        await asyncio.wait([task])
    say("ended")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
