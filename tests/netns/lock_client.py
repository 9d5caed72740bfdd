"""A client process with several coroutines that take turns on locks, and records what it believes, until told
to stop.

Run as: python lock_client.py HISTORY NAME CACHE SEED ENDPOINT...

It ends at SIGTERM, giving everything back.
"""

from __future__ import annotations

import random
import signal
import sys
import time

import anyio

import tideover
from tests.history.recorder import Recorder
from tideover import Held, LockMode
from tideover.coordinator.coordinator import Coordinator

LOCK = "orders"
COROUTINES = 3
# How each coroutine asks.
WAYS = (
    {"on_outage": "fail", "timeout": 20.0},
    {"on_outage": "wait", "timeout": 15.0},
    {"on_outage": "local", "timeout": 10.0},
)


def on_machine_clock(boot: float) -> float:
    """Return a moment of the boot-time clock on the clock of histories."""
    return boot - time.clock_gettime(time.CLOCK_BOOTTIME) + time.clock_gettime(time.CLOCK_MONOTONIC)


class Worker:
    """One coroutine that wants the lock again and again.

    Args:
        tide: The coordinator.
        recorder: The history.
        number: Which one it is.
        chance: Draws.
    """

    def __init__(self, tide: Coordinator, recorder: Recorder, number: int, chance: random.Random) -> None:
        self.tide = tide
        self.recorder = recorder
        self.holder = str(number)
        self.way = WAYS[number % len(WAYS)]
        self.chance = chance

    async def run(self, until: anyio.Event) -> None:
        """Take turns until told to stop."""
        while not until.is_set():
            began = time.monotonic()
            try:
                async with self.tide.lock(LOCK, ttl=6, **self.way) as held:  # type: ignore[arg-type]
                    self.recorder.record("waited", took=time.monotonic() - began, limit=self.way["timeout"])
                    await self._hold(held)
            except tideover.TideoverError as exc:
                self.recorder.record("failed", why=repr(exc)[:160])
                await anyio.sleep(self.chance.uniform(0.05, 0.3))
            await anyio.sleep(self.chance.choice((0.0, 0.01, 0.1)))

    async def _hold(self, held: Held) -> None:
        mode = held.mode
        deadline, token = self._deadline(held), held._grant.distributed_token
        self._enter(held, mode, deadline)
        try:
            ends = anyio.current_time() + self.chance.choice((0.0, 0.02, 0.2, 1.0, 4.0))
            while anyio.current_time() < ends:
                await anyio.sleep(0.02)
                held.check()
                if held.mode is not mode:
                    mode = held.mode
                    deadline = self._deadline(held)
                    if mode is LockMode.LOCAL:
                        self._record("turned", mode=mode.value)
                    elif held.token == token:
                        self._record("turned", mode=mode.value, deadline=deadline)
                    else:
                        # A new grant, as sinks see it.
                        self._record("exit")
                        self._enter(held, mode, deadline)
                        token = held.token
                elif mode is LockMode.DISTRIBUTED and (moved := self._deadline(held)) != deadline:
                    deadline = moved
                    self._record("renewed", deadline=deadline)
        except tideover.TideoverError:
            self._record("lost")
            raise
        finally:
            self._record("exit")

    def _enter(self, held: Held, mode: LockMode, deadline: float | None) -> None:
        place = held._grant.place
        key = place.own.full.decode() if place is not None else ""
        self._record(
            "enter",
            token=held._grant.distributed_token,
            mode=mode.value,
            deadline=deadline,
            epoch=held.epoch,
            key=key,
        )

    def _deadline(self, held: Held) -> float | None:
        return on_machine_clock(held.deadline) if held._grant.mode is LockMode.DISTRIBUTED else None

    def _record(self, kind: str, **fields: object) -> None:
        self.recorder.record(kind, name=LOCK, role="lock", holder=self.holder, **fields)


async def main(*arguments: str) -> None:
    """Run one client."""
    history, name, cache, seed, *endpoints = arguments
    chance = random.Random(f"{seed} {name}")
    stop = anyio.Event()
    with Recorder(history, name) as recorder:
        async with (
            tideover.connect(*endpoints, cache_dir=cache, follow=()) as tide,
            anyio.create_task_group() as tasks,
        ):
            recorder.record("ready")
            for number in range(COROUTINES):
                tasks.start_soon(Worker(tide, recorder, number, chance).run, stop)
            with anyio.open_signal_receiver(signal.SIGTERM) as signals:
                async for _ in signals:
                    break
            stop.set()
        recorder.record("left")


if __name__ == "__main__":
    anyio.run(main, *sys.argv[1:])
