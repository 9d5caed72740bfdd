"""A client process that holds sessions, opens a new one for each that is lost, and records what it believes.

Run as: python session_client.py HISTORY NAME TTL,TTL,... ENDPOINT ENDPOINT...

The first endpoint is the member to use at the start.
"""

from __future__ import annotations

import sys
import time

import anyio

import tideover
from tests.history.recorder import Recorder
from tideover.coordinator.coordinator import Coordinator
from tideover.sessions.session import Session

# Seconds between two records of what is believed.
LOOK_EVERY = 0.1


def on_machine_clock(boot: float) -> float:
    """Return a moment of the boot-time clock on the clock of histories."""
    return boot - time.clock_gettime(time.CLOCK_BOOTTIME) + time.clock_gettime(time.CLOCK_MONOTONIC)


class Holder:
    """Holds one session after the other.

    Args:
        tide: The coordinator.
        recorder: The history.
        ttl: Of the sessions.
        name: For its keys.
    """

    def __init__(self, tide: Coordinator, recorder: Recorder, ttl: int, name: str) -> None:
        self.tide = tide
        self.recorder = recorder
        self.ttl = ttl
        self.name = name

    async def run(self) -> None:
        """Open, hold, lose, begin again."""
        while True:
            session = None
            try:
                session = await self.tide._parts.sessions.open(self.ttl)
                own = await session.put(f"trial/{self.name}/{session.lease_id:x}")
            except tideover.TideoverError as exc:
                self.recorder.record("failed", how="open", why=repr(exc))
                if session is not None:
                    await self.tide._parts.sessions.close(session)
                await anyio.sleep(0.3)
                continue
            self._record("session_opened", session, key=own.full.decode(), ttl=self.ttl)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._record_renewals, session)
                tasks.start_soon(self._record_belief, session)
                why = await session.lost
                self.recorder.record("session_lost", session=f"{session.lease_id:x}", why=why)
                tasks.cancel_scope.cancel()
            await self.tide._parts.sessions.close(session)

    async def _record_renewals(self, session: Session) -> None:
        before = session.deadline, session._tenure.member, session.state
        while True:
            changed = session._tenure.changed.next()
            now = session.deadline, session._tenure.member, session.state
            if now != before:
                self._record("session_renewed", session)
            before = now
            await changed.wait()

    async def _record_belief(self, session: Session) -> None:
        believed = None
        while True:
            now = session.loss() is None
            if now or believed:
                kind = "session_believed" if now else "session_doubted"
                self.recorder.record(kind, session=f"{session.lease_id:x}")
            believed = now
            await anyio.sleep(LOOK_EVERY)

    def _record(self, kind: str, session: Session, **fields: object) -> None:
        self.recorder.record(
            kind,
            session=f"{session.lease_id:x}",
            deadline=on_machine_clock(session.deadline),
            member=session._tenure.member,
            state=session.state,
            error=session.report().error,
            **fields,
        )


async def main(*arguments: str) -> None:
    """Run one client."""
    history, name, ttls, first, *endpoints = arguments
    with Recorder(history, name) as recorder:
        async with tideover.connect(*endpoints, cache_dir=False, follow=()) as tide:
            tide._parts.client.state.active = first
            async with anyio.create_task_group() as tasks:
                for number, ttl in enumerate(ttls.split(",")):
                    tasks.start_soon(Holder(tide, recorder, int(ttl), f"{name}/{number}").run)


if __name__ == "__main__":
    anyio.run(main, *sys.argv[1:])
