"""What a partition test works with: clients as processes, and what their histories say."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.history.checker import Violation, check
from tests.history.events import Event
from tests.history.recorder import Recorder, machine_clock, read_history
from tests.netns.cluster import HostedCluster, HostedPython
from tests.netns.network import Network

_CLIENT = Path(__file__).with_name("client.py")


class Bench:
    """A network, a cluster, clients, and one history of all of them.

    Args:
        network: The network.
        cluster: The cluster on it.
        folder: Where the histories are.
    """

    def __init__(self, network: Network, cluster: HostedCluster, folder: Path) -> None:
        self.network = network
        self.cluster = cluster
        self.folder = folder
        self._clients: dict[str, HostedPython] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._recorder = self._stack.enter_context(Recorder(self.folder, "bench"))
        self._stack.callback(self.network.heal)
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    def client(
        self,
        name: str,
        what: str,
        key: str,
        *,
        on: str,
        using: str | None = None,
        told: Sequence[str] | None = None,
        hosts: Path | None = None,
        script: Path = _CLIENT,
    ) -> HostedPython:
        """Start a client process, and wait until it is AVAILABLE.

        Args:
            name: What to call it in the history.
            what: "read" (from memory), "fetch" (also from etcd) or "write".
            key: The configuration key.
            on: The host.
            using: The host of the member to use at the start. None leaves it to chance.
            told: The endpoints it is told of. None means all members'.
            hosts: What /etc/hosts says to it. None means what it says here.
            script: What it runs, with the arguments that `client.py` documents.
        """
        host = self.network.host(on)
        first = "any" if using is None else self.cluster.on(using).endpoint
        endpoints = self.cluster.endpoints if told is None else told
        client = HostedPython(
            host, name, script, str(self.folder), name, what, key, first, *endpoints, hosts=hosts
        )
        self._stack.callback(client.close)
        self._clients[name] = client
        began = machine_clock()
        client.start()
        self.await_state(name, "available", within=10.0, since=began)
        return client

    def kill(self, name: str) -> None:
        """End a client, as a crash would; it is to be started again."""
        client = self._clients[name]
        pid = client.pid
        client.kill()
        self._recorder.record("died", victim=pid)

    def running(self, name: str) -> HostedPython:
        """Return a client's process."""
        return self._clients[name]

    def stop_clients(self) -> None:
        """End all clients, as a crash would."""
        for client in self._clients.values():
            assert client.running, f"{client!r} ended by itself:\n{client.log()}"
            client.kill()

    def note(self, what: str) -> float:
        """Record what is about to be done, and return when."""
        self._recorder.record("nemesis", what=what)
        return machine_clock()

    def events(self, name: str, kind: str, *, since: float = 0.0) -> list[Event]:
        """Return what a client has recorded of a kind since a moment."""
        return [e for e in read_history(self.folder) if e.process == name and e.kind == kind and e.at >= since]

    def readings(self, name: str, how: str, *, since: float = 0.0, until: float = float("inf")) -> list[Event]:
        """Return a client's readings of one way between two moments."""
        return [e for e in self.events(name, "reading", since=since) if e["how"] == how and e.at <= until]

    def states(self, name: str, *, since: float = 0.0) -> list[str]:
        """Return the health states that a client has changed to since a moment."""
        seen = self.events(name, "state")
        return [
            now["state"] for before, now in pairwise(seen) if now["state"] != before["state"] and now.at >= since
        ]

    def active(self, name: str) -> str:
        """Return the host of the member that a client uses."""
        endpoint = self.events(name, "state")[-1]["active"]
        return next(host.name for host in self.network.hosts if endpoint.startswith(f"{host.address}:"))

    def await_state(self, name: str, state: str, *, within: float, since: float = 0.0) -> float:
        """Wait until a client says a state; return when it did.

        Args:
            name: The client.
            state: The health state.
            within: Seconds from now.
            since: Only what was recorded after this moment counts.
        """

        def said() -> Sequence[Event]:
            return [e for e in self.events(name, "state", since=since) if e["state"] == state]

        return self.await_(said, within=within, what=f"{name} {state}")[0].at

    def await_(self, found: Callable[[], Sequence[Event]], *, within: float, what: str) -> Sequence[Event]:
        """Wait until a question about the history has an answer."""
        deadline = machine_clock() + within
        while not (answer := found()):
            if machine_clock() > deadline:
                tail = "\n".join(map(str, [e for e in read_history(self.folder) if e.kind != "reading"][-40:]))
                logs = "\n".join(client.log()[-2000:] for client in self._clients.values())
                raise AssertionError(f"no {what} within {within} s; the history ends:\n{tail}\n{logs}")
            time.sleep(0.1)
        return answer

    def violations(self) -> list[Violation]:
        """Check the whole history."""
        return check(read_history(self.folder))
