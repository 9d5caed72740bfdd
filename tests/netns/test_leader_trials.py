"""Nobody leads twice, whatever happens to members and candidates: trials on real partitions.

    nox -s faults -- tests/netns/test_leader_trials.py
    pytest tests/netns/test_leader_trials.py --faults-count 200 --faults-seed 7 -s

Two minutes for each seed, or three faults in the ordinary suite. Put etcd 3.4's directory first on PATH for the
other version. The report goes to standard output.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.history.leaders import LeaderFindings
from tests.history.recorder import machine_clock, read_history
from tests.netns.cluster import HostedCluster
from tests.netns.leader_client import TTL
from tests.netns.leader_trials import HOSTS, LeaderTrials
from tests.netns.network import Network
from tideover.elections.rules.candidate import margin_of

pytestmark = [pytest.mark.etcd, pytest.mark.any_etcd, pytest.mark.netns, pytest.mark.faults, pytest.mark.takes(75)]

# Seconds that the office may be empty after a leader's death, and after its resignation.
AFTER_DEATH = TTL + margin_of(TTL) + 2.0
AFTER_RESIGNING = 0.2
# The same where promises may have been given.
AFTER_CONFIRMED = 2 * TTL + 2.0
SHORT_PEERS = (("leader cut off", 8.0), ("quorum killed", 9.0))
SHORT = (("leader killed", 7.0), ("leader ended", 0.0), ("leader with the minority", 8.0))


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    """Three hosts for members, four for candidates."""
    with Network(HOSTS) as network:
        yield network


def findings_of(trials: LeaderTrials, short: Sequence[tuple[str, float]], config: pytest.Config) -> LeaderFindings:
    """Strike at random for two minutes, or as it says; return what came of it, without a violation."""
    if config.getoption("faults_count") >= 200:
        trials.run(120)
    else:
        for kind, seconds in short:
            trials.strike(kind, seconds)
    trials.finish()
    print(f"\netcd {trials.cluster.members[0].version()}, seed {trials.seed}: {trials.report()}")
    found = trials.findings()
    assert [str(violation) for violation in found.violations] == []
    return found


def test_nobody_leads_twice(
    network: Network, cluster: HostedCluster, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    """No two lead at once but UNCONFIRMED ones, tokens grow, and a dead or departed leader is replaced in time."""
    cluster.wait_ready()
    with LeaderTrials(network, cluster, tmp_path, pytestconfig.getoption("faults_seed")) as trials:
        found = findings_of(trials, SHORT, pytestconfig)
    assert "step_down" not in found.unconfirmed
    assert all(took < AFTER_DEATH for several in found.after_death.values() for took in several)
    assert all(took < AFTER_RESIGNING for several in found.after_resigning.values() for took in several)


def test_nobody_leads_twice_when_all_are_asked(
    network: Network, cluster: HostedCluster, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    """Under "peers" no two lead at once, and a dead leader is replaced within two ttls and 2 s."""
    cluster.wait_ready()
    with LeaderTrials(network, cluster, tmp_path, pytestconfig.getoption("faults_seed"), ("peers",)) as trials:
        found = findings_of(trials, SHORT_PEERS, pytestconfig)
    assert "peers" not in found.unconfirmed
    assert all(took < AFTER_CONFIRMED for several in found.after_death.values() for took in several)


def test_the_same_leaders_after_a_quorum_loss(
    network: Network, cluster: HostedCluster, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    """etcd is away for longer than the ttl, and candidates come and go: who stays goes on, who steps down returns.

    Both with the same token, which is what `strike` asserts; and nobody else is elected, by `terms`.
    """
    cluster.wait_ready()
    with LeaderTrials(network, cluster, tmp_path, pytestconfig.getoption("faults_seed")) as trials:
        before = trials.settle()
        began = machine_clock()
        trials.strike("candidates come and go in an outage", 8.0)
        seen = [e for e in read_history(tmp_path) if e.fields.get("role") == "leader" and e.at > began]
        stayed = [e for e in seen if e["name"] == "stay"]
        # Never left its body, and said what it stood on.
        assert {e.kind for e in stayed} <= {"renewed", "turned"}
        assert [e["mode"] for e in stayed if e.kind == "turned"] == ["unconfirmed", "held"]
        left = [e for e in seen if e["name"] == "step_down" and e.kind in ("enter", "exit")]
        assert [(e.kind, e.pid) for e in left] == [(k, before["step_down"].pid) for k in ("exit", "enter")]
        found = trials.findings()
        assert found.violations == []
        assert found.terms == {"step_down": 1, "stay": 1}
