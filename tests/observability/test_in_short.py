"""The scenario in half a minute: two workers, a real Prometheus, and a real etcd that loses its quorum."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from tests.observability.stage import registered, stage
from tests.observability.test_scenario import (
    NUMBERS,
    REFUSED,
    VALUES,
    all_exported,
    assert_tells_no_secret,
    settled,
)
from tests.observability.watch import Watch, until
from tests.observability.worker import ROOT
from tests.telemetry.everything import Exposed

pytestmark = [pytest.mark.anyio, pytest.mark.etcd, pytest.mark.any_etcd, pytest.mark.takes(30)]

# What takes longer to happen: `test_scenario.py` has it.
LONGER = {
    "tideover_backend_resets_total",
    "tideover_discovery_ejections_total",
    "tideover_election_stalls_total",
    "tideover_lock_conflicts_total",
    "tideover_watch_restarts_total",
}


@pytest.fixture
def anyio_backend() -> str:
    """uvicorn runs on asyncio."""
    return "asyncio"


async def test_an_outage_is_pending(tmp_path: Path, exposed: Exposed) -> None:
    """No alert while all is well; Degraded without a quorum; every metric is scraped, and no key named."""
    async with stage(tmp_path, workers=2, values=VALUES, numbers=NUMBERS) as here:
        assert here.prometheus is not None
        watch = Watch(here.prometheus)
        async with registered(here, here.billing), anyio.create_task_group() as tasks:
            await until(partial(settled, here, "settlement"), "workers that are scraped and have endpoints")
            await watch.over("NoEndpoints", "NobodyLeads")
            tasks.start_soon(watch.run)
            await anyio.sleep(4)
            assert watch.seen == set()
            await here.put("vat", REFUSED)
            for what in ("job", "task", "wait/till", "fetch/elsewhere"):
                tasks.start_soon(here.trouble, here.workers[0], what)
            await watch.saw("RejectedValue")
            await anyio.to_thread.run_sync(here.cluster.lose_quorum)
            await watch.saw("Degraded", "NobodyLeads")
            scraped = await here.prometheus.exposed()
            tasks.cancel_scope.cancel()
        exported = await all_exported(here)
    assert exposed.keys() - scraped.keys() - LONGER == set()
    received = {name.replace(".", "_") for sent in here.receiver.events() for name in sent.attributes}
    assert asked_of_loki() - received == set()
    assert_tells_no_secret(exported)


def asked_of_loki() -> set[str]:
    """Return the attributes that the page's queries for log lines name, as Loki keeps those that come by OTLP."""
    page = (ROOT / "docs/how-to/see-degradation.md").read_text()
    found = re.findall(r"^```logql\n(.*?)^```$", page, re.M | re.S)
    names = set(re.findall(r"\b(tideover_\w+)=", "".join(found)))
    assert names
    return names
