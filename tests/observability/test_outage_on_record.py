"""What an outage of a real etcd leaves behind: in the traces that a Collector is sent, and in each worker's log.

`nox -s observability` runs it: two minutes at 300 requests/s over four workers; `test_traces.py` is shorter.
"""

from __future__ import annotations

import re
from collections import defaultdict
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from tests.observability.stage import Stage, registered, stage
from tests.observability.watch import until
from tests.observability.worker import Worker

pytestmark = [pytest.mark.anyio, pytest.mark.etcd, pytest.mark.any_etcd]

# Seconds from which the run is one at length.
_AT_LENGTH = 30
RATE = 300.0


@pytest.fixture
def anyio_backend() -> str:
    """uvicorn runs on asyncio."""
    return "asyncio"


@pytest.mark.observed(_AT_LENGTH)
async def test_traces_and_lines(tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Exactly the degraded answers are found by their traces, each linked to its process's outage.

    A worker has written fewer than 30 lines.
    """
    seconds = float(request.config.getoption("--observed-for"))
    async with stage(tmp_path, rate=RATE, values={"vat": "0.2"}, scraped=False) as here:
        async with registered(here, here.billing):
            await anyio.sleep(5)
            await anyio.to_thread.run_sync(here.cluster.lose_quorum)
            await anyio.sleep(seconds)
            here.cluster.restore_quorum()
            await until(partial(_all_over, here), "the ends of all outages")
            await anyio.sleep(5)
        answered = dict(here.load.traces)
        # Exporters send what they have within half a second.
        await anyio.sleep(3)
    check_traces(here, answered)
    for worker in here.workers:
        lines = re.findall(r"^tideover\.[a-z_.]+: .*", worker.log.read_text(), re.M)
        print(f"{worker.name}: {len(lines)} lines, {_answered(here, worker)} answers", *lines, sep="\n")
        assert 2 <= len(lines) < 30, "\n".join(lines)


def _answered(here: Stage, worker: Worker) -> int:
    return sum(count for (name, status), count in here.load.statuses.items() if name == worker.name and status)


async def _all_over(here: Stage) -> bool:
    ended = [each.instance for each in here.receiver.spans() if each.record.name == "tideover.outage"]
    return len(set(ended)) == len(here.workers)


def check_traces(here: Stage, answered: dict[str, bool]) -> None:
    """See that traces and answers say the same.

    Args:
        here: What was received.
        answered: By trace, whether the answer said that it was degraded.
    """
    outages, found = {}, defaultdict(list)
    for each in here.receiver.spans():
        if each.record.name == "tideover.outage":
            outages[each.record.span_id] = each
        elif each.attributes.get("tideover.degraded"):
            found[each.record.trace_id.hex()].append(each)
    assert len({each.instance for each in outages.values()}) == len(here.workers)
    degraded = {trace for trace, said in answered.items() if said}
    assert (degraded - found.keys(), found.keys() & answered.keys() - degraded) == (set(), set())
    linked = 0
    for trace in degraded:
        # What was served while none was declared, such as soon after a start or a return, has no link.
        told = {each.attributes.get("tideover.outage_id") for each in found[trace]} - {None}
        links = [outages[link.span_id] for each in found[trace] for link in each.record.links]
        assert sorted(str(outage.attributes["tideover.outage_id"]) for outage in links) == sorted(map(str, told))
        assert {outage.instance for outage in links} <= {each.instance for each in found[trace]}
        linked += bool(links)
    assert linked > 100
