"""A process that is a candidate for many records, and records what it believes, until it is killed.

Run as: python candidates.py HISTORY NAME NUMBER RECORDS ENDPOINT|any ENDPOINT...

Of every three records one is this process's own from the start, by its NUMBER (0 to 2): for the others it
campaigns 10 s later. Even records have a ttl of 6 s, odd ones of 15 s.
"""

from __future__ import annotations

import sys

import anyio

import tideover
from tests.history.recorder import Recorder, machine_clock
from tests.netns.client import Client
from tideover.elections.claim import CandidateClaim
from tideover.elections.record import ElectionRecord
from tideover.elections.rules.candidate import Seen, Timing

TTLS = (6.0, 15.0)
# Long enough for the last process to start on a busy machine.
LATER = 10.0


async def believe(record: ElectionRecord, name: str, recorder: Recorder) -> None:
    """Record each stretch of belief: when it begins, each time it is prolonged, when its end is noticed.

    A record that was renewed too late, but before anybody took it, is the same as before, with the same token.
    """
    entered, tenure, deadline = 0, 0, 0.0
    while True:
        held, state = record.held, record.state
        if entered and not state.held and not state.owns(state.seen or Seen()):
            recorder.record("lost", name=name, role="leader", why=state.loss)
            entered = 0
        if held and state.deadline != deadline:
            if entered not in (0, state.token):
                recorder.record("lost", name=name, role="leader", why=state.loss)
            if entered == state.token and record.tenure != tenure:
                recorder.record("returned", record=name)
            kind = "renewed" if entered == state.token else "enter"
            entered, tenure, deadline = state.token, record.tenure, state.deadline
            until = machine_clock() + record.left
            recorder.record(kind, name=name, role="leader", token=entered, mode="held", deadline=until)
        await record.changed.wait(0.05)


async def campaign(record: ElectionRecord, after: float) -> None:
    """Be a candidate."""
    await anyio.sleep(after)
    await record.run()


async def main(*arguments: str) -> None:
    """Run one process."""
    history, name, number, records, using, *endpoints = arguments
    with Recorder(history, name) as recorder:
        async with tideover.connect(*endpoints, cache_dir=False) as tide, anyio.create_task_group() as tasks:
            if using != "any":
                tide._parts.client.state.active = using
            tasks.start_soon(Client(tide, recorder, "").watch_state)
            assert tide._parts.store is not None
            for index in range(int(records)):
                record = ElectionRecord(
                    f"/elections/r{index}".encode(),
                    tide._parts.client,
                    timing=Timing(TTLS[index % 2]),
                    claim=CandidateClaim("step_down"),
                )
                tasks.start_soon(campaign, record, 0.0 if index % 3 == int(number) else LATER)
                tasks.start_soon(believe, record, f"r{index}", recorder)


if __name__ == "__main__":
    anyio.run(main, *sys.argv[1:])
