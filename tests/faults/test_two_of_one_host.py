"""Two processes of one host take a lock from each other.

nox -s faults -- -k one_host        the long form: 10,000 times
"""

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from tideover.testing import EtcdServer

pytestmark = [pytest.mark.etcd, pytest.mark.faults, pytest.mark.takes(10)]

WORKER = Path(__file__).with_name("two_of_one_host.py")


def test_never_both_inside(etcd_server: EtcdServer, pytestconfig: pytest.Config, tmp_path: Path) -> None:
    """The host lock is tried ahead by both, and each hold has the lock alone; in the long form 10,000 times."""
    times, seconds = (5_000, 600) if pytestconfig.getoption("faults_count") >= 200 else (60, 60)
    command = [sys.executable, str(WORKER), etcd_server.endpoint, str(tmp_path), str(times)]
    with ExitStack() as stack:
        processes = [
            stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True)) for _ in range(2)
        ]
        for process in processes:
            stack.callback(process.kill)
        told = [process.communicate(timeout=seconds)[0] for process in processes]
    assert [int(each) for each in told] == [0, 0]
