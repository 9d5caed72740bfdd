"""Asking etcd for its alarms, so that no user's write has to fail first.

A cluster whose quota is used up, or whose data is found damaged, answers reads as ever: a probe sees nothing.
etcd raises an alarm, which each member tells in its status, without a quorum and without a round of its own.

Some versions tell a member's status to root alone. Then the alarms are listed, seldom, for even a listing is a
proposal that all members write to their logs.
"""

from __future__ import annotations

import math
from typing import TypeVar

import anyio

from tideover import telemetry
from tideover.cluster.rules.health import sentence
from tideover.cluster.state import ClusterState
from tideover.store.attempts import attempt
from tideover.store.faults import Fault, StoreFault
from tideover.store.operations import AlarmList, Op, Result, Status
from tideover.store.protocol import Store
from tideover.types import Diagnosis

R = TypeVar("R", bound=Result)

# Seconds between two questions, at the most: while there is no alarm, and while there is one; at the least, where
# the alarms have to be listed.
QUIET_INTERVAL = 30.0
ALARMED_INTERVAL = 5.0
LIST_INTERVAL = 300.0
_LISTED = "root alone may ask; alarms are listed every 5 minutes instead, and when a write is refused"
# Seconds for an answer, and what the link takes.
_TIMEOUT = 0.5
# Seconds until the member in use has heard of an alarm that another one has raised or seen taken back.
_SETTLE = 0.5


class Alarms:
    """Keeps `ClusterState.alarms` as etcd has them."""

    def __init__(self, store: Store, cluster: ClusterState) -> None:
        self._store = store
        self._cluster = cluster
        # When they were last listed, and which there were then.
        self._listed_at = -math.inf
        self._listed: frozenset[str] | None = None

    async def run(self) -> None:
        """Ask now and then, until cancelled; jittered, so that many clients do not ask in step."""
        cluster = self._cluster
        while True:
            if await cluster.alarm_evidence.wait(await self._ask()):
                await anyio.sleep(_SETTLE)

    async def _ask(self) -> float:
        """Ask once; return seconds until the next time."""
        cluster, before = self._cluster, self._cluster.diagnosis_of_alarms
        if cluster.alarms is not None and not cluster.health.member.closed:
            return self._interval()  # no member answers
        try:
            member, about = await self._call(Status())
            if about.version is not None:
                cluster.versions[member] = about.version
            self._report("its version and alarms in its status", _LISTED if about.alarms is None else None)
            alarms = await self._list() if about.alarms is None else about.alarms
        except StoreFault:
            # What was known stays known; the probes find out what is wrong.
            alarms = cluster.alarms or frozenset()
            about = None
        cluster.set_alarms(alarms)
        if cluster.diagnosis_of_alarms is not before:
            telemetry.backend_alarm(_sentence_of(cluster.diagnosis_of_alarms))
        listed = about is not None and about.alarms is None
        return LIST_INTERVAL * (1.0 + 0.1 * self._cluster.random()) if listed else self._interval()

    def _interval(self) -> float:
        return (ALARMED_INTERVAL if self._cluster.alarms else QUIET_INTERVAL) * (
            0.7 + 0.3 * self._cluster.random()
        )

    async def _list(self) -> frozenset[str]:
        """Have the alarms listed if it is time, or a write has shown others than the last list; return them."""
        cluster, now = self._cluster, self._cluster.clock.monotonic()
        known = cluster.alarms or frozenset()
        if now - self._listed_at < LIST_INTERVAL and self._listed == known:
            return known
        self._listed_at, self._listed = now, known
        try:
            _, found = await self._call(AlarmList())
        except StoreFault as exc:
            if not exc.fault.outage:
                self._report("its alarms", exc.fault.brief)
            raise
        self._report("its alarms", None)
        self._listed = found.alarms
        return found.alarms

    async def _call(self, op: Op[R]) -> tuple[str, R]:
        member = self._cluster.active
        answer = await attempt(self._store, op, member=member, timeout=self._cluster.limit(member, _TIMEOUT))
        if isinstance(answer, Fault):
            raise StoreFault(answer)
        return member, answer

    def _report(self, what: str, why: str | None) -> None:
        """Log what etcd does not tell this user, once."""
        if self._cluster.record_untold(what, why) and why is not None:
            telemetry.backend_untold(what, why)


def _sentence_of(diagnosis: Diagnosis) -> str:
    return "etcd has no alarm any more" if diagnosis is Diagnosis.HEALTHY else sentence(diagnosis)
