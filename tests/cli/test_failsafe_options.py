"""`tideover lead --on-outage peers`: two processes, a real etcd that is killed."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.canaries import canary
from tideover.testing import EtcdServer

pytestmark = [pytest.mark.etcd, pytest.mark.any_etcd, pytest.mark.takes(30)]

_COMMAND = (sys.executable, "-P", "-m", "tideover.cli")
_SECRET = canary("failsafe-secret")
# Tells what it is, and that it still runs.
_LEAD = """
import os, time
print(os.environ['TIDEOVER_TERM_TOKEN'], flush=True)
while True:
    time.sleep(0.1)
"""


@pytest.fixture
def secret_file(tmp_path: Path) -> Path:
    """A file with the secret in it."""
    path = tmp_path / "secret"
    path.write_text(_SECRET + "\n")
    path.chmod(0o600)
    return path


@contextmanager
def lead(server: EtcdServer, secret_file: Path, *args: str) -> Iterator[subprocess.Popen[str]]:
    """Run a candidate with a ttl of 5 s, and see to it that nothing is left of it."""
    options = ["--ttl", "5", "--on-outage", "peers", "--secret-file", str(secret_file), "--listen", "127.0.0.1:0"]
    line = [*_COMMAND, "lead", "-e", server.endpoint, *options, *args, "reaper", "--", sys.executable, "-c", _LEAD]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        for each in family(process):
            # The command ends with the candidate.
            with suppress(psutil.NoSuchProcess):
                each.kill()
        process.communicate()


def family(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Return a process and what it has started, as far as they run."""
    try:
        parent = psutil.Process(process.pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def until(true: Callable[[], bool], seconds: float) -> None:
    """Wait for something."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.1)


def show(server: EtcdServer) -> dict[str, Any]:
    """Return what the record says."""
    line = [*_COMMAND, "election", "show", "-e", server.endpoint, "reaper", "--json"]
    found: dict[str, Any] = json.loads(subprocess.run(line, capture_output=True, text=True, check=True).stdout)
    return found


def test_the_other_candidate_keeps_a_leader_in_office(secret_file: Path) -> None:
    """etcd is killed: the command runs on, beyond its ttl and with the same token, as long as the other one is
    there; without it the command is ended, and the exit code is 1. Nobody else ever leads."""
    with EtcdServer() as server, lead(server, secret_file) as leader:
        assert leader.stdout is not None
        token = int(leader.stdout.readline())
        with lead(server, secret_file) as other:
            until(lambda: len(show(server)["candidates"]) == 1, 20)
            (command,) = psutil.Process(leader.pid).children()
            server.kill()
            time.sleep(7)
            assert leader.poll() is None
            assert command.is_running()
            server.start()
            until(server.answers, 10)
            before = show(server)["revision"]
            until(lambda: show(server)["revision"] > before, 10)
            assert show(server)["token"] == token
            assert leader.poll() is None
            server.kill()
            for each in family(other):
                each.kill()
            assert leader.wait(10) == 1
            assert not command.is_running()
            assert leader.stderr is not None
            assert "reaper" in leader.stderr.read()
            assert other.stdout is not None
            assert other.stdout.read() == ""


def test_the_secret_is_nowhere_to_be_read(secret_file: Path) -> None:
    """It is in no command line and no environment, neither of the candidate nor of the command it runs."""
    with EtcdServer() as server, lead(server, secret_file) as leader:
        assert leader.stdout is not None
        leader.stdout.readline()
        processes = family(leader)
        assert len(processes) == 2
        for process in processes:
            seen = " ".join([*process.cmdline(), *process.environ().values()])
            assert _SECRET not in seen


def refused(*args: str) -> str:
    """Return what is said about a command line that is wrong."""
    done = subprocess.run(
        [*_COMMAND, "lead", *args, "x", "--", "true"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1
    assert _SECRET not in done.stderr
    return done.stderr


def test_what_does_not_go_together_is_refused(tmp_path: Path, secret_file: Path) -> None:
    """Each wrong combination is told in words, with exit code 2, before anybody is asked."""
    peers = ("--on-outage", "peers")
    assert "give --secret-file FILE" in refused(*peers)
    for option in ("--listen=127.0.0.1:0", "--advertise=a", "--confirm-limit=60", "--alone=stay"):
        name = option.partition("=")[0]
        assert f"{name} says how the other candidates confirm" in refused(option)
    assert "--secret-file says how" in refused("--secret-file", str(secret_file), "--on-outage", "stay")
    given = (*peers, "--secret-file", str(secret_file))
    assert "need a port" in refused(*given, "--listen", "nonsense")
    assert "no address that others could reach" in refused(*given, "--advertise", "0.0.0.0")
    assert "at least 5 seconds" in refused(*given, "--confirm-limit", "1")
    for content, words in (("", "there is no secret in it"), ("short\n", "at least 16 bytes, not 5")):
        (tmp_path / "bad").write_text(content)
        assert words in refused(*peers, "--secret-file", str(tmp_path / "bad"))
    assert "does not exist" in refused(*peers, "--secret-file", str(tmp_path / "nowhere"))


def test_a_port_that_is_taken_is_named(secret_file: Path) -> None:
    """Where another process listens already it is told in one line, with exit code 1."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        options = ("--on-outage", "peers", "--secret-file", str(secret_file), "--listen", address)
        line = [*_COMMAND, "lead", "-e", "127.0.0.1:1", *options, "x", "--", "true"]
        done = subprocess.run(line, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"{address!r}) cannot be listened at" in done.stderr
    assert len(done.stderr.splitlines()) == 1
