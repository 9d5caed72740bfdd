"""A worker of which only one works: start it twice, and end the one that works.

    etcd &
    python examples/elected_worker.py one &
    python examples/elected_worker.py two &

Ctrl-C or `kill` hands over at once; `kill -9` after 16.5 s. Stop etcd: the one that works steps down after 13.5 s
at the most, and nobody works until etcd is back; then it is the same one again. With `ON_OUTAGE=stay` for both it
goes on and says `unconfirmed`. `ETCD_ENDPOINTS` names other members, separated by commas.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys

from tideover import Coordinator, LeadershipLost, connect

ENDPOINTS = os.environ.get("ETCD_ENDPOINTS", "127.0.0.1:2379").split(",")
STAY = os.environ.get("ON_OUTAGE") == "stay"


def say(text: str) -> None:
    """Show what happens."""
    print(text, flush=True)  # noqa: T201  # a worker's output


async def work(tide: Coordinator, name: str) -> None:
    """Work while leading, and wait for the next chance when that is over."""
    while True:
        try:
            async with tide.leader("work", on_outage="stay" if STAY else "step_down", value=name) as term:
                while True:
                    term.check()
                    say(f"{name} works: {term.standing}, token {term.token}")
                    await asyncio.sleep(1)
        except LeadershipLost as lost:
            say(f"{name} stops: {lost}")


async def main(name: str) -> None:
    """Connect, and work until a signal ends it."""
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    async with connect(*ENDPOINTS, namespace="/worker") as tide:
        task = asyncio.create_task(work(tide, name))
        await stopped.wait()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "worker"))
