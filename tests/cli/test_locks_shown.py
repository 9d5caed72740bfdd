"""`tideover lock list`, `lock show` and `election list`, with tideover's own holders and etcdctl's."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tideover.cli.app import run
from tideover.testing import EtcdServer
from tideover.testing.etcd import find_etcdctl

pytestmark = [pytest.mark.etcd, pytest.mark.any_etcd]

Tideover = Callable[..., tuple[int, str, str]]


@pytest.fixture
def tideover(server: EtcdServer, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Tideover:
    """Run a command; return its exit code, output and complaints."""
    monkeypatch.setenv("TIDEOVER_ENDPOINTS", server.endpoint)

    def command(*args: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = run(args)
        return code, *capsys.readouterr()

    return command


@contextmanager
def running(server: EtcdServer, *command: str, until: Callable[[], bool]) -> Iterator[subprocess.Popen[bytes]]:
    """Run something in the background until the block is left; entering waits until it is that far."""
    environment = {**os.environ, "TIDEOVER_ENDPOINTS": server.endpoint, "ETCDCTL_ENDPOINTS": server.endpoint}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 20
        while not until():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield process
    finally:
        process.terminate()
        process.wait(20)


def keys(server: EtcdServer, lock: str) -> int:
    """Count the keys in a line."""
    return len(server.etcdctl("get", f"/locks/{lock}/", "--prefix", "--keys-only").split())


def shown(tideover: Tideover, lock: str) -> dict[str, Any]:
    """Return what `lock show --json` says."""
    found: dict[str, Any] = json.loads(tideover("lock", "show", lock, "--json")[1])
    return found


def test_a_line_of_clients_of_every_kind(server: EtcdServer, tideover: Tideover) -> None:
    """tideover's holder has a name; etcdctl, which is Go's client, is known by its lease."""
    own = (sys.executable, "-P", "-m", "tideover", "lock", "deploy", "--", "sleep", "60")
    foreign = (str(find_etcdctl()), "lock", "/locks/deploy", "--ttl", "60")
    with (
        running(server, *own, until=lambda: keys(server, "deploy") == 1) as holder,
        running(server, *foreign, until=lambda: keys(server, "deploy") == 2),
    ):
        found = shown(tideover, "deploy")
        assert found["holder"].endswith(f":{holder.pid}")
        assert (found["state"], found["waiting"], found["granted"], found["source"]) == ("held", 1, 15, "quorum")
        assert found["token"] == found["revision"] << 16
        (waits,) = found["queue"]
        assert (waits["holder"], waits["since"], waits["granted"]) == (None, None, 60)
        assert waits["revision"] > found["revision"]
        assert 50 <= waits["ttl"] <= 60
        code, out, err = tideover("lock", "show", "deploy")
        assert (code, err) == (0, "")
        assert f":{holder.pid}\n" in out
        assert f"another client, lease {waits['lease']}" in out
        assert f"{waits['lease']}  {waits['ttl']} s left of 60 s" in out or "s left of 60 s" in out
        code, out, _ = tideover("lock", "list")
        titles, line = out.splitlines()
        assert (code, titles.split()) == (0, ["LOCK", "STATE", "HELD", "BY", "SINCE", "TOKEN", "WAITING"])
        assert line.split()[:2] + line.split()[-2:] == ["deploy", "held", str(found["token"]), "1"]
    deadline = time.monotonic() + 10
    while keys(server, "deploy"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert tideover("lock", "list") == (0, "no locks\n", "")


def test_a_foreign_client_holds(server: EtcdServer, tideover: Tideover) -> None:
    """No record under the key: it is said to be another client, with its lease and what is left of that."""
    foreign = (str(find_etcdctl()), "lock", "/locks/a/b")
    with running(server, *foreign, until=lambda: keys(server, "a/b") == 1):
        code, out, _ = tideover("lock", "show", "a/b")
        found = shown(tideover, "a/b")
        lines = dict(line.split(maxsplit=1) for line in out.replace("held by", "held_by").splitlines())
        assert (code, lines["held_by"]) == (0, f"another client, lease {found['lease']}")
        assert lines["since"] == f"revision {found['revision']}"
        assert lines["lease"].endswith(" s left of 10 s")
        (listed,) = [json.loads(line) for line in tideover("lock", "list", "--json")[1].splitlines()]
        assert (listed["lock"], listed["holder"], listed["lease"]) == ("a/b", None, found["lease"])


def test_nobody_has_it(server: EtcdServer, tideover: Tideover) -> None:
    """5 for a lock without a line; 1 for one that a key blocks which is nobody's; 2 for what is no name."""
    assert tideover("lock", "show", "free")[:2] == (5, "lock     free\nstate    free\n")
    assert shown(tideover, "free")["state"] == "free"
    assert list(shown(tideover, "free")) == list(shown(tideover, "free2"))
    server.etcdctl("put", "/locks/blocked/no\x1b[31m", "")
    code, out, _ = tideover("lock", "show", "blocked")
    assert code == 1
    assert "no holder: the oldest key of the line is 'no\\x1b[31m', named after no lease" in out
    assert shown(tideover, "blocked").keys() == shown(tideover, "free").keys()
    server.etcdctl("del", "/locks/blocked/", "--prefix")
    assert tideover("lock", "show", "a/")[0] == 2
    assert tideover("lock", "show")[0] == 2


def test_a_lock_may_be_called_as_a_command_is(tideover: Tideover) -> None:
    """With a `--` the words `list` and `show` are locks, as they were before there were such commands."""
    for word in ("list", "show"):
        assert tideover("lock", word, "--", "sh", "-c", 'test -n "$TIDEOVER_LOCK_TOKEN"')[0] == 0


def test_elections_are_listed(server: EtcdServer, tideover: Tideover) -> None:
    """Who leads each, in a table and in JSON as `election show` has it; one that cannot be read is 1."""
    assert tideover("election", "list") == (0, "no elections\n", "")
    lead = (sys.executable, "-P", "-m", "tideover", "lead", "reaper", "--", "sleep", "60")
    with running(server, *lead, until=lambda: bool(server.etcdctl("get", "/elections/reaper/token"))) as leader:
        code, out, _ = tideover("election", "list")
        titles, line = out.splitlines()
        assert (code, titles.split()) == (0, ["ELECTION", "STATE", "HELD", "BY", "SINCE", "POLICY", "TOKEN"])
        assert (line.split()[:2], f":{leader.pid} " in line, line.split()[4]) == (
            ["reaper", "led"],
            True,
            "step_down",
        )
        alone = json.loads(tideover("election", "show", "reaper", "--json")[1])
        (listed,) = [json.loads(line) for line in tideover("election", "list", "--json")[1].splitlines()]
        renewed = {"revision"}
        assert listed.keys() == alone.keys()
        assert {name: value for name, value in listed.items() if name not in renewed} == {
            name: value for name, value in alone.items() if name not in renewed
        }
    server.etcdctl("put", "/elections/odd\n", "{}")
    code, out, _ = tideover("election", "list")
    assert (code, len(out.splitlines())) == (1, 3)
    assert "odd\\n" in out
