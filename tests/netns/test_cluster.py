"""The test kit's cluster on hosts: signals reach etcd itself, and our console works through any partition."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from tests.netns.cluster import HostedCluster
from tests.netns.network import Network
from tideover.testing.etcd.server import EtcdServer

pytestmark = [pytest.mark.etcd, pytest.mark.netns]


def test_signals_reach_etcd_itself(cluster: HostedCluster) -> None:
    """The process that is paused and killed is etcd, not a launcher; it comes back with its address and data."""
    cluster.etcdctl("put", "k", "v")
    member = cluster.on("m2")
    process = Path(f"/proc/{member.pid}")
    assert (process / "exe").readlink() == member.binary.resolve()
    member.pause()
    assert (process / "stat").read_text().rpartition(")")[2].split()[0] == "T"
    assert not member.answers()
    member.resume()
    assert member.answers(timeout=2)
    member.kill()
    assert not process.exists()
    member.start()
    cluster.wait_ready()
    assert member.etcdctl("get", "k", "--print-value-only").strip() == "v"


def test_the_console_works_through_partitions(network: Network, cluster: HostedCluster) -> None:
    """A leader whose links are all cut still answers us, while the others elect another; healed, all are ready."""
    cut_off = cluster.leader()
    network.isolate(cluster.host_of(cut_off))
    anyio.run(_await_leader_other_than, cluster, cut_off)
    assert cut_off.answers()
    network.heal()
    anyio.run(cluster.ready)


async def _await_leader_other_than(cluster: HostedCluster, old: EtcdServer) -> None:
    with anyio.fail_after(10):
        while await cluster.find_leader() is old:
            await anyio.sleep(0.05)
