"""Workers that share out shards among themselves: each shard has one worker at a time, or none.

    etcd &
    python examples/shards.py & python examples/shards.py

Start a third one: it waits. Kill one with `kill -9`: its shard goes to the third after 6 s; with Ctrl-C, at once.
Stop etcd: both stop working before anybody else could begin, and say so.
`ETCD_ENDPOINTS` names other members, separated by commas.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys

import anyio

import tideover
from tideover import Coordinator, KeyTaken, Session, SessionLost

ENDPOINTS = os.environ.get("ETCD_ENDPOINTS", "127.0.0.1:2379").split(",")
SHARDS = ("north", "south")

_log = logging.getLogger("shards")


async def claim(session: Session) -> str | None:
    """Return a shard that was free and is ours now, or None."""
    for shard in SHARDS:
        try:
            await session.put(f"shards/{shard}", f"pid {os.getpid()}")
        except KeyTaken:
            continue
        return shard
    return None


async def work(session: Session, shard: str) -> None:
    """Work, in small steps, as long as the shard is ours."""
    while True:
        session.check()  # right before each step: a process that stood still does not go on unasked
        _log.info("%d works on %s", os.getpid(), shard)
        await anyio.sleep(1)


async def take_part(tide: Coordinator) -> None:
    """Hold a session, and with it at most one shard."""
    async with tide.session(ttl=6) as session:
        while True:
            shard = await claim(session)
            if shard is not None:
                await work(session, shard)
            await anyio.sleep(1)


async def main() -> None:
    """Begin again whenever the session is lost."""
    async with tideover.connect(*ENDPOINTS, namespace="/shop") as tide:
        while True:
            try:
                await take_part(tide)
            except SessionLost as exc:
                _log.info("%d stops: %s", os.getpid(), exc)
            except tideover.Unavailable as exc:
                _log.info("%d waits: %s", os.getpid(), exc)
                await anyio.sleep(1)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    with contextlib.suppress(KeyboardInterrupt):
        anyio.run(main)
