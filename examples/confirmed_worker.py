"""A worker of which one works, and works on while etcd is away: the others promise to leave it alone.

    etcd &
    export FAILSAFE_SECRET=$(python -c 'import secrets; print(secrets.token_hex(32))')
    for name in one two three; do python examples/confirmed_worker.py $name & done

Stop etcd: the one that works says `confirmed` after 13.5 s at the most, and goes on. End another one with `kill`:
it takes its leave, and nothing changes. End the other one with `kill -9`: nobody can tell what it would do, and
the one that works stops. Start etcd again: it is the same one, with the same token. `TTL=5` makes it all quicker;
`ETCD_ENDPOINTS` names other members, separated by commas.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys

from tideover import Coordinator, Failsafe, LeadershipLost, connect

ENDPOINTS = os.environ.get("ETCD_ENDPOINTS", "127.0.0.1:2379").split(",")
TTL = float(os.environ.get("TTL", "15"))


def say(text: str) -> None:
    """Show what happens."""
    print(text, flush=True)  # noqa: T201  # a worker's output


async def work(tide: Coordinator, name: str) -> None:
    """Work while leading, and wait for the next chance when that is over."""
    while True:
        try:
            async with tide.leader("work", ttl=TTL, value=name) as term:
                while True:
                    term.check()
                    say(f"{name} works: {term.standing}, token {term.token}")
                    await asyncio.sleep(0.5)
        except LeadershipLost as lost:
            say(f"{name} stops: {lost}")


async def main(name: str) -> None:
    """Connect, and work until a signal ends it."""
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    failsafe = Failsafe(secret=os.environ["FAILSAFE_SECRET"])
    async with connect(*ENDPOINTS, namespace="/confirmed", failsafe=failsafe) as tide:
        task = asyncio.create_task(work(tide, name))
        await stopped.wait()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    say(f"{name} has ended")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "worker"))
