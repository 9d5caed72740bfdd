"""Services come back: many processes, three outages, and every one of them is in the registry again.

    nox -s faults -- -k registrations        the long form: 100 processes, three outages

The complaint heard most often about etcd as a registry is that after an outage services are up and nobody finds
them, until somebody restarts them. Here each process registers once and is never touched again.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from tideover.testing import EtcdCluster

pytestmark = [pytest.mark.etcd, pytest.mark.faults]

FIRST = 8000


@dataclass
class Fleet:
    """Processes that register, and what etcd shows of them.

    Attributes:
        cluster: The etcd.
        folder: Where they leave their last words.
        ttl: Seconds, of their leases.
        pids: Number to process.
    """

    cluster: EtcdCluster
    folder: Path
    ttl: int
    pids: dict[int, int] = field(default_factory=dict)

    @contextmanager
    def run(self, first: int, count: int) -> Iterator[dict[int, int]]:
        """Run so many processes; they are killed at the end."""
        command = [sys.executable, "-m", "tests.faults.registrant", str(self.folder), str(self.ttl)]
        command += [str(first), str(count), *self.cluster.endpoints]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
        ) as parent:
            assert parent.stdin is not None
            assert parent.stdout is not None
            try:
                lines = [parent.stdout.readline().split() for _ in range(count)]
                yield {int(number): int(pid) for number, pid in lines}
            finally:
                parent.stdin.close()
                parent.wait(10)

    def found(self) -> dict[int, list[str]] | None:
        """Return the incarnations in etcd by number; None if it cannot be asked."""
        try:
            text = self.cluster.etcdctl("get", "--prefix", "/services/api/", "--keys-only", timeout=3)
        except (RuntimeError, subprocess.SubprocessError, OSError):
            return None
        found: dict[int, list[str]] = {}
        for key in text.split():
            _, instance, incarnation = key.rsplit("/", 2)
            found.setdefault(int(instance.rpartition(":")[2]), []).append(incarnation)
        return found

    def all_there(self, within: float, *, say: str) -> float:
        """Wait until etcd answers, then until everybody is there; return the seconds from the one to the other."""
        asked = time.monotonic()
        while (found := self.found()) is None:
            assert time.monotonic() - asked < 30, "etcd has not come back"
        answered = time.monotonic()
        while found is None or set(found) != set(self.pids):
            missing = len(self.pids) - len(found or ())
            assert time.monotonic() - answered < within, f"{say}: {missing} of {len(self.pids)} are missing"
            found = self.found()
        took = time.monotonic() - answered
        print(f"{say}: {len(self.pids)} processes, all registered {took:.1f} s after etcd answered", flush=True)
        return took

    def stay(self, seconds: float, *, say: str) -> None:
        """Look for a while; nobody may be missing."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            found = self.found()
            assert found is None or set(found) == set(self.pids), (
                f"{say}: {set(self.pids) - set(found)} are missing"
            )
            time.sleep(0.3)


def lose_quorum(fleet: Fleet) -> None:
    """The quorum is killed for longer than the ttl, and started again with its data."""
    fleet.cluster.lose_quorum()
    time.sleep(fleet.ttl + 3)
    fleet.cluster.restore_quorum()
    fleet.all_there(fleet.ttl, say="quorum lost for longer than the ttl")
    # Leases that nobody renews any more would end now.
    fleet.stay(fleet.ttl + 3, say="after the quorum was lost")


def rebuild(fleet: Fleet) -> None:
    """The whole cluster is rebuilt from nothing, on the same addresses and with the same cluster id."""
    before = fleet.found()
    fleet.cluster.kill_all()
    time.sleep(3)
    fleet.cluster.wipe()
    fleet.cluster.start_all()
    fleet.all_there(fleet.ttl, say="rebuilt from nothing")
    assert before is not None
    fleet.stay(fleet.ttl + 3, say="after the rebuild")


def freeze_and_compact(fleet: Fleet) -> None:
    """The leader stands still for longer than the ttl, history is compacted meanwhile, and all are restarted."""
    leader = fleet.cluster.leader()
    leader.pause()
    time.sleep(fleet.ttl + 2)
    other = fleet.cluster.leader()
    revision = other.etcdctl("get", "x", "-w", "fields").split('"Revision" : ')[1].split()[0]
    other.etcdctl("compact", revision)
    # When it wakes up, etcd may revoke leases that are renewed all the time (docs/explanation).
    leader.resume()
    fleet.all_there(fleet.ttl, say="leader frozen, history compacted")
    for member in fleet.cluster.members:
        member.restart(kill=True)
    fleet.all_there(fleet.ttl, say="every member restarted")
    fleet.stay(fleet.ttl + 3, say="after the restarts")


def succeed(fleet: Fleet, stack: ExitStack, number: int) -> None:
    """A process is replaced by another one of the same address; then the old one ends in peace."""
    old = fleet.pids[number]
    (mine,) = (fleet.found() or {})[number]
    fleet.pids |= stack.enter_context(fleet.run(number, 1))
    until = time.monotonic() + 10
    while len((fleet.found() or {}).get(number, ())) < 2:
        assert time.monotonic() < until
    os.kill(old, signal.SIGTERM)
    while mine in (fleet.found() or {number: [mine]}).get(number, ()):
        assert time.monotonic() < until + 10
    fleet.stay(3, say="after its predecessor's end")


def die(fleet: Fleet, number: int) -> None:
    """One process is killed: it is gone after its ttl, and the others stay."""
    os.kill(fleet.pids.pop(number), signal.SIGKILL)
    fleet.all_there(fleet.ttl + 3, say="one killed with -9 and gone")


def measure(fleet: Fleet) -> None:
    """Say what the processes cost."""
    processes = [psutil.Process(pid) for pid in fleet.pids.values()]
    private = sum(p.memory_full_info().uss for p in processes) / 2**20 / len(processes)
    began = sum(sum(p.cpu_times()[:2]) for p in processes)
    time.sleep(3)
    used = (sum(sum(p.cpu_times()[:2]) for p in processes) - began) / 3
    print(f"{len(processes)} processes: {private:.0f} MiB of memory of their own and {used:.2f} cores, idle")


def test_every_service_comes_back(pytestconfig: pytest.Config, tmp_path: Path) -> None:
    """After each outage every process is in the registry within its ttl of etcd's return, and stays there; one
    that was killed is not, and the end of an old process does not take its successor away."""
    long = pytestconfig.getoption("faults_count") >= 200
    count, ttl = (100, 15) if long else (10, 5)
    with EtcdCluster(3) as cluster, ExitStack() as stack:
        fleet = Fleet(cluster, tmp_path, ttl)
        fleet.pids |= stack.enter_context(fleet.run(FIRST, count))
        fleet.all_there(60, say="started")
        if long:
            measure(fleet)
            lose_quorum(fleet)
        rebuild(fleet)
        if long:
            freeze_and_compact(fleet)
        succeed(fleet, stack, FIRST + 1)
        die(fleet, FIRST)
