"""The command under `tideover lock` and `lead`, and the signals that reach its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tideover.testing import EtcdServer

_COMMAND = (sys.executable, "-P", "-m", "tideover.cli")
_HOST = Path(__file__).with_name("signalled.py")


def test_no_command_is_left_whatever_signal_comes_when() -> None:
    """Each signal that ends a process, twice, at random moments: the command ends too, and the code tells it."""
    done = subprocess.run(
        [sys.executable, "-P", _HOST, "2", "7"], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    *wrong, last = done.stdout.splitlines()
    assert wrong == []
    assert last.startswith("sent: ")
    assert not last.endswith("commands: 0"), "nothing was tried"


@contextmanager
def running(server: EtcdServer, *args: str) -> Iterator[subprocess.Popen[str]]:
    """Run a command until it has said a line."""
    with subprocess.Popen(
        [*_COMMAND, args[0], "-e", server.endpoint, *args[1:]], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "on\n"
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.etcd
@pytest.mark.any_etcd
def test_signals_are_passed_on(server: EtcdServer) -> None:
    """What the command makes of USR1 and QUIT is its own affair; its code is ours, and then the lock is free."""
    script = "trap 'echo usr1' USR1; trap 'exit 9' QUIT; echo on; while :; do sleep 0.05; done"
    with running(server, "lock", "passed", "--", "sh", "-c", script) as process:
        assert process.stdout is not None
        process.send_signal(signal.SIGUSR1)
        assert process.stdout.readline() == "usr1\n"
        assert server.etcdctl("get", "/locks/passed/", "--prefix", "--keys-only").strip() != ""
        process.send_signal(signal.SIGQUIT)
        assert process.wait(timeout=20) == 9
        assert server.etcdctl("get", "/locks/passed/", "--prefix", "--keys-only").strip() == ""


@pytest.mark.etcd
@pytest.mark.any_etcd
def test_who_is_told_to_end_while_waiting_leaves_the_line(server: EtcdServer) -> None:
    """SIGTERM before the lock is held: the code tells it, no command is run, and nobody waits for the lease."""
    with running(server, "lock", "line", "--", "sh", "-c", "echo on; exec sleep 60"):
        second = subprocess.Popen([*_COMMAND, "lock", "-e", server.endpoint, "line", "--", "false"])
        keys = ""
        while keys.count("/locks/line/") < 2:
            keys = server.etcdctl("get", "/locks/line/", "--prefix", "--keys-only")
        second.send_signal(signal.SIGTERM)
        assert second.wait(timeout=20) == 128 + signal.SIGTERM
        assert server.etcdctl("get", "/locks/line/", "--prefix", "--keys-only").count("/locks/line/") == 1


@pytest.mark.etcd
@pytest.mark.any_etcd
@pytest.mark.skipif(
    sys.platform != "linux", reason="no other kernel has a parent-death signal that Python can ask for"
)
@pytest.mark.parametrize(("option", "ends"), [("kill", True), ("term", True), ("leave", False)])
def test_what_becomes_of_the_command_is_for_the_user_to_say(server: EtcdServer, option: str, ends: bool) -> None:
    """A killed tideover takes its command along, unless it is told to leave it running."""
    script = "echo on; read -r _ || echo ended; exit 0"
    read, write = os.pipe()
    os.set_inheritable(read, True)
    with subprocess.Popen(
        [*_COMMAND, "lead", "-e", server.endpoint, option, "--if-killed", option, "--", "sh", "-c", script],
        stdin=read,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        os.close(read)
        assert process.stdout is not None
        assert process.stdout.readline() == "on\n"
        process.kill()
        process.wait()
        time.sleep(0.2)  # for the kernel, on a busy machine
        os.close(write)
        # A process that is left has lost its input now and says so.
        assert process.stdout.read() == ("" if ends else "ended\n")
