"""`tideover doctor`, run as operators and scripts run it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tideover.cli import doctor as doctor_module
from tideover.cli.etcd_versions import Flaw, flaws_of
from tideover.etcd.transports import VARIABLE, chosen
from tideover.testing.etcd import EtcdCluster, EtcdServer

pytestmark = [pytest.mark.etcd, pytest.mark.version]


def doctor(*args: str) -> tuple[int, dict[str, list[tuple[bool | None, str]]]]:
    """Run it; return its exit code, and what it found by what was looked at."""
    command = [sys.executable, "-P", "-m", "tideover.cli", "doctor", "--json", *args]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert "Traceback" not in done.stderr
    found: dict[str, list[tuple[bool | None, str]]] = {}
    for line in map(json.loads, done.stdout.splitlines()):
        found.setdefault(line["what"], []).append((line["ok"], line["text"]))
    return done.returncode, found


def flags(endpoints: tuple[str, ...]) -> list[str]:
    """Return the endpoints as options."""
    return [flag for endpoint in endpoints for flag in ("-e", endpoint)]


def well(etcd: EtcdCluster | EtcdServer) -> int:
    """Return the exit code if all is well but, perhaps, the version of etcd that the tests run on."""
    return int(any(flaw.harmful for flaw in flaws_of(etcd.version())))


def test_all_is_well(etcd_cluster: EtcdCluster, tmp_path: Path) -> None:
    """Three members of one cluster, in time, a folder that can be written: 0, and nothing is written to etcd."""
    code, found = doctor(*flags(etcd_cluster.endpoints), "--cache-dir", str(tmp_path))
    assert code == well(etcd_cluster)
    assert [ok for ok, _ in found["member"]] == [True] * 3
    assert [ok for ok, _ in found["cluster"]] == [True]
    named = doctor_module._TRANSPORTS[chosen(None, etcd_cluster.endpoints[0])]
    assert found["transport"] == [(None, f"calls go over {named}")]
    assert [ok for ok, _ in found["clock"]] == [True] * 3
    assert found["disk"] == [(True, f"snapshots can be written to {tmp_path}")]
    assert found["epoch"] == [(None, "not written yet: the first service writes it")]
    assert etcd_cluster.etcdctl("get", "--prefix", "/") == ""


def test_two_transports(etcd_server: EtcdServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the environment names a proxy for some members, it is said which are reached how."""
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("grpc_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_grpc_proxy", "127.0.0.1")
    _, found = doctor(*flags((etcd_server.endpoint, "localhost:1")), "--cache-dir", str(tmp_path))
    assert found["transport"] == [
        (None, f"calls to {etcd_server.endpoint} go over http2, tideover's own"),
        (
            None,
            "calls to localhost:1 go over grpc, gRPC's library, by way of the proxy 127.0.0.1:9, see grpc_proxy "
            "and no_proxy",
        ),
    ]


def test_the_version_is_judged(etcd_cluster: EtcdCluster) -> None:
    """Each known flaw of the running version is told once for all its members, and a harmful one makes it 1."""
    version = etcd_cluster.version()
    code, found = doctor(*flags(etcd_cluster.endpoints))
    said = found.get("version", [])

    def expected(flaw: Flaw) -> tuple[bool | None, str]:
        return (False if flaw.harmful else None, f"etcd {version} {flaw.text}: {flaw.remedy} ({flaw.source})")

    assert said == [expected(flaw) for flaw in flaws_of(version)]
    assert code == int(any(ok is False for ok, _ in said))


def test_bumping_the_epoch(etcd_server: EtcdServer) -> None:
    """Each bump begins the next epoch, of its own namespace."""
    at = ("-e", etcd_server.endpoint, "-n", "/shop")
    assert doctor(*at, "--bump-epoch")[1]["bump"] == [(True, "epoch 1 has begun")]
    code, found = doctor(*at, "--bump-epoch")
    assert (code, found["bump"]) == (well(etcd_server), [(True, "epoch 2 has begun")])
    assert doctor(*at)[1]["epoch"][0][1].startswith("2, written at revision ")
    assert json.loads(etcd_server.etcdctl("get", "--print-value-only", "/shop/tideover/epoch"))["epoch"] == 2


def test_two_clusters_among_the_endpoints(etcd_server: EtcdServer) -> None:
    """Endpoints of two clusters are told, with 1, and no epoch is raised in either."""
    with EtcdServer(name="stranger") as stranger:
        stranger.wait_ready()
        code, found = doctor("-e", etcd_server.endpoint, "-e", stranger.endpoint, "--bump-epoch")
        assert code == 1
        assert found["cluster"][0][0] is False
        assert "belong to 2 clusters" in found["cluster"][0][1]
        assert found["bump"][0][0] is False
        assert stranger.etcdctl("get", "/tideover/epoch") == etcd_server.etcdctl("get", "/tideover/epoch") == ""


def test_restored_from_a_backup_with_another_id(etcd_server: EtcdServer, tmp_path: Path) -> None:
    """A marker from before a restore is told, although nobody here remembers anything."""
    doctor("-e", etcd_server.endpoint, "--bump-epoch")
    etcd_server.etcdctl("snapshot", "save", str(tmp_path / "backup"))
    etcd_server.kill()
    etcd_server.restore(tmp_path / "backup", token="another")
    etcd_server.start()
    etcd_server.wait_ready()
    code, found = doctor("-e", etcd_server.endpoint)
    assert code == 1
    assert found["epoch"] == [(False, "1, written before etcd was restored: the first service raises it")]


def test_outages_have_codes_of_their_own(etcd_cluster: EtcdCluster, tmp_path: Path) -> None:
    """No quorum is 3, nobody there is 4; a folder that cannot be written is told in both."""
    (tmp_path / "file").touch()
    at = (*flags(etcd_cluster.endpoints), "--cache-dir", str(tmp_path / "file" / "folder"))
    etcd_cluster.lose_quorum()
    code, found = doctor(*at)
    assert (code, sorted(ok is True for ok, _ in found["member"])) == (3, [False] * 3)
    assert found["disk"][0][0] is False
    etcd_cluster.kill_all()
    assert doctor(*at)[0] == 4


def test_a_refusal_is_no_outage(etcd_server: EtcdServer) -> None:
    """With users in etcd, and none given, it is refused: 5, a definite no, and not said to have no quorum."""
    for command in ("user add root:root", "user grant-role root root", "auth enable"):
        etcd_server.etcdctl(*command.split())
    code, found = doctor("-e", etcd_server.endpoint)
    assert code == 5
    assert "refuses this client" in found["member"][0][1]
    assert "user name is empty" in found["member"][0][1]
