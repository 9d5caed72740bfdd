"""A plain asyncio worker: settings that follow etcd, a task that hears of changes, and no web framework.

    etcd &
    python examples/worker.py
    etcdctl put /mailer/config/batch/size 3
    etcdctl put /mailer/config/batch/pause 0.2

Then stop etcd: the worker goes on with the last settings and says how old they are. `ETCD_ENDPOINTS` names other
members, separated by commas. End it with Ctrl-C.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from dataclasses import dataclass

from tideover import Coordinator, HealthState, InvalidValue, connect

ENDPOINTS = os.environ.get("ETCD_ENDPOINTS", "127.0.0.1:2379").split(",")


@dataclass(frozen=True)
class Batch:
    """How the worker works: each field is a key under `batch/`.

    Attributes:
        size: Mails per batch.
        pause: Seconds between two batches.
    """

    size: int = 10
    pause: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what cannot work; the last good settings then stay."""
        if self.size < 1 or self.pause < 0:
            raise InvalidValue(f"need size >= 1 and pause >= 0, not {self.size} and {self.pause}")


async def report_changes(tide: Coordinator) -> None:
    """Print each change of a setting as it arrives."""
    async for change in tide.config.changes("batch/"):
        say(f"{change.key} is now {change.value}, revision {change.revision}")


async def send_mails(tide: Coordinator) -> None:
    """Work; `settings.value` is always the last valid object."""
    settings = tide.config.bind(Batch, prefix="batch/")
    while True:
        batch = settings.value
        text = f"sent {batch.size} mails"
        if tide.health.state is not HealthState.AVAILABLE:
            text += f" ({tide.status().sentence})"
        say(text)
        await asyncio.sleep(batch.pause)


async def main() -> None:
    """Run both until cancelled."""
    async with connect(*ENDPOINTS, namespace="/mailer") as tide, asyncio.TaskGroup() as tasks:
        tasks.create_task(report_changes(tide))
        tasks.create_task(send_mails(tide))


def say(text: str) -> None:
    """Print at once, also into a pipe."""
    print(text, flush=True)  # noqa: T201  # a worker's output


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
