"""A process that is a candidate for one election of each policy, and records what it believes, until SIGTERM.

Run as: python leader_client.py HISTORY NAME POLICY,POLICY,... ENDPOINT...

An election is called after its policy.
"""

from __future__ import annotations

import signal
import sys
import time

import anyio

import tideover
from tests.history.recorder import Recorder
from tideover import LeadershipLost, Standing, Term
from tideover.coordinator.coordinator import Coordinator

TTL = 6.0
# Seconds between two looks of a body.
LOOK_EVERY = 0.02


FAILSAFE = tideover.Failsafe(secret="not a secret, for tests only", confirm_limit=60.0)


class Candidate:
    """Leads an election whenever it is elected.

    Args:
        tide: The coordinator.
        recorder: The history.
        policy: Of the election.
    """

    def __init__(self, tide: Coordinator, recorder: Recorder, policy: str) -> None:
        self.tide = tide
        self.recorder = recorder
        self.policy = policy

    async def run(self) -> None:
        """Be a candidate for ever."""
        while True:
            try:
                async with self.tide.leader(self.policy, ttl=TTL, on_outage=self.policy) as term:  # type: ignore[arg-type]
                    await self._lead(term)
            except LeadershipLost as exc:
                self.recorder.record("failed", why=str(exc))

    async def _lead(self, term: Term) -> None:
        standing, deadline = term.standing, self._deadline(term)
        self._record("enter", token=term.token, epoch=term.epoch, mode=standing.value, deadline=deadline)
        try:
            while True:
                await anyio.sleep(LOOK_EVERY)
                term.check()
                before, standing = standing, term.standing
                moved, deadline = deadline, self._deadline(term)
                if standing is not before:
                    self._record("turned", mode=standing.value, deadline=deadline)
                elif deadline != moved:
                    self._record("renewed", deadline=deadline)
        finally:
            self._record("exit")

    def _deadline(self, term: Term) -> float | None:
        """Return the deadline on the clock of histories; None if there is none."""
        if term.standing is Standing.UNCONFIRMED:
            return None
        # To the millisecond, because two clocks are read one after the other.
        ahead = time.clock_gettime(time.CLOCK_MONOTONIC) - time.clock_gettime(time.CLOCK_BOOTTIME)
        return round(term.deadline + ahead, 3)

    def _record(self, kind: str, **fields: object) -> None:
        self.recorder.record(kind, name=self.policy, role="leader", **fields)


async def stand(tide: Coordinator, recorder: Recorder, policies: str) -> None:
    """Be a candidate for all elections until cancelled."""
    recorder.record("ready")
    async with anyio.create_task_group() as tasks:
        for policy in policies.split(","):
            tasks.start_soon(Candidate(tide, recorder, policy).run)


async def main(*arguments: str) -> None:
    """Run one process."""
    history, name, policies, *endpoints = arguments
    with Recorder(history, name) as recorder:
        async with anyio.create_task_group() as tasks:

            async def candidates() -> None:
                async with tideover.connect(*endpoints, cache_dir=False, follow=(), failsafe=FAILSAFE) as tide:
                    await stand(tide, recorder, policies)

            tasks.start_soon(candidates)
            with anyio.open_signal_receiver(signal.SIGTERM) as signals:
                async for _ in signals:
                    break
            tasks.cancel_scope.cancel()


if __name__ == "__main__":
    anyio.run(main, *sys.argv[1:])
