"""The loss of the quorum until it is declared, and its return until all is live, on a real cluster of three."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks import raw
from benchmarks.harness import Comparison, Goal, Row
from tideover import Coordinator, HealthState, connect
from tideover.testing import EtcdCluster

TRIALS = 3
# Seconds: etcd's default, and how often somebody else asks whether a quorum answers.
_ELECTION_TIMEOUT = 1.0
_ASK_EVERY = 0.02
_ASK_TIMEOUT = 0.3
_DECLARED = "2 of 3 killed until declared, worst of 3"
_BACK = "a quorum answers until AVAILABLE, worst of 3"
_NEWEST = "AVAILABLE until the newest value, worst of 3"


@dataclass(frozen=True, slots=True)
class Trial:
    """One loss and one return, in seconds.

    Attributes:
        declared: From the kill until the state was other than AVAILABLE.
        quorum: From the restart of all members until a linearizable read by somebody else was answered.
        back: From then until AVAILABLE.
        newest: From AVAILABLE until `get` returned what somebody else wrote as soon as the quorum answered.
    """

    declared: float
    quorum: float
    back: float
    newest: float


async def measure() -> list[Comparison]:
    """Kill, wait, kill the rest, start all; three times."""
    async with EtcdCluster() as cluster, connect(*cluster.endpoints, cache_dir=False) as tide:
        trials = [await _try(cluster, tide, str(number)) for number in range(TRIALS)]
    worst = Trial(*(max(getattr(trial, name) for trial in trials) for name in Trial.__slots__))
    return [
        Comparison(_DECLARED, worst.declared, "etcd's election timeout", _ELECTION_TIMEOUT),
        Comparison(_BACK, worst.back, "restart until a quorum answers", worst.quorum),
        Comparison(_NEWEST, worst.newest, "restart until a quorum answers", worst.quorum),
    ]


async def _try(cluster: EtcdCluster, tide: Coordinator, value: str) -> Trial:
    await tide.health.wait_for(HealthState.AVAILABLE, timeout=30)
    await tide.config.put("newest", "before " + value)
    await _until(lambda: tide.config.get("newest") == "before " + value)
    await asyncio.sleep(2.0)
    await cluster.applied()

    lost_at = time.monotonic()
    # The member in use survives: that the other connections break is all there is to see at first.
    in_use = next(member.endpoint for member in tide.status().members if member.active)
    cluster.lose_quorum(survivor=next(member for member in cluster.members if member.endpoint == in_use))
    await _until(lambda: tide.health.state is not HealthState.AVAILABLE)
    declared = time.monotonic() - lost_at

    cluster.kill_all()
    await tide.health.wait_for(HealthState.UNAVAILABLE, timeout=30)
    await asyncio.sleep(3.0)

    back_at: list[float] = []
    newest_at: list[float] = []
    began = time.monotonic()
    await asyncio.to_thread(cluster.start_all)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_note(back_at, lambda: tide.health.state is HealthState.AVAILABLE))
        tasks.create_task(_note(newest_at, lambda: tide.config.get("newest") == value))
        answers_at = await _first_answer(cluster, value)
    return Trial(
        declared, answers_at - began, max(0.0, back_at[0] - answers_at), max(0.0, newest_at[0] - back_at[0])
    )


async def _first_answer(cluster: EtcdCluster, value: str) -> float:
    """Ask each member until one answers a linearizable read, then write the newest value through it."""
    while True:
        for endpoint in cluster.endpoints:
            async with raw.stubs(endpoint) as etcd:
                try:
                    await etcd.read(b"/config/newest", timeout=_ASK_TIMEOUT)
                    answered_at = time.monotonic()
                    await etcd.put(b"/config/newest", value.encode())
                except Exception:
                    continue
                return answered_at
        await asyncio.sleep(_ASK_EVERY)


async def _note(times: list[float], done: Callable[[], bool]) -> None:
    await _until(done)
    times.append(time.monotonic())


async def _until(done: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not done():
            await asyncio.sleep(0.002)


ROW = Row(
    name="recovery",
    what="the quorum's loss until declared, its return until all is live",
    peer="etcd's election timeout; a bare linearizable read",
    goals={_DECLARED: Goal(5, of="value"), _BACK: Goal(2, of="value"), _NEWEST: Goal(1, of="value")},
    measure=measure,
)
