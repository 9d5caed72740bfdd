"""The policy "peers" with real processes, a real cluster of three members, and real time."""

from __future__ import annotations

import json
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tideover.testing import EtcdCluster, EtcdServer

pytestmark = [pytest.mark.etcd, pytest.mark.any_etcd]

SCRIPT = Path(__file__).with_name("peers_worker.py")
TTL = 5.0
MARGIN = 1.0


class Candidate:
    """A process that runs `peers_worker.py`."""

    def __init__(self, *endpoints: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(SCRIPT), "reaper", str(TTL), *endpoints], stdout=subprocess.PIPE, text=True
        )
        self.said: list[dict[str, Any]] = []
        self._lines: queue.Queue[dict[str, Any]] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(json.loads(line))

    def next(self, what: str, within: float) -> dict[str, Any]:
        """Return the next line, which must be of that kind."""
        found = self._lines.get(timeout=within)
        self.said.append(found)
        assert found["what"] == what, found
        return found

    @property
    def silent(self) -> bool:
        """Whether it has said nothing more."""
        return self._lines.empty()

    def end(self, number: int) -> None:
        """Send a signal, and wait until it has ended."""
        self.process.send_signal(number)
        self.process.wait(10)


@contextmanager
def candidates(cluster: EtcdCluster | EtcdServer, count: int) -> Iterator[Callable[[], Candidate]]:
    """Return what starts candidates; they end with the block."""
    endpoints = cluster.endpoints if isinstance(cluster, EtcdCluster) else [cluster.endpoint]
    with ExitStack() as stack:

        def start() -> Candidate:
            one = Candidate(*endpoints)

            def stop() -> None:
                one.process.kill()
                one.process.wait()
                assert one.process.stdout is not None
                one.process.stdout.close()

            stack.callback(stop)
            one.next("ready", 20)
            return one

        yield start


def listed(cluster: EtcdCluster | EtcdServer, count: int, within: float = 10) -> dict[str, Any]:
    """Wait until the record lists so many candidates."""
    until = time.monotonic() + within
    while True:
        raw = cluster.etcdctl("get", "--print-value-only", "/elections/reaper")
        record: dict[str, Any] = json.loads(raw) if raw.strip() else {}
        if len(record.get("candidates", ())) == count or time.monotonic() > until:
            assert len(record.get("candidates", ())) == count, record
            return record
        time.sleep(0.1)


def test_a_lost_quorum() -> None:
    """Without a quorum for three ttls the leader leads on, CONFIRMED; a candidate's proper end costs nothing.

    A candidate that is killed then ends it by the deadline, and nobody leads until the quorum is back: then the
    same leader, with the same token.
    """
    with EtcdCluster(3) as cluster, candidates(cluster, 3) as start:
        one = start()
        first = one.next("held", 10)
        two, three = start(), start()
        listed(cluster, 2)
        cluster.lose_quorum()
        confirmed = one.next("confirmed", TTL + 2)
        assert confirmed["token"] == first["token"]
        time.sleep(TTL)
        three.end(signal.SIGTERM)
        three.next("ended", 1)
        time.sleep(TTL + 1)
        assert one.silent
        assert two.silent
        two.end(signal.SIGKILL)
        killed = time.monotonic()
        assert one.next("lost", TTL + 1)["at"] - killed < TTL - MARGIN + 0.5
        four = start()
        time.sleep(TTL)
        assert one.silent
        assert four.silent
        cluster.restore_quorum()
        again = one.next("held", 10)
        assert again["token"] == first["token"]
        listed(cluster, 1)


def test_failover() -> None:
    """A leader that is killed is replaced within two ttls and 2 s, one that ends properly within milliseconds."""
    with EtcdServer() as server, candidates(server, 3) as start:
        one = start()
        first = one.next("held", 10)
        two = start()
        listed(server, 1)
        three = start()
        listed(server, 2)
        one.end(signal.SIGTERM)
        ended = time.monotonic()
        while two.silent and three.silent:
            assert time.monotonic() - ended < 2
            time.sleep(0.005)
        leader, other = (three, two) if two.silent else (two, three)
        second = leader.next("held", 1)
        assert second["at"] - ended < 0.2
        assert second["token"] > first["token"]
        listed(server, 1)
        leader.end(signal.SIGKILL)
        killed = time.monotonic()
        third = other.next("held", 2 * TTL + 2)
        assert TTL - TTL / 3 - 0.5 < third["at"] - killed < TTL + MARGIN + 2
        assert third["token"] > second["token"]
