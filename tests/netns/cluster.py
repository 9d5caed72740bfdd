"""The test kit's etcd cluster on the hosts of a network, and processes beside it.

A member serves its clients on the network and, for us, on a socket file: a path does not care about network
namespaces, so that asking who leads works through any partition and disturbs none.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from tests.netns.network import Host, Network
from tideover.testing.etcd.binary import child_environment
from tideover.testing.etcd.cluster import EtcdCluster
from tideover.testing.etcd.process import ChildProcess
from tideover.testing.etcd.server import EtcdServer

ROOT = Path(__file__).parents[2]


class HostedEtcd(EtcdServer):
    """One member on a host; its process id is etcd's own."""

    def __init__(self, host: Host, *, name: str, binary: Path, args: Sequence[str], fsync: bool) -> None:
        self.host = host
        super().__init__(name=name, binary=binary, args=args, fsync=fsync)

    @property
    def endpoint(self) -> str:
        """The client address on the network."""
        return f"{self.host.address}:2379"

    @property
    def peer_url(self) -> str:
        """The URL at which other members reach this one."""
        return f"http://{self.host.address}:2380"

    @property
    def console(self) -> str:
        """A socket file for us."""
        return f"unix://{self._temp}/console:1"

    @property
    def peer_console(self) -> str:
        """Likewise, the side that other members use."""
        return f"unix://{self._temp}/console:2"

    def _command(self, temp: Path) -> tuple[list[str], dict[str, str]]:
        command, env = super()._command(temp)
        for left in temp.glob("console:*"):
            left.unlink()  # after SIGKILL; etcd 3.4 would take it for a server that listens
        # etcd takes a socket file only as HOST:PORT in its working directory.
        where = [*self.host.launcher, "env", f"--chdir={temp}"]
        listen = [
            f"--listen-client-urls=http://{self.endpoint},unix://console:1",
            f"--listen-peer-urls={self.peer_url},unix://console:2",
        ]
        return [*where, *command, *listen], env


class HostedCluster(EtcdCluster):
    """One member on each of the given hosts.

    Args:
        network: The network; it must outlive the cluster.
        names: The hosts.
    """

    def __init__(self, network: Network, *names: str) -> None:
        self._hosts = {f"etcd-{n}": network.host(name) for n, name in enumerate(names, start=1)}
        super().__init__(len(names))

    def on(self, name: str) -> EtcdServer:
        """Return the member on a host."""
        return next(member for member in self.members if self._hosts[member.name].name == name)

    def host_of(self, member: EtcdServer) -> str:
        """Return the name of a member's host."""
        return self._hosts[member.name].name

    def _make_member(self, name: str, *, binary: Path, args: Sequence[str], fsync: bool) -> EtcdServer:
        return HostedEtcd(self._hosts[name], name=name, binary=binary, args=args, fsync=fsync)


class HostedPython(ChildProcess):
    """A Python script on a host, as a context manager.

    Args:
        host: The host.
        name: What to call it.
        script: Its path.
        args: Its arguments.
        hosts: What /etc/hosts says to it. None means what it says here.
    """

    def __init__(self, host: Host, name: str, script: Path, *args: str, hosts: Path | None = None) -> None:
        super().__init__(name)
        self._host = host
        self._see: list[str] = []
        if hosts is not None:
            mount = 'mount --bind "$0" /etc/hosts && exec "$@"'
            self._see = ["unshare", "--mount", "sh", "-c", mount, str(hosts)]
        self._line = [sys.executable, str(script), *args]

    def __repr__(self) -> str:
        return f"<HostedPython {self.name!r} on {self._host.name!r} {self.state} pid={self.pid}>"

    def _command(self, temp: Path) -> tuple[list[str], dict[str, str]]:
        path = f"{ROOT}:{ROOT / 'src'}"
        return [*self._host.launcher, *self._see, *self._line], child_environment(PYTHONPATH=path)
