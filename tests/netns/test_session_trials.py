"""Sessions tell the truth whatever happens to leader, member in use and client: trials on real partitions.

    nox -s faults -- tests/netns/test_session_trials.py
    pytest tests/netns/test_session_trials.py --faults-count 200 --faults-seed 7 -s

Put etcd 3.4's directory first on PATH for the other version. The report goes to standard output.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.netns.cluster import HostedCluster
from tests.netns.network import Network
from tests.netns.session_trials import HOSTS, MEMBERS, Trials

pytestmark = [pytest.mark.etcd, pytest.mark.netns, pytest.mark.faults]


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    """Three hosts for members, three for clients, one for the observer."""
    with Network(HOSTS) as network:
        yield network


@pytest.fixture(scope="module")
def cluster(network: Network) -> Iterator[HostedCluster]:
    """A member on each of the three hosts."""
    with HostedCluster(network, *MEMBERS) as cluster:
        yield cluster


def test_no_key_disappears_before_its_deadline(
    network: Network, cluster: HostedCluster, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    """No key disappears before its holder's deadline, but for early_revoke; that is noticed within 1 s."""
    cluster.wait_ready()
    folder = tmp_path / "history"
    with Trials(network, cluster, folder, pytestconfig.getoption("faults_seed")) as trials:
        began = time.monotonic()
        trials.run(pytestconfig.getoption("faults_count"))
        print(f"\netcd {cluster.members[0].version}, {time.monotonic() - began:.0f} s: {trials.report()}")
        assert [str(violation) for violation in trials.findings().violations] == []
