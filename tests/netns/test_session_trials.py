"""Sessions tell the truth whatever happens to leader, member in use and client: trials on real partitions.

    nox -s faults -- tests/netns/test_session_trials.py
    pytest tests/netns/test_session_trials.py --faults-count 200 --faults-seed 7 -s

Put etcd 3.4's directory first on PATH for the other version. The report goes to standard output.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.netns.cluster import ROOT, HostedCluster
from tests.netns.network import Network
from tests.netns.session_trials import HOSTS, Trials

_LOAD = Path(__file__).with_name("session_load.py")

pytestmark = [pytest.mark.etcd, pytest.mark.netns, pytest.mark.faults, pytest.mark.takes(25)]


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    """Three hosts for members, three for clients, one for the observer."""
    with Network(HOSTS) as network:
        yield network


def test_no_key_disappears_before_its_deadline(
    network: Network, cluster: HostedCluster, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    """No key disappears before its holder's deadline, but for early_revoke; that is noticed within 1 s."""
    cluster.wait_ready()
    folder = tmp_path / "history"
    with Trials(network, cluster, folder, pytestconfig.getoption("faults_seed")) as trials:
        began = time.monotonic()
        trials.run(pytestconfig.getoption("faults_count"))
        print(f"\netcd {cluster.members[0].version()}, {time.monotonic() - began:.0f} s: {trials.report()}")
        assert [str(violation) for violation in trials.findings().violations] == []


@pytest.mark.parametrize("ttl", [6])
def test_no_needless_loss_on_a_lossy_link(
    network: Network, cluster: HostedCluster, pytestconfig: pytest.Config, ttl: int
) -> None:
    """Under load over a link that loses 1 % of packets, for five minutes (or 10 s), no session is lost."""
    seconds = 300 if pytestconfig.getoption("faults_count") >= 200 else 10
    cluster.wait_ready()
    host = network.host("c1")
    command = [*host.launcher, sys.executable, str(_LOAD), str(seconds), str(ttl), *cluster.endpoints]
    environment = {"PYTHONPATH": f"{ROOT}:{ROOT / 'src'}"}
    network.lose("c1", 0.01)
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=seconds + 60, check=False
        )
    finally:
        network.heal("c1")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    print(f"\netcd {cluster.members[0].version()}, {seconds} s with 1 % lost: {report}")
    assert report["lost"] is None
    assert report["done"] > 10 * seconds
    assert report["failed"] == []
    assert report["least_left"] > 0
