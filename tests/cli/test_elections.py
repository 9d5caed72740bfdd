"""`tideover election` and `tideover lead`."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tideover.testing import EtcdServer

pytestmark = [pytest.mark.etcd, pytest.mark.any_etcd]

_COMMAND = (sys.executable, "-P", "-m", "tideover.cli")
_LEAD = "import os, signal, time; print(os.environ['TIDEOVER_TERM_TOKEN'], flush=True)\n"


def tideover(server: EtcdServer, *args: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command; the endpoint goes before `--`."""
    at = args.index("--") if "--" in args else len(args)
    line = [*_COMMAND, *args[:at], "-e", server.endpoint, *args[at:]]
    options = {"stdin": subprocess.DEVNULL, **options}
    return subprocess.run(line, capture_output=True, text=True, timeout=60, check=False, **options)


def start(server: EtcdServer, *args: str, script: str) -> subprocess.Popen[str]:
    """Start `tideover lead` with a Python script; return when that runs, that is, when it leads."""
    line = [*_COMMAND, "lead", "-e", server.endpoint, *args, "--", sys.executable, "-c", _LEAD + script]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert int(process.stdout.readline()) > 0
    return process


def wait_for(file: Path) -> None:
    """Wait until a command says by a file how far it is."""
    until = time.monotonic() + 10
    while not file.exists():
        assert time.monotonic() < until
        time.sleep(0.05)


def show(server: EtcdServer, name: str) -> dict[str, Any]:
    """Return what the record says."""
    found: dict[str, Any] = json.loads(tideover(server, "election", "show", name, "--json").stdout)
    return found


def test_a_command_leads(server: EtcdServer) -> None:
    """It has token and epoch, others see it, its exit code is ours, and the next one leads at once."""
    script = "import os; print(os.environ['TIDEOVER_TERM_TOKEN'], os.environ['TIDEOVER_TERM_EPOCH']); exit(7)"
    done = tideover(server, "lead", "a", "--", sys.executable, "-c", script)
    assert done.returncode == 7, done.stderr
    first, _ = map(int, done.stdout.split())
    assert show(server, "a")["state"] == "vacant"
    with start(server, "a", "--value", "v1", "--address", "http://x", script="time.sleep(60)") as process:
        found = show(server, "a")
        assert (found["state"], found["vacant"]) == ("led", False)
        assert (found["value"], found["address"]) == ("v1", "http://x")
        assert (found["policy"], found["ttl"], found["term"], found["source"]) == ("step_down", 15, 2, "quorum")
        assert found["token"] > first
        done = tideover(server, "lead", "a", "--timeout", "0.5", "--", "echo", "never")
        assert (done.returncode, done.stdout) == (1, "")
        assert "not elected within 0.5 s" in done.stderr
        done = tideover(server, "lead", "a", "--on-outage", "stay", "--", "echo", "never")
        assert done.returncode == 5
        assert "step_down" in done.stderr
        process.terminate()
    assert process.returncode == 128 + signal.SIGTERM


def test_signals_reach_the_command(server: EtcdServer, tmp_path: Path) -> None:
    """SIGTERM is passed on; the command ends in its own time, leading; its exit code is ours."""
    ready, heard, enough = (tmp_path / name for name in ("ready", "heard", "enough"))
    script = (
        "import pathlib\n"
        "def tidy(*_):\n"
        f"    pathlib.Path({str(heard)!r}).touch()\n"
        f"    while not pathlib.Path({str(enough)!r}).exists(): time.sleep(0.05)\n"
        "    print('tidied'); exit(3)\n"
        "signal.signal(15, tidy)\n"
        f"pathlib.Path({str(ready)!r}).touch()\ntime.sleep(60)"
    )
    with start(server, "s", script=script) as process:
        wait_for(ready)
        process.terminate()
        wait_for(heard)
        time.sleep(3)
        assert show(server, "s")["state"] == "led"
        enough.touch()
        assert process.wait(10) == 3
        assert process.stdout is not None
        assert process.stdout.read() == "tidied\n"
    assert show(server, "s")["state"] == "vacant"


def test_a_lost_leadership_ends_the_command(server: EtcdServer) -> None:
    """The record is taken over: a command that ignores SIGTERM is killed after the margin; the exit code is 1."""
    script = "signal.signal(15, signal.SIG_IGN)\ntime.sleep(60)"
    with start(server, "l", "--ttl", "5", script=script) as process:
        began = time.monotonic()
        server.etcdctl("del", "/elections/l")
        assert process.wait(20) == 1
        assert time.monotonic() - began < 2
        assert process.stderr is not None
        assert "its record was deleted" in process.stderr.read()


def test_showing(server: EtcdServer) -> None:
    """In words, with exit codes: 0 a record, 5 none, 1 one that cannot be read, 2 no name."""
    assert tideover(server, "lead", "w", "--", "true").returncode == 0
    done = tideover(server, "election", "show", "w")
    assert done.returncode == 0
    assert "state      vacant" in done.stdout
    assert "policy     step_down" in done.stdout
    done = tideover(server, "election", "show", "nothing")
    assert (done.returncode, done.stdout) == (5, "election   nothing\nstate      none\n")
    server.etcdctl("put", "/elections/corrupt", "{}")
    done = tideover(server, "election", "show", "corrupt")
    assert done.returncode == 1
    assert "tideover election reset" in done.stdout
    assert tideover(server, "election", "show", "a//b").returncode == 2


def test_what_stands_in_etcd_gives_a_terminal_no_orders(server: EtcdServer) -> None:
    """Controls in a record are escaped and cut in words, whole in JSON, and never a traceback."""
    evil = "\x1b[31mred\n" + "x" * 500
    needed = {"needs": 1, "holder": evil, "term": 1, "policy": evil, "ttl": 5, "write": "w"}
    held_by = {"holder": evil, "name": evil, "since": evil}
    record = {**needed, "address": evil, "value": evil, "candidates": [evil], "held_by": held_by}
    server.etcdctl("put", "/elections/evil", json.dumps(record))
    done = tideover(server, "election", "show", "evil")
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 11
    for line in done.stdout.splitlines():
        assert line.isprintable()
        assert len(line) < 450
    assert done.stdout.count(r"\x1b[31mred\nxxx") == 7
    assert show(server, "evil")["value"] == evil
    server.etcdctl("put", "/elections/evil", json.dumps({**record, "ttl": evil}))
    done = tideover(server, "election", "show", "evil")
    assert (done.returncode, done.stderr) == (1, "")
    assert all(line.isprintable() for line in done.stdout.splitlines())


def test_who_is_not_elected_hears_who_leads(server: EtcdServer) -> None:
    """`lead --timeout` names the leader and since when; `show` does, too."""
    with start(server, "n", script="time.sleep(60)") as process:
        done = tideover(server, "lead", "n", "--timeout", "2", "--", "true")
        name = rf"{socket.gethostname()}:{process.pid} since \d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\dZ"
        assert done.returncode == 1
        assert re.search(f"not elected within 2 s: {name} leads", done.stderr)
        assert re.search(f"held by    {name}", tideover(server, "election", "show", "n").stdout)
        process.terminate()


def test_reset(server: EtcdServer) -> None:
    """A record is taken away if somebody at a terminal says yes: the token grows, another policy is possible."""
    assert tideover(server, "lead", "r", "--ttl", "5", "--", "true").returncode == 0
    before = show(server, "r")
    assert tideover(server, "election", "reset", "r").returncode == 2, "without a terminal it needs --yes"
    for answer, code, state in ((b"n\n", 1, "vacant"), (b"y\n", 0, "none")):
        terminal, stdin = pty.openpty()
        os.write(terminal, answer)
        done = tideover(server, "election", "reset", "r", stdin=stdin)
        os.close(terminal)
        os.close(stdin)
        assert done.returncode == code, done.stderr
        assert show(server, "r")["state"] == state
    assert "after 6 s" in done.stderr
    assert show(server, "r")["token"] > before["token"]
    done = tideover(server, "lead", "r", "--ttl", "5", "--on-outage", "stay", "--timeout", "1", "--", "true")
    assert (done.returncode, "not elected" in done.stderr) == (1, True)
    assert tideover(server, "election", "reset", "never", "--yes").returncode == 5


def test_a_record_of_peers(server: EtcdServer) -> None:
    """Whether its holder is in office is shown; after a reset the wait is said for whom its peers may confirm."""
    record = {"needs": 1, "holder": "abc", "term": 3, "policy": "peers", "ttl": 5.0, "write": "x", "vacant": False}
    record |= {"candidates": ["def@10.0.0.8:7000"], "address": "", "value": "", "peer": "10.0.0.7:7000"}
    server.etcdctl("put", "/elections/p", json.dumps({**record, "limit": 60.0, "entered": False}))
    done = tideover(server, "election", "show", "p")
    assert "holder     abc (does not lead yet)" in done.stdout
    assert "candidates def@10.0.0.8:7000" in done.stdout
    found = show(server, "p")
    assert (found["entered"], found["confirm_limit"]) == (False, 60.0)
    done = tideover(server, "election", "reset", "p", "--yes")
    assert done.returncode == 0, done.stderr
    assert "with the same policy after 72 s" in done.stderr


def test_reset_of_what_is_led(server: EtcdServer) -> None:
    """A leader that renews is seen and left alone; with --force it loses its office, and its command ends."""
    with start(server, "f", "--ttl", "5", script="time.sleep(60)") as process:
        done = tideover(server, "election", "reset", "f", "--yes")
        assert done.returncode == 1
        assert "just renewed it" in done.stderr
        assert show(server, "f")["state"] == "led"
        done = tideover(server, "election", "reset", "f", "--yes", "--force")
        assert done.returncode == 0, done.stderr
        assert "which loses it now" in done.stderr
        assert process.wait(10) == 1


def test_reset_of_a_corrupt_record(server: EtcdServer) -> None:
    """What cannot be read is taken away, if nobody renews it in the time of a usual ttl."""
    server.etcdctl("put", "/elections/c", "{}")
    done = tideover(server, "election", "reset", "c", "--yes")
    assert done.returncode == 0, done.stderr
    assert "6.5 s whether a leader renews it" in done.stderr
    assert show(server, "c")["state"] == "none"
