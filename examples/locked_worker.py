"""A worker that charges each order once, across all processes, and fences what it writes.

    ETCD_ENDPOINTS=127.0.0.1:2379 python examples/locked_worker.py

Start it several times: each order is charged by one of them. Kill etcd: orders wait until it is back.
"""

from __future__ import annotations

import logging
import os
import sys

import anyio

import tideover
from tideover import Coordinator

log = logging.getLogger("locked_worker")


async def charge(tide: Coordinator, order: int) -> None:
    """Charge an order, unless somebody else has done so."""
    async with tide.lock(f"orders/{order}", timeout=30, on_outage="wait") as held:
        key = f"orders/{order}/state"
        if (await tide.config.fetch(key, default="new")).value == "charged":
            log.info("order %d: done already", order)
            return
        log.info("order %d: charged under token %d", order, held.token)
        await tide.config.put(key, "charged", guard=held.guard())


async def main(*endpoints: str) -> None:
    """Charge three orders."""
    async with tideover.connect(*endpoints, follow=()) as tide:
        for order in (1, 2, 3):
            try:
                await charge(tide, order)
            except tideover.LockTimeout as exc:
                log.warning("order %d: %s", order, exc)


if __name__ == "__main__":
    logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(message)s")
    anyio.run(main, *os.environ.get("ETCD_ENDPOINTS", "127.0.0.1:2379").split(","))
