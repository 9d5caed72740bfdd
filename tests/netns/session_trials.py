"""Trials on sessions: processes that hold them, an observer, and faults one after the other.

One trial is one session that was open when a fault began. Sessions of 6 and of 15 s are held by six processes on
three hosts, two of which begin at each member, so that every fault meets leader, member in use and bystander.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.history.events import Event
from tests.history.recorder import read_history
from tests.history.sessions import SessionFindings, check_sessions
from tests.netns.cluster import HostedCluster, HostedPython
from tests.netns.nemesis import MEMBERS, Nemesis
from tests.netns.network import Network

_CLIENT = Path(__file__).with_name("session_client.py")
_OBSERVER = Path(__file__).with_name("session_observer.py")
CLIENT_HOSTS = ("c1", "c2", "c3")
OBSERVER_HOST = "o1"
HOSTS = (*MEMBERS, *CLIENT_HOSTS, OBSERVER_HOST)

# Seconds a fault lasts: within a renewal, around the deadlines of 6 s and of 15 s, and beyond every TTL.
LENGTHS = (1.5, 4.0, 7.0, 9.0, 13.0, 17.0)
# The most dangerous one comes first: a leader that wakes up when a lease of 6 s has just expired on its clock.
FIRST = ("leader paused", 7.0)
# Seconds after a fault until all sessions are settled again.
_SETTLE = 3.0


class Trials:
    """Clients and an observer on a cluster, as a context manager.

    Args:
        network: With the hosts of `HOSTS`.
        cluster: On `MEMBERS`.
        folder: For the histories.
        seed: What faults are drawn from.
    """

    def __init__(self, network: Network, cluster: HostedCluster, folder: Path, seed: int) -> None:
        self.network = network
        self.cluster = cluster
        self.folder = folder
        self.count = 0
        self.kinds: Counter[str] = Counter()
        self._random = random.Random(seed)
        self._clients: dict[str, HostedPython] = {}
        self._starts: Counter[str] = Counter()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        nemesis = Nemesis(self.network, self.cluster, self.folder, self._clients, self._random)
        self._nemesis = self._stack.enter_context(nemesis)
        observer = HostedPython(
            self.network.host(OBSERVER_HOST),
            "observer",
            _OBSERVER,
            str(self.folder),
            "observer",
            "/trial/",
            *self.cluster.endpoints,
        )
        self._stack.callback(observer.close)
        observer.start()
        for number, host in enumerate([*CLIENT_HOSTS, *CLIENT_HOSTS]):
            self._start_client(f"{host}-{'ab'[number // 3]}")
        self._await(lambda: len(self._open()) == 2 * len(self._clients), within=20.0, what="open sessions")
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    def run(self, count: int) -> None:
        """Make faults until so many trials are done."""
        while self.count < count:
            faults = self._faults()
            kind = self._random.choice(list(faults)) if self.count else FIRST[0]
            length = self._random.choice(LENGTHS) if self.count else FIRST[1]
            open_before = len(self._open())
            with self._nemesis.telling(f"{kind} for {length} s"):
                faults[kind](length)
            self._mend()
            self.count += open_before
            self.kinds[kind] += open_before

    def findings(self) -> SessionFindings:
        """Check the whole history."""
        return check_sessions(read_history(self.folder))

    def report(self) -> str:
        """Return the figures in words."""
        found = self.findings()
        lost = Counter(
            event["why"].partition(":")[0] for event in read_history(self.folder) if event.kind == "session_lost"
        )
        lines = [
            f"{self.count} trials, {found.sessions} sessions, {found.ended} keys ended by etcd, "
            f"least time after the deadline {found.smallest:.3f} s, "
            f"{len(found.early)} early_revoke, {len(found.violations)} violations",
            *(f"    early_revoke {e.early:.3f} s early, noticed after {e.notice:.3f} s" for e in found.early),
            *(f"    {n:4} x {kind}" for kind, n in sorted(self.kinds.items())),
            *(f"    {n:4} lost: {why}" for why, n in lost.most_common()),
        ]
        return "\n".join(lines)

    # Faults ----------------------------------------------------------------------------------------------------

    def _faults(self) -> dict[str, Callable[[float], None]]:
        nemesis = self._nemesis
        leader, follower = nemesis.leader, self._random.choice(nemesis.followers)
        host = self._random.choice(CLIENT_HOSTS)
        hold, pause, kill, cut = nemesis.hold, nemesis.member_paused, nemesis.member_killed, nemesis.member_cut
        isolate, sever = nemesis.host_cut, nemesis.host_severed

        def stop(host: str) -> AbstractContextManager[None]:
            return nemesis.clients_paused(*nemesis.on(host))

        return {
            "leader killed": lambda s: hold(s, kill(leader)),
            "leader paused": lambda s: hold(s, pause(leader)),
            "leader cut off": lambda s: hold(s, cut(leader)),
            "follower killed": lambda s: hold(s, kill(follower)),
            "follower paused": lambda s: hold(s, pause(follower)),
            "follower cut off": lambda s: hold(s, cut(follower)),
            "clients paused": lambda s: hold(s, stop(host)),
            "client killed": lambda s: self._kill_client(f"{host}-a", s),
            "client cut off": lambda s: hold(s, isolate(host)),
            "client cut off from one member": lambda s: hold(s, sever(host, follower)),
            "leader paused, then clients paused": lambda s: hold(s, pause(leader), stop(host)),
            "leader paused, clients cut off from one member": lambda s: hold(
                s, pause(leader), sever(host, follower)
            ),
            "leader killed, client cut off": lambda s: hold(s, kill(leader), isolate(host)),
            "leader cut off, clients paused": lambda s: hold(s, cut(leader), stop(host)),
            "no quorum": lambda s: hold(s, pause(leader), pause(follower)),
        }

    def _kill_client(self, name: str, seconds: float) -> None:
        self._nemesis.kill(name)
        time.sleep(seconds)
        self._clients[name].close()
        self._start_client(name)

    # Around them -----------------------------------------------------------------------------------------------

    def _start_client(self, name: str) -> None:
        host = name.partition("-")[0]
        self._starts[name] += 1
        order = [self.cluster.on(member).endpoint for member in MEMBERS]
        using = order[(CLIENT_HOSTS.index(host) + self._starts[name] - 1) % len(order)]
        client = HostedPython(
            self.network.host(host), name, _CLIENT, str(self.folder), name, "6,15", using, *order
        )
        self._stack.callback(client.close)
        self._clients[name] = client
        client.start()

    def _mend(self) -> None:
        self.network.heal()
        self.cluster.wait_ready()
        time.sleep(_SETTLE)
        self._await(lambda: len(self._open()) == 2 * len(self._clients), within=60.0, what="open sessions")
        for client in self._clients.values():
            assert client.running, f"{client!r} ended by itself:\n{client.log()}"

    def _open(self) -> list[Event]:
        """Return the sessions of running clients that are neither lost nor closed."""
        pids = {client.pid for client in self._clients.values()}
        opened: dict[str, Event] = {}
        for event in read_history(self.folder):
            if event.kind == "session_opened" and event.pid in pids:
                opened[event["session"]] = event
            elif event.kind == "session_lost":
                opened.pop(event["session"], None)
        return list(opened.values())

    def _await(self, condition: Callable[[], bool], *, within: float, what: str) -> None:
        deadline = time.monotonic() + within
        while not condition():
            if time.monotonic() > deadline:
                tail = [e for e in read_history(self.folder) if e.kind != "session_believed"][-60:]
                raise AssertionError(f"no {what} within {within} s:\n" + "\n".join(map(str, tail)))
            time.sleep(0.1)
