"""A client process that writes and deletes keys of one session as fast as it may, and says what came of it.

Run as: python session_load.py SECONDS TTL ENDPOINT...

Prints one JSON object: how much was done, how often the session was lost or replaced, and the least time that was
ever left before its deadline.
"""

from __future__ import annotations

import json
import sys
import time

import anyio

import tideover
from tideover.sessions.session import Session

# Writers at the same time, and the size of a value in bytes.
WRITERS = 8
SIZE = 2_000


class Load:
    """What was done.

    Args:
        session: The session.
        seconds: For how long.
    """

    def __init__(self, session: Session, seconds: float) -> None:
        self.session = session
        self.until = time.monotonic() + seconds
        self.done = 0
        self.failed: list[str] = []
        self.least_left = float("inf")

    async def write(self, number: int) -> None:
        """Make a key, write it again, give it back, over and over."""
        turn = 0
        while time.monotonic() < self.until:
            turn += 1
            try:
                await self.session.put(f"load/{number}/{turn}", "x" * SIZE)
                await self.session.put(f"load/{number}/{turn}", "y" * SIZE)
                await self.session.delete(f"load/{number}/{turn}")
                self.done += 3
            except tideover.TideoverError as exc:
                self.failed.append(repr(exc))
                await anyio.sleep(0.1)

    async def watch_deadline(self) -> None:
        """Note the least time left."""
        while time.monotonic() < self.until:
            left = self.session.deadline - time.clock_gettime(time.CLOCK_BOOTTIME)
            self.least_left = min(self.least_left, left)
            await anyio.sleep(0.02)


async def main(*arguments: str) -> None:
    """Load one session."""
    seconds, ttl, *endpoints = arguments
    async with tideover.connect(*endpoints, cache_dir=False) as tide:
        # The very first packet may be a lost one, and is sent again after a second.
        await tide.health.wait_for(tideover.HealthState.AVAILABLE, timeout=10)
        lost = None
        try:
            async with tide.session(ttl=int(ttl)) as session:
                load = Load(session, float(seconds))
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(load.watch_deadline)
                    for number in range(WRITERS):
                        tasks.start_soon(load.write, number)
        except tideover.SessionLost as exc:
            lost = str(exc)
        print(
            json.dumps(
                {"done": load.done, "failed": load.failed[:20], "least_left": load.least_left, "lost": lost}
            ),
            flush=True,
        )


if __name__ == "__main__":
    anyio.run(main, *sys.argv[1:])
