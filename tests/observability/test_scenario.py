"""The shop under load, scraped by a real Prometheus, through all that the alerts are for.

`nox -s observability` is the same at length: all is well for two minutes, and each failure lasts longer.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from tests.assets.expressions import everywhere, named, rules
from tests.observability.answers import of_prometheus, of_traces
from tests.observability.load import TOKEN
from tests.observability.prometheus import Prometheus
from tests.observability.stage import Stage, registered, stage
from tests.observability.watch import Watch, until
from tests.observability.worker import Worker
from tests.telemetry.everything import Exposed

pytestmark = [pytest.mark.anyio, pytest.mark.etcd, pytest.mark.any_etcd, pytest.mark.takes(110)]

# What of the rules is their user's: `max_stale`, and how old a snapshot may be.
NUMBERS = {"0.8 * 3600": "0.8 * 10", "> 600": "> 20"}
ALERTS = [rule["alert"] for rule in rules()]
# Not canaries: snapshots have them, and may.
KEY, VALUE, REFUSED = "k-5f1c2a9b", "v-7e3d4c60", "r-9b1f2a5c"
VALUES = {KEY: VALUE, "vat": "0.2", "limits": '{"items": 10}'}


@pytest.fixture
def anyio_backend() -> str:
    """uvicorn runs on asyncio."""
    return "asyncio"


@pytest.fixture
def observed_for(request: pytest.FixtureRequest) -> float:
    """Seconds for which all is well, and for which what can last lasts."""
    return float(request.config.getoption("--observed-for"))


@pytest.mark.observed(1)
async def test_each_alert_has_its_failure(tmp_path: Path, observed_for: float, exposed: Exposed) -> None:
    """All is well: no alert. Then each failure has its alert, and when it is over the alert is.

    Meanwhile every metric is scraped, with each label that an expression names; and what is exported names no key
    and no value.
    """
    async with stage(tmp_path, spares=1, values=VALUES, numbers=NUMBERS) as here:
        assert here.prometheus is not None
        watch = Watch(here.prometheus)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch.run)
            # Nobody is billing yet.
            await watch.saw("NoEndpoints")
            async with registered(here, here.billing):
                await _is_well(here, watch, observed_for)
                await _some_are_cut_off(here, watch)
                await _much_else(here, watch)
                await _no_quorum(here, watch, observed_for)
            await _another_etcd(here)
            tasks.cancel_scope.cancel()
        assert set(ALERTS) - watch.ever == set()
        scraped = await here.prometheus.exposed()
        assert exposed.keys() - scraped.keys() == set()
        wrong = [f"{where}: {name}" for where, text in everywhere() for name in named(text).unscraped(scraped)]
        assert wrong == []
        exported = await all_exported(here)
    assert_tells_no_secret(exported)


async def _is_well(here: Stage, watch: Watch, observed_for: float) -> None:
    """See that nothing is pending while all is well, nor while etcd's leader changes."""
    for worker in here.workers:
        await here.trouble(worker, "lead/reports", on_outage="stay")
    await here.trouble(here.workers[3], "lead/audit", on_outage="step_down")
    await until(
        partial(settled, here, "audit", "reports", "settlement"),
        "workers that are scraped, lead and have endpoints",
    )
    await watch.over(*ALERTS)
    watch.forget()
    await anyio.sleep(observed_for)
    assert watch.seen == set()
    leader = await here.cluster.find_leader(60)
    await anyio.to_thread.run_sync(partial(leader.restart, kill=True))
    await anyio.sleep(min(observed_for, 10))
    assert watch.seen == set()


async def _some_are_cut_off(here: Stage, watch: Watch) -> None:
    """Cut three of four off, the leader of `reports` among them, while two of them hold one lock."""
    lost, left = here.workers[:3], here.workers[3]
    left.cache.chmod(0o555)
    await here.put("vat", REFUSED)
    async with anyio.create_task_group() as holds:
        async with cut(here, *lost):
            for worker in lost[:2]:
                holds.start_soon(partial(here.trouble, worker, "hold/till", seconds=6))
            await watch.saw("FleetIsolated", "TwoLeaders", "RejectedValue")
            await anyio.sleep(3)


async def _much_else(here: Stage, watch: Watch) -> None:
    """Cut one off again and again, block the loop of another one, and let the rest fail that can."""
    first, _, third, last = here.workers
    async with registered(here, "http://127.0.0.1:9"), anyio.create_task_group() as troubles:
        troubles.start_soon(partial(here.trouble, last, "block", seconds=6))
        for what in ("job", "task", "wait/till", "fetch/elsewhere"):
            troubles.start_soon(here.trouble, first, what)
        while "Flapping" not in watch.seen:
            async with cut(here, third):
                pass
        await watch.saw("LockConflict", "LoopStalled", "SnapshotFailing", "SnapshotAging")
    await here.put("vat", "0.2")
    last.cache.chmod(0o755)


async def _no_quorum(here: Stage, watch: Watch, observed_for: float) -> None:
    """Take the quorum away, and start one more process meanwhile; all of it is over when the quorum is back."""
    of_states = ("Degraded", "FleetIsolated", "TwoLeaders", "NobodyLeads", "RejectedValue", "StaleBudget")
    await watch.over(*of_states)
    watch.forget()
    await anyio.to_thread.run_sync(here.cluster.lose_quorum)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(here.start, *here.spare)
        tasks.start_soon(anyio.sleep, observed_for)
        await watch.saw("Degraded", "NobodyLeads", "StaleBudget", "NotRegistered")
    print(await of_prometheus(here))
    here.cluster.restore_quorum()
    await watch.over(*of_states, "NotRegistered", "SnapshotAging")
    print(of_traces(here.receiver))


async def _another_etcd(here: Stage) -> None:
    """Replace etcd by an empty one, as somebody does who has no backup."""
    assert here.prometheus is not None
    here.cluster.kill_all()
    here.cluster.wipe()
    here.cluster.start()
    resets = "tideover_backend_resets_total"
    await until(partial(_is_there, here.prometheus, resets), resets)


async def settled(here: Stage, *elections: str) -> bool:
    """Return whether every worker is scraped and has endpoints, and all of some elections have one leader."""
    assert here.prometheus is not None
    up = await here.prometheus.query("sum(up)")
    with_endpoints = await here.prometheus.query("count(tideover_discovery_endpoint_active > 0)")
    led = await here.prometheus.query("sum by (tideover_election) (tideover_election_leader)")
    everybody = {(): float(len(here.workers))}
    return up == with_endpoints == everybody and led == {(name,): 1 for name in elections}


async def _is_there(prometheus: Prometheus, metric: str) -> bool:
    return bool(await prometheus.query(metric))


@asynccontextmanager
async def cut(here: Stage, *workers: Worker) -> AsyncIterator[None]:
    """Cut workers off from etcd, and wait until they know; in the end mend it, and wait until they know."""
    for link in (link for worker in workers for link in worker.links):
        link.cut()
    await until(partial(_are, here, "unavailable", workers), "processes that know that etcd is away")
    yield
    for link in (link for worker in workers for link in worker.links):
        link.mend()
    await until(partial(_are, here, "available", workers), "processes that know that etcd is back")


async def _are(here: Stage, state: str, workers: Sequence[Worker]) -> bool:
    assert here.prometheus is not None
    expression = f'tideover_component_status{{tideover_component="config", tideover_state="{state}"}} > 0'
    found = {instance for each in await here.prometheus.query(expression) for instance in each}
    return {f"127.0.0.1:{worker.metrics_port}" for worker in workers} <= found


async def all_exported(here: Stage) -> dict[str, bytes]:
    """Return all that has left the processes: what came by OTLP, what a Prometheus scrapes, and the logs."""
    found = {f"OTLP {kind} {number}": body for number, (kind, body) in enumerate(here.receiver.bodies)}
    for worker in here.workers:
        found[f"metrics of {worker.name}"] = await worker.exposition(here.client)
        found[f"log of {worker.name}"] = worker.log.read_bytes()
    return found


def assert_tells_no_secret(exported: Mapping[str, bytes]) -> None:
    """See that nothing names a key or a value, nor the token of a request.

    The line about a refused value names its key without its place, and not the value.
    """
    names = [TOKEN, KEY, VALUE, REFUSED, "config/limits", "config/vat"]
    told = [
        f"{where}: {line!r}"
        for where, text in exported.items()
        for line in re.split(rb"\n|\x00", text)
        for name in names
        if name.encode() in line
    ]
    assert told == []
