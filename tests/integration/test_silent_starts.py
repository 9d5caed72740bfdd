"""Starts while one member of a real cluster of three is silent: it costs them a moment, and no outage."""

from __future__ import annotations

from collections.abc import Iterator

import anyio
import pytest

import tideover
from tideover import HealthState
from tideover.testing import EtcdCluster

pytestmark = [pytest.mark.anyio, pytest.mark.etcd]

STARTS = 12


@pytest.fixture(scope="module")
def cluster() -> Iterator[EtcdCluster]:
    """Three members for all tests here."""
    with EtcdCluster() as running:
        yield running


@pytest.mark.parametrize("role", ["follower", "leader"])
async def test_one_silent_member_spoils_no_start(cluster: EtcdCluster, role: str) -> None:
    """With a stopped follower, or a stopped leader once the others have elected, no start is an outage."""
    silent = cluster.followers()[0] if role == "follower" else cluster.leader()
    silent.pause()
    try:
        await anyio.to_thread.run_sync(cluster.wait_ready)
        for _ in range(STARTS):
            opening = tideover.connect(*cluster.endpoints, cache_dir=False, require="etcd", start_timeout=3.0)
            async with opening as tide:
                assert tide.health.state is HealthState.AVAILABLE
                await tide.config.put("greeting", "hello")
    finally:
        silent.resume()
        await cluster.ready()
