"""`tideover services` and `tideover resolve`, run as scripts run them: output, labels and exit codes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import anyio
import pytest

import tideover
from tests.cli.test_cli import tideover as run
from tideover.testing import EtcdCluster, EtcdServer

pytestmark = [pytest.mark.etcd]


@pytest.fixture
def anyio_backend() -> str:
    """Run on asyncio: the real store is grpc.aio's."""
    return "asyncio"


def publish(etcd: EtcdServer | EtcdCluster, service: str, count: int) -> None:
    """Put endpoints into etcd."""
    for n in range(count):
        value = json.dumps({"needs": 1, "url": f"http://10.0.0.{n}:80", "weight": n, "metadata": {"zone": "a"}})
        etcd.etcdctl("put", f"/services/{service}/i{n}/x", value)


def test_services_and_resolve(etcd_server: EtcdServer) -> None:
    """Names and counts; endpoints with weight and metadata; JSON likewise; 5 for a service that has none."""
    where = etcd_server.endpoint
    assert run("services", endpoints=where).out == "no services\n"
    publish(etcd_server, "billing", 2)
    publish(etcd_server, "pay%2Feu", 1)
    assert run("services", endpoints=where).out == "billing  2 registered\npay/eu  1 registered\n"
    status = run("status", endpoints=where)
    assert "service    billing  2 registered" in status.out
    assert run("status", "--json", endpoints=where).json["registered"] == {"billing": 2, "pay/eu": 1}
    found = run("resolve", "billing", endpoints=where)
    assert found.out == "http://10.0.0.0:80  weight 0  zone=a\nhttp://10.0.0.1:80  weight 1  zone=a\n"
    assert (found.code, found.err) == (0, "")
    one = run("resolve", "pay/eu", "--json", endpoints=where).json
    assert one.pop("age") is not None
    assert one == {
        "service": "pay/eu",
        "url": "http://10.0.0.0:80",
        "weight": 0.0,
        "metadata": {"zone": "a"},
        "instance": "i0",
        "incarnation": "x",
        "source": "live",
    }
    none = run("resolve", "nobody", endpoints=where)
    assert (none.code, none.out, none.err) == (5, "", "tideover: 'nobody' has no endpoints\n")
    assert run("resolve", "", endpoints=where).code == 2


def test_what_others_have_written(etcd_server: EtcdServer) -> None:
    """Foreign records are named on stderr and otherwise left out; text in good ones breaks no line."""
    metadata = {"note": "two\nlines", "colour": "\x1b[31mred", "name": "ü 한"}
    good = json.dumps({"needs": 1, "url": "http://10.0.0.1:80", "metadata": metadata})
    for key, value in {
        "billing/a/x": good,
        "billing/b/x": "no JSON",
        "billing/c/x": '{"needs": 9, "url": "http://10.0.0.2:80"}',
        "billing/not/a/registration": good,
        "other": good,
        "new%0Aline/a/x": good,
    }.items():
        etcd_server.etcdctl("put", f"/services/{key}", value)
    where = etcd_server.endpoint
    found = run("resolve", "billing", endpoints=where)
    assert found.code == 0
    assert found.out == "http://10.0.0.1:80  weight 1  note=two\\nlines  colour=\\x1b[31mred  name=ü 한\n"
    complaints = found.err.splitlines()
    assert len(complaints) == 3
    assert "'services/billing/b/x' cannot be used, because it is not JSON" in complaints[0]
    assert "needs format 9" in complaints[1]
    assert run("resolve", "billing", "--json", endpoints=where).json["metadata"] == metadata
    assert run("services", endpoints=where).out == "billing  3 registered\nnew\\nline  1 registered\n"
    assert "service    new\\nline  1 registered" in run("status", endpoints=where).out


def test_output_that_cannot_be_written(etcd_server: EtcdServer) -> None:
    """A full disk is one line and 1; a closed stdout is nobody who wants to read."""
    publish(etcd_server, "billing", 2)
    command = [sys.executable, "-m", "tideover.cli", "services", "--endpoint", etcd_server.endpoint]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (
        1,
        "tideover: the output cannot be written: No space left on device\n",
    )
    shell = ["sh", "-c", 'exec "$@" >&-', "sh", *command]
    done = subprocess.run(shell, stderr=subprocess.PIPE, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.anyio
async def test_resolve_without_etcd(etcd_cluster: EtcdCluster, tmp_path: Path) -> None:
    """Without a quorum the survivor answers; without any member a service's snapshots; each is labelled."""
    publish(etcd_cluster, "billing", 2)
    where = ",".join(etcd_cluster.endpoints)
    async with tideover.connect(*etcd_cluster.endpoints, cache_dir=tmp_path) as tide:
        await tide.discover("billing").wait_for(2, timeout=5)
    etcd_cluster.lose_quorum()
    time.sleep(3)
    degraded = await anyio.to_thread.run_sync(lambda: run("resolve", "billing", endpoints=where))
    assert (degraded.code, len(degraded.out.splitlines())) == (0, 2)
    assert "has no quorum; the answer is a surviving member's" in degraded.err
    unsaid = await anyio.to_thread.run_sync(lambda: run("resolve", "nobody", endpoints=where))
    assert unsaid.code == 3
    assert run("services", endpoints=where).code == 3
    etcd_cluster.kill_all()
    cached = run("resolve", "billing", "--cache-dir", str(tmp_path), endpoints=where)
    assert (cached.code, cached.out) == (0, degraded.out)
    assert "no etcd member answers; the answer is from disk, " in cached.err
    assert run("resolve", "nobody", "--cache-dir", str(tmp_path), endpoints=where).code == 4
    assert run("services", endpoints=where).code == 4


def test_resolve_watch(etcd_server: EtcdServer) -> None:
    """Added, changed and removed endpoints are printed with a sign until Ctrl-C."""
    publish(etcd_server, "billing", 2)
    command = [sys.executable, "-P", "-m", "tideover.cli", "resolve", "billing", "--watch"]
    environment = {**os.environ, "TIDEOVER_ENDPOINTS": etcd_server.endpoint, "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines = [process.stdout.readline() for _ in range(2)]
        publish(etcd_server, "billing", 3)
        lines.append(process.stdout.readline())
        etcd_server.etcdctl("del", "/services/billing/i1/x")
        lines.append(process.stdout.readline())
        process.send_signal(signal.SIGINT)
    assert [line[:1] for line in lines] == ["h", "h", "+", "-"]
    assert lines[2] == "+ http://10.0.0.2:80  weight 2  zone=a\n"
    assert process.returncode == 130
