"""`tideover resolve` without etcd: whose snapshots it believes, and what it says of others."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tideover.clock import Clock
from tideover.discovery.endpoint import Endpoint
from tideover.prefixes.snapshots.snapshot import Snapshot
from tideover.prefixes.snapshots.snapshot_file import SnapshotFile
from tideover.prefixes.snapshots.snapshot_names import SnapshotOwner
from tideover.types import Entry

_PROD, _STAGING = "127.0.0.1:1", "127.0.0.1:2"


def save(
    folder: Path, endpoint: str, *urls: str, revision: int, cluster: int, namespace: str = "", user: str = ""
) -> Path:
    """Leave a snapshot of `payments`, as a service does."""
    prefix = f"{namespace}/services/payments/".encode()
    entries = {}
    for number, url in enumerate(urls):
        found = Endpoint(url, 1, {}, f"i{number}", "x", "payments")
        entries[f"{namespace}/{found.key}".encode()] = Entry(found.encode(), number + 1, number + 1)
    file = SnapshotFile(folder, SnapshotOwner(namespace, [endpoint], user), prefix=prefix, component="discovery")
    clock = Clock()
    at = {"synced_at": clock.stamp(ago=277_000), "saved_at": clock.stamp()}
    origin = {"endpoints": tuple(file.owner.endpoints), "user": user}
    assert file.save(
        Snapshot(prefix, cluster, 0, 2, revision, entries=entries, **at, **origin)  # type: ignore[arg-type]
    )
    return file.path


def resolve(folder: Path, *args: str, endpoint: str = _PROD) -> tuple[int, str, list[str]]:
    """Run `tideover resolve payments`; return code, output and the lines on stderr."""
    command = [sys.executable, "-P", "-m", "tideover.cli", "resolve", "payments", "-e", endpoint]
    done = subprocess.run(
        [*command, "--cache-dir", str(folder), *args], capture_output=True, text=True, timeout=30
    )
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout, done.stderr.splitlines()


def test_another_clusters_snapshot_is_named_and_never_used(tmp_path: Path) -> None:
    """The snapshot of exactly these endpoints counts, however new another one is; that one is named on stderr."""
    staging = save(tmp_path, _STAGING, "http://10.66.66.66:8000", revision=90, cluster=0xABC)
    code, out, said = resolve(tmp_path)
    assert (code, out) == (4, "")
    assert said[0] == (
        f"tideover: not used: a snapshot of 'payments', cluster abc at {_STAGING}, 3 d 4 h old: --from {staging}"
    )
    assert "there is no snapshot of 'payments' for these endpoints, this namespace and user" in said[1]
    save(tmp_path, _PROD, "http://10.0.0.7:8000", revision=5, cluster=0xDEF)
    code, out, said = resolve(tmp_path)
    assert (code, out) == (0, "http://10.0.0.7:8000  weight 1\n")
    assert [line for line in said if str(staging) in line]
    assert "no etcd member answers; the answer is from disk, 3 d 4 h old" in said[-1]


def test_from_takes_the_one_that_a_person_chooses(tmp_path: Path) -> None:
    """`--from FILE` answers from that file without asking etcd, and says whose it is."""
    staging = save(tmp_path, _STAGING, "http://10.66.66.66:8000", revision=90, cluster=0xABC, user="app")
    code, out, said = resolve(tmp_path, "--from", str(staging), "--json")
    record = json.loads(out)
    assert (code, record["url"], record["source"]) == (0, "http://10.66.66.66:8000", "disk")
    assert said == [f"tideover: the answer is from {staging}, cluster abc at {_STAGING} as app, 3 d 4 h old"]
    code, _, said = resolve(tmp_path, "--from", str(staging), "-n", "/shop")
    assert code == 2
    assert "is of '/services/payments/', not of '/shop/services/payments/'" in said[0]
    assert resolve(tmp_path, "--from", str(staging), "--watch")[0] == 2
    staging.write_text("{}")
    code, _, said = resolve(tmp_path, "--from", str(staging))
    assert (code, len(said)) == (1, 1)


@pytest.mark.parametrize(("user", "namespace"), [("app", ""), ("", "/shop")])
def test_another_users_or_namespaces_snapshot_does_not_count(tmp_path: Path, user: str, namespace: str) -> None:
    """Users may see different endpoints, and namespaces have different ones."""
    save(tmp_path, _PROD, "http://10.0.0.7:8000", revision=5, cluster=0xDEF, user=user, namespace=namespace)
    code, out, said = resolve(tmp_path)
    assert (code, out) == (4, "")
    assert len(said) == (2 if user else 1)


def test_a_snapshot_without_endpoints_says_so(tmp_path: Path) -> None:
    """An empty list from disk is no definite no: 4, and one line that says what it is."""
    save(tmp_path, _PROD, revision=5, cluster=0xDEF)
    code, out, said = resolve(tmp_path)
    assert (code, out, len(said)) == (4, "", 1)
    assert said[0].endswith("the answer is from disk, 3 d 4 h old, which has no endpoints of 'payments'")
