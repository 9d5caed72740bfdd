"""A client process: connects with tideover, reads or writes, and records what it sees, until it is killed.

Run as: python client.py HISTORY NAME read|fetch|write|large KEY ENDPOINT|any ENDPOINT...

The first endpoint is the member to use at the start.
"""

from __future__ import annotations

import sys
import time

import anyio

import tideover
from tests.history.recorder import Recorder
from tideover.coordinator.coordinator import Coordinator
from tideover.types import Reading

READ_EVERY = 0.02
FETCH_EVERY = 0.25
FETCH_TIMEOUT = 4.0
WRITE_EVERY = 0.1


class Client:
    """One client.

    Args:
        tide: Its coordinator.
        recorder: Its history.
        key: What it reads or writes.
    """

    def __init__(self, tide: Coordinator, recorder: Recorder, key: str) -> None:
        self.tide = tide
        self.recorder = recorder
        self.key = key

    async def watch_state(self) -> None:
        """Record each change of the health state, of the member in use, or of who answers."""
        before: tuple[str, str] | None = None
        answering: set[str] = set()
        while True:
            members = self.tide.status().members
            active = next(member.endpoint for member in members if member.active)
            answers = {member.endpoint for member in members if member.answers}
            for endpoint in answers ^ answering:
                self.recorder.record("member", endpoint=endpoint, answers=endpoint in answers)
            answering = answers
            now = str(self.tide.health.state), active
            if now != before:
                self.recorder.record("state", state=now[0], active=active, why=self.tide.health.diagnosis)
                before = now
            await anyio.sleep(0.01)

    async def read(self) -> None:
        """Read from memory, as a service does."""
        while True:
            began = time.monotonic()
            self._record(self.tide.config.read(self.key, int, default=-1), began, how="read")
            await anyio.sleep(READ_EVERY)

    async def fetch(self) -> None:
        """Ask etcd, again and again."""
        while True:
            began = time.monotonic()
            try:
                reading = await self.tide.config.fetch(self.key, int, default=-1, timeout=FETCH_TIMEOUT)
            except tideover.TideoverError as exc:
                self.recorder.record("failed", how="fetch", why=repr(exc), took=time.monotonic() - began)
            else:
                self._record(reading, began, how="fetch")
            await anyio.sleep(FETCH_EVERY)

    async def write(self) -> None:
        """Count up; a write that fails, or whose outcome is unknown, is not recorded as written."""
        number = 0
        while True:
            number += 1
            began = time.monotonic()
            try:
                written = await self.tide.config.put(self.key, number, timeout=1.0)
            except tideover.TideoverError as exc:
                self.recorder.record("failed", how="write", why=repr(exc), took=time.monotonic() - began)
            else:
                self.recorder.record(
                    "written", key=self.key, present=True, revision=written.revision, began=began, value=number
                )
            await anyio.sleep(WRITE_EVERY)

    async def large(self) -> None:
        """Put 360 kB beside the key, and then the key."""
        for number in range(6):
            await self.tide.config.put(f"{self.key}/{number}", "x" * 60_000)
        await self.tide.config.put(self.key, 1)

    def _record(self, reading: Reading[int], began: float, *, how: str) -> None:
        self.recorder.record(
            "reading",
            key=self.key,
            present=reading.present,
            revision=reading.revision,
            age=reading.age,
            began=began,
            how=how,
            reader=how,  # a fetch may well be ahead of the view that reads from memory come from
            source=reading.source,
            value=reading.value,
            took=time.monotonic() - began,
            epoch=self.tide.status().config[0].epoch,
        )


async def main(*arguments: str) -> None:
    """Run one client."""
    history, name, what, key, using, *endpoints = arguments
    with Recorder(history, name) as recorder:
        async with tideover.connect(*endpoints, cache_dir=False) as tide, anyio.create_task_group() as tasks:
            if using != "any":
                tide._parts.client.state.active = using
            client = Client(tide, recorder, key)
            tasks.start_soon(client.watch_state)
            if what == "write":
                tasks.start_soon(client.write)
            elif what == "large":
                tasks.start_soon(client.large)
            else:
                tasks.start_soon(client.read)
            if what == "fetch":
                tasks.start_soon(client.fetch)


if __name__ == "__main__":
    anyio.run(main, *sys.argv[1:])
