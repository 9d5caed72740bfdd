"""Trials on leadership: five processes, two of them workers of one server, one election per policy, and faults.

Whoever adds a policy gives it to `LeaderTrials` and to `leader_client.py`, whose elections are called after them.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from tests.history.events import Event
from tests.history.leaders import LeaderFindings, check_leaders, leading
from tests.history.recorder import machine_clock, read_history
from tests.netns.cluster import HostedCluster, HostedPython
from tests.netns.nemesis import MEMBERS, Nemesis
from tests.netns.network import Network

_CLIENT = Path(__file__).with_name("leader_client.py")
_SERVER = Path(__file__).with_name("leader_server.py")
POLICIES = ("step_down", "stay")
SERVER_HOST = "c1"
CLIENT_HOSTS = ("c2", "c3", "c4")
ALL_HOSTS = (SERVER_HOST, *CLIENT_HOSTS)
HOSTS = (*MEMBERS, *ALL_HOSTS)
_GUEST = "c2-guest"

KINDS = (
    "leader killed",
    "leader ended",
    "leader paused",
    "leader cut off",
    "leader with the minority",
    "leader paused, etcd's too",
    "leader cut off, etcd's paused",
    "leader killed in an outage",
    "leader with the majority",
    "all cut off from all",
    "nobody reaches etcd",
    "etcd's leader killed",
    "etcd's leader paused",
    "etcd's leader cut off",
    "follower paused",
    "quorum paused",
    "quorum killed",
    "candidate paused",
    "candidates come and go in an outage",
)
# Seconds a fault lasts: shorter than the ttl of 6 s, about the deadline, longer than ttl and margin.
LENGTHS = (2.0, 5.0, 9.0)
# Within so many seconds after a fault every election is led: ttl, margin, and what members and processes take.
_SETTLED_WITHIN = 25.0


class Worker:
    """A worker process of the server, which replaces it when it ends.

    Args:
        pid: Its process id.
    """

    def __init__(self, pid: int) -> None:
        self.pid: int | None = pid
        self._process = psutil.Process(pid)

    @property
    def running(self) -> bool:
        """Whether it is there, stopped or not."""
        return self._process.is_running() and self._process.status() != psutil.STATUS_ZOMBIE

    def pause(self) -> None:
        """Stop it."""
        self._process.suspend()

    def resume(self) -> None:
        """Let it go on, if its server has not lost patience."""
        with suppress(psutil.NoSuchProcess):
            self._process.resume()

    def kill(self) -> None:
        """End it, as a crash would."""
        self._process.kill()


class LeaderTrials:
    """Five candidates on a cluster, as a context manager.

    Args:
        network: With the hosts of `HOSTS`.
        cluster: On `MEMBERS`.
        folder: For the histories.
        seed: What faults are drawn from.
        policies: An election for each.
    """

    def __init__(
        self,
        network: Network,
        cluster: HostedCluster,
        folder: Path,
        seed: int,
        policies: Sequence[str] = POLICIES,
    ) -> None:
        self.network = network
        self.cluster = cluster
        self.folder = folder
        self.policies = tuple(policies)
        self.kinds: Counter[str] = Counter()
        self.seed = seed
        self._random = random.Random(seed)
        self._processes: dict[str, HostedPython] = {}
        self._workers: dict[str, Worker] = {}
        self._pids: set[int] = set()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._clients: dict[str, HostedPython | Worker] = {}
        nemesis = Nemesis(self.network, self.cluster, self.folder, self._clients, self._random)
        self.nemesis = self._stack.enter_context(nemesis)
        self._start("server", SERVER_HOST, _SERVER)
        for host in CLIENT_HOSTS:
            self._start(f"{host}-a", host)
        self._await(self._find_workers, within=20.0, what="two workers")
        self.settle()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    # What happens ----------------------------------------------------------------------------------------------

    def run(self, seconds: float) -> None:
        """Make faults for so long."""
        until = time.monotonic() + seconds
        kinds: list[str] = []
        while time.monotonic() < until:
            # Each kind once before any comes again.
            kinds = kinds or self._random.sample(KINDS, len(KINDS))
            self.strike(kinds.pop(), self._random.choice(LENGTHS))

    def strike(self, kind: str, seconds: float) -> None:
        """Make one fault, and wait until every election is led again.

        Whoever was not struck goes on leading, or comes back, with the same token.

        Args:
            kind: One of `KINDS`.
            seconds: How long it lasts.
        """
        before = self.settle()
        policy = self._random.choice(self.policies)
        struck = self.name_of(before[policy])
        fault, keeps = self._faults(struck)[kind]
        self.kinds[kind] += 1
        with self.nemesis.telling(f"{kind} ({policy} is led by {struck}) for {seconds} s"):
            fault(seconds)
        self.network.heal()
        self.cluster.wait_ready()
        after = self.settle()
        for name, led in before.items() if keeps else ():
            now = after[name]
            assert (now.pid, now["token"]) == (led.pid, led["token"]), f"{kind}: {name}: {now} instead of {led}"

    def settle(self) -> dict[str, Event]:
        """Wait until every election is led with certainty and all candidates are there; return the `enter`s."""
        found: dict[str, Event] = {}

        def settled() -> bool:
            nonlocal found
            found = leading(read_history(self.folder), machine_clock())
            return set(found) == set(self.policies) and self._find_workers()

        self._await(settled, within=_SETTLED_WITHIN, what="leader of every election")
        for process in self._processes.values():
            assert process.running, f"{process!r} ended by itself:\n{process.log()[-3000:]}"
        return found

    def name_of(self, entered: Event) -> str:
        """Return the name under which the nemesis knows a leader."""
        return next(name for name, client in self._clients.items() if client.pid == entered.pid)

    def findings(self) -> LeaderFindings:
        """Check the whole history."""
        return check_leaders(read_history(self.folder))

    def finish(self) -> None:
        """End all candidates as an operator would, and see that none of them complains."""
        for process in self._processes.values():
            process.terminate()
        self._await(
            lambda: not any(process.running for process in self._processes.values()),
            within=20.0,
            what="end of the candidates",
        )
        for process in self._processes.values():
            assert "Traceback" not in process.log(), process.log()[-3000:]

    def report(self) -> str:
        """Return the figures in words."""
        found = self.findings()
        lines = [f"{sum(self.kinds.values())} faults, {len(found.violations)} violations"]
        for name in self.policies:
            death, resigned = found.after_death.get(name, []), found.after_resigning.get(name, [])
            announced, over = found.unconfirmed.get(name, []), found.overstays.get(name, [])
            lines.append(
                f"    {name}: {found.terms[name]} terms, {found.returns[name]} returns into one; "
                f"a leader's death took {_worst(death)}, its resignation {_worst(resigned)}; "
                f"{len(announced)} times two at once, UNCONFIRMED, {sum(announced):.1f} s in all; "
                f"a body went on beyond its deadline for {_worst(over)}"
            )
        return "\n".join([*lines, *(f"    {n:4} x {kind}" for kind, n in sorted(self.kinds.items()))])

    # Faults ----------------------------------------------------------------------------------------------------

    def _faults(self, one: str) -> dict[str, tuple[Callable[[float], None], bool]]:
        """Return each fault, and whether all leaders go on leading, or come back, with the same token.

        Args:
            one: The leader that it is about.
        """
        nemesis, draw = self.nemesis, self._random.choice
        other = draw([name for name in sorted(self._clients) if name not in self._leaders()])
        at = one.partition("-")[0]
        first, second = nemesis.leader, draw(nemesis.followers)
        cut, pause, kill = nemesis.member_cut, nemesis.member_paused, nemesis.member_killed
        hold, stop, host_cut = nemesis.hold, nemesis.clients_paused, nemesis.host_cut
        lonely = draw(MEMBERS)
        return {
            "leader killed": (lambda s: self._kill(one, s, healthy=True), False),
            "leader ended": (lambda s: self._end(one, healthy=True), False),
            "leader paused": (lambda s: hold(s, stop(one)), False),
            "leader cut off": (lambda s: hold(s, host_cut(at)), False),
            "leader with the minority": (lambda s: hold(s, nemesis.split(at, lonely)), False),
            "leader paused, etcd's too": (lambda s: hold(s, stop(one), pause(first)), False),
            "leader cut off, etcd's paused": (lambda s: hold(s, host_cut(at), pause(first)), False),
            "leader killed in an outage": (
                lambda s: nemesis.during(pause(first), pause(second), meanwhile=lambda: self._kill(one, s)),
                False,
            ),
            "leader with the majority": (lambda s: hold(s, self._minority_of_followers(lonely)), True),
            "all cut off from all": (lambda s: hold(s, *(nemesis.split(name) for name in HOSTS)), True),
            "nobody reaches etcd": (lambda s: hold(s, host_cut(*ALL_HOSTS)), True),
            "etcd's leader killed": (lambda s: hold(s, kill(first)), True),
            "etcd's leader paused": (lambda s: hold(s, pause(first)), True),
            "etcd's leader cut off": (lambda s: hold(s, cut(first)), True),
            "follower paused": (lambda s: hold(s, pause(second)), True),
            "quorum paused": (lambda s: hold(s, pause(first), pause(second)), True),
            "quorum killed": (lambda s: hold(s, kill(first), kill(second)), True),
            "candidate paused": (lambda s: hold(s, stop(other)), True),
            "candidates come and go in an outage": (
                lambda s: nemesis.during(kill(first), kill(second), meanwhile=lambda: self._come_and_go(other, s)),
                True,
            ),
        }

    def _minority_of_followers(self, member: str) -> AbstractContextManager[None]:
        """Cut a member off, together with all hosts on which nobody leads."""
        leading_hosts = {name.partition("-")[0] for name in self._leaders()}
        return self.nemesis.split(member, *(host for host in ALL_HOSTS if host not in leading_hosts))

    def _leaders(self) -> set[str]:
        pids = {event.pid for event in leading(read_history(self.folder), machine_clock()).values()}
        return {name for name, client in self._clients.items() if client.pid in pids}

    def _kill(self, name: str, seconds: float, *, healthy: bool = False) -> None:
        """Kill a candidate; somebody starts it again."""
        self.nemesis.kill(name, healthy=healthy)
        time.sleep(seconds)
        if name in self._processes:
            self._processes.pop(name).close()
            self._start(name, name.partition("-")[0])

    def _end(self, name: str, *, healthy: bool) -> None:
        """Let a candidate end as in a deployment, and start it again."""
        pid = self._clients[name].pid
        assert pid is not None
        self.nemesis.record("told", victim=pid, healthy=healthy)
        os.kill(pid, signal.SIGTERM)
        process = psutil.Process(pid)
        self._await(
            lambda: not process.is_running() or process.status() == psutil.STATUS_ZOMBIE,
            within=10.0,
            what=f"end of {name}",
        )
        if name in self._processes:
            self._processes.pop(name).close()
            self._start(name, name.partition("-")[0])

    def _come_and_go(self, name: str, seconds: float) -> None:
        """Kill and start a candidate, and let another one join; the latter leaves before the end."""
        half = seconds / 2
        self._start(_GUEST, _GUEST.partition("-")[0])
        self._kill(name, half)
        time.sleep(half)
        guest = self._processes.pop(_GUEST)
        del self._clients[_GUEST]
        guest.stop()
        guest.close()

    # Around them -----------------------------------------------------------------------------------------------

    def _start(self, name: str, host: str, script: Path = _CLIENT) -> None:
        arguments = (str(self.folder), name, ",".join(self.policies), *self.cluster.endpoints)
        process = HostedPython(self.network.host(host), name, script, *arguments)
        self._stack.callback(process.close)
        self._processes[name] = process
        if script is _CLIENT:
            self._clients[name] = process
        process.start()

    def _find_workers(self) -> bool:
        """Learn the server's present workers; whether there are two."""
        for name, worker in list(self._workers.items()):
            if not worker.running:
                # Its server may have ended it; what it believed has ended too.
                self.nemesis.record("died", victim=worker.pid)
                del self._workers[name], self._clients[name]
        ready = [event for event in read_history(self.folder) if event.kind == "ready"]
        for pid in {event.pid for event in ready if event.process == "server"} - self._pids:
            self._pids.add(pid)
            name = next(n for n in (f"{SERVER_HOST}-a", f"{SERVER_HOST}-b") if n not in self._workers)
            self._workers[name] = self._clients[name] = Worker(pid)
        return len(self._workers) == 2

    def _await(self, condition: Callable[[], bool], *, within: float, what: str) -> None:
        deadline = time.monotonic() + within
        while not condition():
            if time.monotonic() > deadline:
                tail = [e for e in read_history(self.folder) if e.kind != "renewed"][-60:]
                logs = "\n".join(process.log()[-1500:] for process in self._processes.values())
                raise AssertionError(f"no {what} within {within} s:\n" + "\n".join(map(str, tail)) + logs)
            time.sleep(0.1)


def _worst(seconds: Sequence[float]) -> str:
    return f"at most {max(seconds):.3f} s ({len(seconds)} times)" if seconds else "(never)"
