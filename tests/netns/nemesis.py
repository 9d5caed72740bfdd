"""What trials do to members, hosts and clients: it lasts a while, is mended, and is recorded in the history."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from tests.history.recorder import Recorder
from tests.netns.cluster import HostedCluster
from tests.netns.network import Network

MEMBERS = ("m1", "m2", "m3")


class Victim(Protocol):
    """A client process."""

    @property
    def pid(self) -> int | None:
        """Its process id; None while it does not run."""
        ...

    def pause(self) -> None:
        """Stop it."""

    def resume(self) -> None:
        """Let it go on."""

    def kill(self) -> None:
        """End it, as a crash would."""


class Nemesis:
    """Faults, as context managers that begin and mend them.

    Args:
        network: With a host for each of `MEMBERS`.
        cluster: On them.
        folder: Of the history.
        clients: The processes by name, which begins with their host's, as in `"c1-a"`.
        chance: Draws.
    """

    def __init__(
        self,
        network: Network,
        cluster: HostedCluster,
        folder: Path,
        clients: Mapping[str, Victim],
        chance: random.Random,
    ) -> None:
        self._network = network
        self._cluster = cluster
        self._clients = clients
        self._chance = chance
        self._recorder = Recorder(folder, "nemesis")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._network.heal()
        self._recorder.close()

    @property
    def leader(self) -> str:
        """The host of etcd's leader."""
        return self._cluster.host_of(self._cluster.leader())

    @property
    def followers(self) -> list[str]:
        """The hosts of the other members."""
        leader = self.leader
        return [name for name in MEMBERS if name != leader]

    def record(self, kind: str, **fields: object) -> None:
        """Record an event of one's own."""
        self._recorder.record(kind, **fields)

    @contextmanager
    def telling(self, what: str) -> Iterator[None]:
        """Record what is done, and that it is mended."""
        self.record("nemesis", what=what)
        yield
        self.record("nemesis", what="mended")

    def hold(self, seconds: float, *faults: AbstractContextManager[None]) -> None:
        """Let several faults begin, last, and end, not quite at the same time."""
        self.during(*faults, meanwhile=lambda: time.sleep(seconds))

    def during(self, *faults: AbstractContextManager[None], meanwhile: Callable[[], object]) -> None:
        """Do something under several faults."""
        with ExitStack() as stack:
            for fault in faults:
                stack.enter_context(fault)
                time.sleep(self._chance.uniform(0.0, 0.3))
            meanwhile()

    # Members ---------------------------------------------------------------------------------------------------

    @contextmanager
    def member_paused(self, name: str) -> Iterator[None]:
        """Stop a member, as a stalled machine would."""
        member = self._cluster.on(name)
        with self.hindered(member.endpoint):
            member.pause()
            yield
            self.record("woken", member=member.endpoint)
            member.resume()

    @contextmanager
    def member_killed(self, name: str) -> Iterator[None]:
        """Kill a member, and start it again."""
        member = self._cluster.on(name)
        with self.hindered(member.endpoint):
            member.kill()
            yield
            member.start()

    @contextmanager
    def member_cut(self, name: str) -> Iterator[None]:
        """Cut a member off from its peers; clients still reach it."""
        with self.hindered(self._cluster.on(name).endpoint):
            self._network.isolate(name, among=MEMBERS)
            yield
            self._network.heal(name)

    # Hosts of clients ------------------------------------------------------------------------------------------

    @contextmanager
    def host_cut(self, *hosts: str) -> Iterator[None]:
        """Cut hosts off from all members."""
        with self.hindered(*(name for host in hosts for name in self.on(host))):
            for host in hosts:
                self._network.isolate(host, among=MEMBERS)
            yield
            for host in hosts:
                self._network.heal(host)

    @contextmanager
    def host_severed(self, host: str, member: str) -> Iterator[None]:
        """Cut a host off from one member. The members its clients use may be this one: it concerns them."""
        with self.hindered(*self.on(host)):
            self._network.partition(host, member)
            yield
            self._network.heal(host)

    @contextmanager
    def split(self, *side: str) -> Iterator[None]:
        """Cut the network in two: members and hosts on one side, all others on the other."""
        there = [host.name for host in self._network.hosts if host.name not in side]
        hindered = [name for host in side for name in self.on(host)]
        with self.hindered(*hindered):
            for one in side:
                self._network.isolate(one, among=there)
            yield
            self._network.heal()

    # Processes -------------------------------------------------------------------------------------------------

    @contextmanager
    def clients_paused(self, *names: str) -> Iterator[None]:
        """Stop processes."""
        with self.hindered(*names):
            for name in names:
                self.record("stopped", who=name)
                self._clients[name].pause()
            yield
            for name in names:
                self._clients[name].resume()

    def kill(self, name: str, **fields: object) -> None:
        """Kill a process; the fields are recorded with it."""
        victim = self._clients[name]
        pid = victim.pid
        victim.kill()
        self.record("died", victim=pid, **fields)

    def on(self, host: str) -> list[str]:
        """Return the names of a host's processes."""
        return [name for name in self._clients if name.startswith(f"{host}-")]

    @contextmanager
    def hindered(self, *who: str) -> Iterator[None]:
        """Record that processes or members are hindered, and from when on they are not."""
        for name in who:
            self.record("hindered", who=name)
        yield
        for name in who:
            self.record("unhindered", who=name)
