"""One network with one cluster for all tests here: what a test cuts is mended after it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.netns.bench import Bench
from tests.netns.cluster import HostedCluster
from tests.netns.network import Network


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    """Three hosts for members, three for clients."""
    with Network(["m1", "m2", "m3", "c1", "c2", "c3"]) as network:
        yield network


@pytest.fixture(scope="module")
def cluster(network: Network) -> Iterator[HostedCluster]:
    """A member on each of the three hosts."""
    with HostedCluster(network, "m1", "m2", "m3") as cluster:
        yield cluster


@pytest.fixture
def bench(network: Network, cluster: HostedCluster, tmp_path: Path) -> Iterator[Bench]:
    """The cluster, healthy and whole, and a place for clients and their histories."""
    cluster.wait_ready()
    with Bench(network, cluster, tmp_path / "history") as bench:
        yield bench
        bench.stop_clients()
    assert bench.violations() == []
