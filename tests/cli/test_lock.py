"""`tideover lock`, and the conflicts that `tideover status` shows."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import time

import pytest

from tests.canaries import canary
from tideover.clock import Clock, Stamp
from tideover.locks.hold_document import encode
from tideover.locks.rules.overlaps import Hold
from tideover.testing import EtcdServer
from tideover.types import LockMode

pytestmark = [pytest.mark.etcd, pytest.mark.any_etcd]

_COMMAND = (sys.executable, "-P", "-m", "tideover.cli")


def tideover(server: EtcdServer, name: str, *args: str) -> subprocess.CompletedProcess[str]:
    """Run a command."""
    return subprocess.run(
        [*_COMMAND, name, "-e", server.endpoint, *args], capture_output=True, text=True, timeout=60, check=False
    )


def test_a_command_runs_under_the_lock(server: EtcdServer) -> None:
    """It has the token and the epoch, its exit code is ours, and the key is gone afterwards."""
    script = "import os; print(os.environ['TIDEOVER_LOCK_TOKEN'], os.environ['TIDEOVER_LOCK_EPOCH']); exit(7)"
    done = tideover(server, "lock", "deploy", "--", sys.executable, "-c", script)
    assert done.returncode == 7, done.stderr
    token, _ = map(int, done.stdout.split())
    assert token > 1 << 16
    assert server.etcdctl("get", "/locks/", "--prefix", "--keys-only").strip() == ""


def test_only_one_at_a_time(server: EtcdServer) -> None:
    """Who does not want to wait is told in one line, with exit code 1, and nothing is run."""
    with subprocess.Popen(
        [*_COMMAND, "lock", "-e", server.endpoint, "busy", "--", "sh", "-c", "echo held; exec sleep 60"],
        stdout=subprocess.PIPE,
        text=True,
    ) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        done = tideover(server, "lock", "busy", "--timeout", "0", "--", "echo", "never")
        assert (done.returncode, done.stdout) == (1, "")
        assert "busy" in done.stderr
        assert len(done.stderr.splitlines()) == 1
        done = tideover(server, "lock", "busy", "--timeout", "1.5", "--", "echo", "never")
        waiting = "tideover: etcd answers; waiting for the lock 'busy', /locks/busy/ in etcd; held by "
        holder = rf"{re.escape(socket.gethostname())}:{first.pid} since \d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\dZ"
        assert (done.returncode, done.stdout) == (1, "")
        assert re.fullmatch(re.escape(waiting) + holder, done.stderr.splitlines()[0])
        first.terminate()


def test_a_waiting_candidate_names_the_leader(server: EtcdServer) -> None:
    """So does `lead`, and both say that the other spelling of the namespace has the same name in use."""
    with subprocess.Popen(
        [
            *_COMMAND,
            "lead",
            "-e",
            server.endpoint,
            "-n",
            "/shop",
            "reaper",
            "--",
            "sh",
            "-c",
            "echo led; exec sleep 60",
        ],
        stdout=subprocess.PIPE,
        text=True,
    ) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "led\n"
        done = tideover(server, "lead", "reaper", "-n", "/shop", "--timeout", "1.5", "--", "echo", "never")
        assert (done.returncode, done.stdout) == (1, "")
        assert f"in etcd; held by {socket.gethostname()}:{first.pid} since 2" in done.stderr.splitlines()[0]
        twin = tideover(server, "lead", "reaper", "-n", "shop", "--", "echo", "two")
        assert (twin.returncode, twin.stdout) == (0, "two\n")
        assert twin.stderr == (
            "tideover: 'shop' and '/shop' are two namespaces, and etcd has '/shop/elections/reaper': is -n /shop "
            "meant?\n"
        )
        first.terminate()


def test_a_lost_lock_ends_the_command(server: EtcdServer) -> None:
    """The key is deleted: the command gets SIGTERM, and the exit code is 1."""
    with subprocess.Popen(
        [*_COMMAND, "lock", "-e", server.endpoint, "lost", "--", "sh", "-c", "echo held; exec sleep 60"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "held\n"
        began = time.monotonic()
        server.etcdctl("del", "/locks/lost/", "--prefix")
        assert process.wait(timeout=20) == 1
        assert time.monotonic() - began < 5
        assert "lost" in process.stderr.read()


def test_a_command_that_does_not_exist(server: EtcdServer) -> None:
    """The exit code is a shell's, 127, or 126 where it cannot be run; one line says why."""
    absent = tideover(server, "lock", "x", "--", "nosuchcmd")
    assert (absent.returncode, absent.stderr) == (127, "tideover: nosuchcmd: No such file or directory\n")
    refused = tideover(server, "lock", "x", "--", "/etc/passwd")
    assert (refused.returncode, refused.stderr) == (126, "tideover: /etc/passwd: Permission denied\n")


def test_a_foreign_key_in_the_line_is_named(server: EtcdServer) -> None:
    """Who waits is told of what will not go by itself, also where it stands behind the one that has the lock.

    What only looks like it, in the line of a longer name, is not named.
    """
    server.etcdctl("put", "/locks/line/1a", "")
    for number in range(4):
        server.etcdctl("put", f"/locks/line/no\x1b[31m{number}", "")
    server.etcdctl("put", "/locks/line/2b", "")
    server.etcdctl("put", "/locks/line/longer/no", "")
    done = tideover(server, "lock", "line", "--timeout", "1.5", "--", "echo", "never")
    waiting, *foreign, more, _ = done.stderr.splitlines()
    assert "held by another client (lease 1a, " in waiting
    assert [line.partition(", at revision ")[0] for line in foreign] == [
        f"tideover: foreign key /locks/line/no\\x1b[31m{number}" for number in range(3)
    ]
    assert all("named after no lease: until it is deleted" in line for line in foreign)
    assert more == "tideover: and 1 more: see `tideover doctor`"


def test_the_command_does_not_find_our_password(server: EtcdServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """What this process logs in with is not the command's; all else in the environment is."""
    monkeypatch.setenv("TIDEOVER_PASSWORD", canary("not-inherited"))
    monkeypatch.setenv("TIDEOVER_PASSWORD_FILE", "/some/file")
    done = tideover(server, "lock", "env", "--", "env")
    assert done.returncode == 0, done.stderr
    assert canary("not-inherited") not in done.stdout
    assert "TIDEOVER_PASSWORD is set and left alone, because TIDEOVER_USER is not set" in done.stderr
    assert "TIDEOVER_PASSWORD_FILE=/some/file" in done.stdout
    assert "TIDEOVER_LOCK_TOKEN=" in done.stdout


def test_status_shows_conflicts(server: EtcdServer) -> None:
    """What processes have published in the ledger is compared, and told with who, how long and when."""
    clock = Clock()
    now, before = clock.stamp(60), clock.stamp(65.5)

    def put(owner: str, began: Stamp, ended: Stamp) -> None:
        hold = Hold(f"{owner}-1", "orders/42", owner, f"{owner}/1", LockMode.LOCAL, 0, began, ended, ended)
        server.etcdctl("put", f"/tideover/ledger/{hold.id}", encode(hold).decode())

    put("a", before, now)
    put("b", before, now)
    done = tideover(server, "status")
    assert "conflict   lock orders/42: held by a/1 and b/1 at the same time, for 5" in done.stdout, done.stdout
    report = json.loads(tideover(server, "status", "--json").stdout)
    assert [conflict["certain"] for conflict in report["lock_conflicts"]] == [True]
