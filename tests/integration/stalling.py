"""A process whose body blocks the event loop while it leads, and says what it hears on its standard output.

Run as: python stalling.py ELECTION TTL ON_STALL SECONDS ENDPOINT

It blocks for SECONDS, or, with 0, just sleeps. Then it says how it came to know, and which threads are left.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
import threading
import time

import tideover


def say(what: str, **fields: object) -> None:
    """Print an event with the machine's time."""
    print(json.dumps({"what": what, "at": time.monotonic(), **fields}), flush=True)


class Saying(logging.Handler):
    """Says what is logged about stalls."""

    def emit(self, record: logging.LogRecord) -> None:
        if "election.stall" in record.getMessage():
            say("stall", text=record.getMessage())


def block(seconds: float) -> None:
    """Block the event loop; the stack is to show this."""
    time.sleep(seconds)


async def lead(tide: tideover.Coordinator, election: str, ttl: str, seconds: str) -> None:
    """Lead once, and block."""
    try:
        async with tide.leader(election, ttl=float(ttl), on_outage="step_down") as term:
            left = term.remaining
            say("leads", token=term.token, deadline=time.monotonic() + left)
            block(float(seconds))
            while True:
                await asyncio.sleep(0.02)
    except tideover.LeadershipLost as exc:
        say("lost", why=str(exc))


async def main(election: str, ttl: str, on_stall: str, seconds: str, endpoint: str) -> None:
    """Run one process."""
    logging.getLogger("tideover").addHandler(Saying())
    assert on_stall in ("report", "abort")
    async with tideover.connect(endpoint, cache_dir=False, on_stall=on_stall) as tide:  # type: ignore[arg-type]
        say("ready", threads=[thread.name for thread in threading.enumerate()])
        await lead(tide, election, ttl, seconds)
        status = tide.status()
        say("status", stalls=status.stalls, last=status.last_stall and status.last_stall.election)
        async with tide.leader("another", ttl=float(ttl)):
            say("awake", threads=[thread.name for thread in threading.enumerate()])
    say("closed", threads=[thread.name for thread in threading.enumerate()])


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
