"""Trials on locks: eight processes, one lock, and faults one after the other.

Two processes on each of four hosts, which count as four machines: each has its own folder for host locks and
ledger.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.history.events import Event
from tests.history.locks import LockFindings, check_locks, real_overlaps
from tests.history.recorder import read_history
from tests.netns.cluster import HostedCluster, HostedPython
from tests.netns.nemesis import MEMBERS, Nemesis
from tests.netns.network import Network
from tideover.locks.hold_document import decode
from tideover.locks.rules.overlaps import Overlap, overlaps

_CLIENT = Path(__file__).with_name("lock_client.py")
_OBSERVER = Path(__file__).with_name("session_observer.py")
CLIENT_HOSTS = ("c1", "c2", "c3", "c4")
OBSERVER_HOST = "o1"
HOSTS = (*MEMBERS, *CLIENT_HOSTS, OBSERVER_HOST)

# Seconds a fault lasts: an election, an outage just declared, and beyond the deadline of a ttl of 6 s.
LENGTHS = (1.0, 4.0, 8.0)
# The longest stretch between two faults, in seconds.
_BREATH = 3.0
# Seconds by which clients record later than things happen.
_RECORDED_WITHIN = 0.1


class LockTrials:
    """Clients and an observer on a cluster, as a context manager.

    Args:
        network: With the hosts of `HOSTS`.
        cluster: On `MEMBERS`.
        folder: For the histories, and for what the clients leave on disk.
        seed: What faults are drawn from.
    """

    def __init__(self, network: Network, cluster: HostedCluster, folder: Path, seed: int) -> None:
        self.network = network
        self.cluster = cluster
        self.folder = folder / "history"
        self.kinds: Counter[str] = Counter()
        # Certain conflicts in the ledger, and pairs of processes that really overlapped and can be relied upon.
        self.compared = (0, 0)
        self._caches = folder / "caches"
        self._seed = seed
        self._random = random.Random(seed)
        self._clients: dict[str, HostedPython] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        nemesis = Nemesis(self.network, self.cluster, self.folder, self._clients, self._random)
        self._nemesis = self._stack.enter_context(nemesis)
        host = self.network.host(OBSERVER_HOST)
        observer = HostedPython(
            host, "observer", _OBSERVER, str(self.folder), "observer", "/locks/", *self.cluster.endpoints
        )
        self._stack.callback(observer.close)
        observer.start()
        for host_name in CLIENT_HOSTS:
            for letter in "ab":
                self._start_client(f"{host_name}-{letter}")
        self._await(lambda: len(self.events("enter")) >= 8, within=30.0, what="eight grants")
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    def run(self, seconds: float) -> None:
        """Make faults for so long."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            kind, fault = self._random.choice(list(self._faults().items()))
            length = self._random.choice(LENGTHS)
            self.kinds[kind] += 1
            with self._nemesis.telling(f"{kind} for {length} s"):
                fault(length)
            time.sleep(self._random.uniform(0.2, _BREATH))
        self.network.heal()
        self.cluster.wait_ready()

    def finish(self) -> None:
        """Let all clients give back what they have, and end."""
        since = time.clock_gettime(time.CLOCK_MONOTONIC)
        self._await(lambda: len(self.events("enter", since=since)) >= 5, within=40.0, what="grants afterwards")
        for client in self._clients.values():
            assert client.running, f"{client!r} ended by itself:\n{client.log()[-3000:]}"
            client.terminate()
        self._await(
            lambda: not any(client.running for client in self._clients.values()),
            within=40.0,
            what="end of the clients",
        )
        for client in self._clients.values():
            assert "Traceback" not in client.log(), client.log()[-3000:]

    def findings(self) -> LockFindings:
        """Check the whole history."""
        return check_locks(read_history(self.folder))

    def events(self, kind: str, *, since: float = 0.0) -> list[Event]:
        """Return what was recorded of a kind."""
        return [event for event in read_history(self.folder) if event.kind == kind and event.at >= since]

    def overdue(self) -> list[Event]:
        """Return waits that ended in the body although they took longer than their timeout."""
        return [event for event in self.events("waited") if event["took"] > event["limit"] + 1.0]

    def ledger(self) -> tuple[list[str], list[str]]:
        """Compare the published ledger with the history.

        Returns:
            The certain conflicts in it that were none, and the real ones that are missing. Processes that were
            killed or paused may not have told, or not in time, and are left out.
        """
        history = read_history(self.folder)
        hampered = {e["victim"] for e in history if e.kind == "died"}
        paused = {e["who"] for e in history if e.kind == "hindered"}
        trusted = {e.pid for e in history if e.kind == "left" and e.process not in paused} - hampered
        values = self.cluster.etcdctl("get", "/tideover/ledger/", "--prefix", "--print-value-only").splitlines()
        holds = [decode(value.encode()) for value in values]
        told: dict[tuple[int, int], list[Overlap]] = {}
        for found in overlaps(holds):
            low, high = sorted(int(hold.where.rpartition(":")[2]) for hold in (found.first, found.second))
            told.setdefault((low, high), []).append(found)
        real = real_overlaps(history)
        self.compared = (
            sum(found.certain for several in told.values() for found in several),
            sum(set(pids) <= trusted for pids in real),
        )
        false = [
            f"{pids}: {found.seconds:.3f} s"
            for pids, several in told.items()
            for found in several
            if found.certain and found.seconds > _RECORDED_WITHIN and pids not in real and set(pids) <= trusted
        ]
        missing = [
            f"{pids}: {seconds:.3f} s"
            for pids, seconds in real.items()
            if seconds > _RECORDED_WITHIN and pids not in told and set(pids) <= trusted
        ]
        return false, missing

    def report(self) -> str:
        """Return the figures in words."""
        found = self.findings()
        failed = Counter(event["why"].partition("(")[0] for event in self.events("failed"))
        lines = [
            f"{sum(self.kinds.values())} faults, grants {dict(found.grants)}, "
            f"{len(found.early)} early_revoke, {len(found.violations)} violations",
            f"    ledger: {self.compared[0]} certain conflicts, {self.compared[1]} pairs that really overlapped",
            *(f"    early_revoke: overlap of {seconds:.3f} s" for seconds, _ in found.early),
            *(f"    {n:4} x {kind}" for kind, n in sorted(self.kinds.items())),
            *(f"    {n:4} failed: {why}" for why, n in failed.most_common()),
        ]
        return "\n".join(lines)

    # Faults ----------------------------------------------------------------------------------------------------

    def _faults(self) -> dict[str, Callable[[float], None]]:
        nemesis = self._nemesis
        leader, follower = nemesis.leader, self._random.choice(nemesis.followers)
        hold, pause, kill = nemesis.hold, nemesis.member_paused, nemesis.member_killed
        host, worker = self._random.choice(CLIENT_HOSTS), self._random.choice(list(self._clients))
        return {
            "worker killed": lambda s: self._kill_client(worker, s),
            "worker paused": lambda s: hold(s, nemesis.clients_paused(worker)),
            "leader killed": lambda s: hold(s, kill(leader)),
            "leader paused": lambda s: hold(s, pause(leader)),
            "follower paused": lambda s: hold(s, pause(follower)),
            "leader cut off": lambda s: hold(s, nemesis.member_cut(leader)),
            "host cut off": lambda s: hold(s, nemesis.host_cut(host)),
            "quorum lost": lambda s: hold(s, pause(leader), pause(follower)),
            "quorum killed": lambda s: hold(s, kill(leader), kill(follower)),
            "leader paused, worker paused": lambda s: hold(s, pause(leader), nemesis.clients_paused(worker)),
        }

    def _kill_client(self, name: str, seconds: float) -> None:
        self._nemesis.kill(name)
        time.sleep(seconds)
        self._clients[name].close()
        self._start_client(name)

    # Around them -----------------------------------------------------------------------------------------------

    def _start_client(self, name: str) -> None:
        host = name.partition("-")[0]
        arguments = (str(self.folder), name, str(self._caches / host), str(self._seed), *self.cluster.endpoints)
        client = HostedPython(self.network.host(host), name, _CLIENT, *arguments)
        self._stack.callback(client.close)
        self._clients[name] = client
        client.start()

    def _await(self, condition: Callable[[], bool], *, within: float, what: str) -> None:
        deadline = time.monotonic() + within
        while not condition():
            if time.monotonic() > deadline:
                tail = "\n".join(map(str, read_history(self.folder)[-40:]))
                logs = "\n".join(client.log()[-1500:] for client in self._clients.values())
                raise AssertionError(f"no {what} within {within} s:\n{tail}\n{logs}")
            time.sleep(0.2)
