"""One lock, eight processes, and whatever can happen to them and to etcd: trials on real partitions.

    nox -s faults -- tests/netns/test_lock_trials.py
    pytest tests/netns/test_lock_trials.py --faults-count 200 --faults-seed 7 -s

Two minutes for each seed, or 15 s in the ordinary suite. Put etcd 3.4's directory first on PATH for the other
version.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.netns.cluster import HostedCluster
from tests.netns.lock_trials import HOSTS, LockTrials
from tests.netns.network import Network

pytestmark = [pytest.mark.etcd, pytest.mark.any_etcd, pytest.mark.netns, pytest.mark.faults, pytest.mark.takes(55)]


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    """Three hosts for members, four for clients, one for the observer."""
    with Network(HOSTS) as network:
        yield network


def test_one_lock_eight_processes(
    network: Network, cluster: HostedCluster, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    """No two hold the lock DISTRIBUTED at once but for early_revoke, tokens grow, and nothing is left behind."""
    seconds = 120 if pytestconfig.getoption("faults_count") >= 200 else 15
    cluster.wait_ready()
    with LockTrials(network, cluster, tmp_path, pytestconfig.getoption("faults_seed")) as trials:
        trials.run(seconds)
        trials.finish()
        ledger = trials.ledger()
        print(f"\netcd {cluster.members[0].version()}, {seconds} s: {trials.report()}")
        assert [str(violation) for violation in trials.findings().violations] == []
        assert trials.overdue() == []
        assert ledger == ([], [])
    _assert_nothing_is_left(cluster)


def _assert_nothing_is_left(cluster: HostedCluster) -> None:
    """No key of a lock or a session, and no lease but the ledger's, once those of the killed have ended."""
    deadline = time.monotonic() + 30
    while True:
        keys = [
            key
            for prefix in ("/locks/", "/tideover/sessions/")
            for key in cluster.etcdctl("get", prefix, "--prefix", "--keys-only").split()
        ]
        leases = [
            lease
            for lease in cluster.etcdctl("lease", "list").split()[3:]
            if "604800s" not in cluster.etcdctl("lease", "timetolive", lease)
        ]
        if not keys and not leases:
            return
        assert time.monotonic() < deadline, f"left behind: keys {keys}, leases {leases}"
        time.sleep(1)
