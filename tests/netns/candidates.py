"""A process that is a candidate for many records, and records what it believes, until it is killed.

Run as: python candidates.py HISTORY NAME NUMBER RECORDS ENDPOINT|any ENDPOINT...

Of every three records one is this process's own from the start, by its NUMBER (0 to 2): for the others it
campaigns 5 s later. Even records have a ttl of 6 s, odd ones of 15 s.
"""

from __future__ import annotations

import random
import sys

import anyio

import tideover
from tests.history.recorder import Recorder, machine_clock
from tests.netns.client import Client
from tideover.clock import Clock
from tideover.core.record import Claim, Record
from tideover.resilience.record import Timing

TTLS = (6.0, 15.0)
LATER = 5.0


async def believe(record: Record, name: str, recorder: Recorder) -> None:
    """Record each stretch of belief: when it begins, each time it is prolonged, when its end is noticed."""
    tenure, deadline = 0, 0.0
    while True:
        held, state = record.held, record.state
        if tenure and (not held or record.tenure != tenure):
            recorder.record("lost", name=name, role="leader", why=state.loss)
            tenure = 0
        if held and (not tenure or state.deadline != deadline):
            kind = "renewed" if tenure else "enter"
            tenure, deadline = record.tenure, state.deadline
            until = machine_clock() + record.left
            recorder.record(kind, name=name, role="leader", token=state.token, mode="held", deadline=until)
        await record.changed.wait(0.05)


async def campaign(record: Record, after: float) -> None:
    """Be a candidate."""
    await anyio.sleep(after)
    await record.run()


async def main(*arguments: str) -> None:
    """Run one process."""
    history, name, number, records, using, *endpoints = arguments
    with Recorder(history, name) as recorder:
        async with tideover.connect(*endpoints, cache_dir=False) as tide, anyio.create_task_group() as tasks:
            if using != "any":
                tide._lanes.active = using
            tasks.start_soon(Client(tide, recorder, "").watch_state)
            assert tide._store is not None
            for index in range(int(records)):
                record = Record(
                    f"/elections/r{index}".encode(),
                    store=tide._store,
                    lanes=tide._lanes,
                    clock=Clock(),
                    timing=Timing(TTLS[index % 2]),
                    claim=Claim("step_down"),
                    chance=random.random,
                )
                tasks.start_soon(campaign, record, 0.0 if index % 3 == int(number) else LATER)
                tasks.start_soon(believe, record, f"r{index}", recorder)


if __name__ == "__main__":
    anyio.run(main, *sys.argv[1:])
