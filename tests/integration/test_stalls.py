"""A blocked event loop beyond a leader's deadline, in real processes and real time."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tideover.testing import EtcdServer

pytestmark = [pytest.mark.etcd, pytest.mark.any_etcd]

SCRIPT = Path(__file__).with_name("stalling.py")
LEADING = Path(__file__).with_name("leading.py")
TTL, MARGIN = 5.0, 1.0


@pytest.fixture(scope="module")
def server() -> Iterator[EtcdServer]:
    """One etcd for all."""
    with EtcdServer() as server:
        yield server


def start(script: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start a process that says things."""
    process = subprocess.Popen(
        [sys.executable, str(script), *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    # Whatever it does not say: nobody waits for it for ever.
    timer = threading.Timer(60, process.kill)
    timer.daemon = True
    timer.start()
    return process


def said(process: subprocess.Popen[str], what: str) -> dict[str, Any]:
    """Read on until something is said."""
    assert process.stdout is not None
    for line in process.stdout:
        found: dict[str, Any] = json.loads(line)
        if found["what"] == what:
            return found
    raise AssertionError(f"never said {what}")


def test_a_blocked_loop_is_reported(server: EtcdServer) -> None:
    """Within a second of the deadline, with the blocking line; a thread is there only while something is led."""
    with start(SCRIPT, "report", str(TTL), "report", "6", server.endpoint) as process:
        assert "tideover-watchdog" not in said(process, "ready")["threads"]
        leads = said(process, "leads")
        stall = said(process, "stall")
        assert 0.4 < stall["at"] - leads["deadline"] < 1.0
        assert "in block\n    time.sleep(seconds)" in stall["text"]
        assert "in time" in said(process, "lost")["why"]
        assert (found := said(process, "status"))["stalls"] == 1
        assert found["last"] == "report"
        assert "tideover-watchdog" in said(process, "awake")["threads"]
        assert "tideover-watchdog" not in said(process, "closed")["threads"]
        assert process.wait(10) == 0


def test_a_blocked_loop_ends_its_process(server: EtcdServer) -> None:
    """With "abort" the process is dead, with its stack on stderr, before the other candidate leads."""
    with start(SCRIPT, "abort", str(TTL), "abort", "30", server.endpoint) as process:
        leads = said(process, "leads")
        with start(LEADING, "abort", str(TTL), "step_down", server.endpoint) as other:
            assert process.wait(15) == -signal.SIGABRT
            died = time.monotonic()
            assert 0.4 < died - leads["deadline"] < 1.2
            assert process.stderr is not None
            last_words = process.stderr.read()
            assert "on_stall='abort'" in last_words
            assert "in block\n    time.sleep(seconds)" in last_words
            assert said(other, "leads")["at"] > died
            assert time.monotonic() - leads["deadline"] < 2 * MARGIN + 2
            other.kill()


def test_a_stopped_process_is_no_stall(server: EtcdServer) -> None:
    """A process that was stopped beyond its deadline, and wakes up, has no blocked loop."""
    with start(SCRIPT, "stopped", str(TTL), "abort", "0", server.endpoint) as process:
        leads = said(process, "leads")
        process.send_signal(signal.SIGSTOP)
        time.sleep(leads["deadline"] - time.monotonic() + 0.5)
        process.send_signal(signal.SIGCONT)
        assert said(process, "lost")
        assert said(process, "status")["stalls"] == 0
        assert said(process, "closed")
        assert process.wait(10) == 0
