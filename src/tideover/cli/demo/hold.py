"""After the demo: everything keeps running for a person to play with."""

from __future__ import annotations

import shlex
import time
from typing import NoReturn

import anyio

from tideover.cli.demo.scenario import Scenario
from tideover.cli.demo.timeline import Timeline
from tideover.testing.etcd import find_etcdctl

# Seconds between two looks; after which a dead member is started again.
_TICK = 0.25
_DEAD_FOR = 20.0


async def hold(scenario: Scenario, timeline: Timeline, *, dead_for: float = _DEAD_FOR) -> NoReturn:
    """Print what can be tried, then report every change until cancelled."""
    _invite(scenario, timeline, dead_for)
    died: dict[str, float] = {}
    shown: tuple[object, ...] = ()
    while True:
        for member in scenario.cluster.members:
            if member.running:
                died.pop(member.name, None)
            elif member.name not in died:
                died[member.name] = time.monotonic()
                timeline.happened(
                    "died", f"{member.name} is dead; it is started again in {dead_for:.0f} s.", member=member.name
                )
            elif time.monotonic() - died[member.name] >= dead_for:
                member.start()
                timeline.happened(
                    "recover", f"STARTED {member.name} again (pid {member.pid}).", members=[member.name]
                )
        last = scenario.load.last
        now = () if last is None else (last.etcd, last.source, last.price, scenario.load.tally.failed)
        if now != shown:
            shown = now
            scenario.show("hold")
        await anyio.sleep(_TICK)


def _invite(scenario: Scenario, timeline: Timeline, dead_for: float) -> None:
    cluster, instance = scenario.cluster, scenario.instances[-1]
    etcdctl = find_etcdctl(beside=cluster.members[0].binary)
    endpoints = ",".join(cluster.endpoints)
    put = f"{shlex.quote(str(etcdctl))} --endpoints={endpoints} put {scenario.key} 4.00"
    pids = {member.name: member.pid for member in cluster.members}
    kills = "\n".join(f"    kill -9 {pid}    # {name}" for name, pid in pids.items())
    timeline.print_text(
        f"\nEverything keeps running, under load, until Ctrl-C. In another terminal:\n\n"
        f"  what the service answers, and how it is\n"
        f"    curl -i {instance.url}/price/tea\n"
        f"    curl {instance.url}/status\n"
        f"  how etcd is\n"
        f"    tideover status -e {endpoints}\n"
        f"  change the price\n"
        f"    {put}\n"
        f"  kill members (a dead one is started again after {dead_for:.0f} s); -STOP freezes, -CONT thaws\n"
        f"{kills}\n"
    )
    timeline.record("hold", url=instance.url, endpoints=list(cluster.endpoints), etcd_pids=pids, put=put)
