"""A real `etcd grpc-proxy` for tests."""

from __future__ import annotations

import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tideover.testing import EtcdServer
from tideover.testing.etcd.binary import child_environment
from tideover.testing.etcd.ports import ReservedPort
from tideover.testing.etcd.process import ChildProcess


class GrpcProxy(ChildProcess):
    """The proxy of the same etcd, before one or several members.

    Args:
        members: The members.
    """

    def __init__(self, *members: EtcdServer) -> None:
        super().__init__("grpc-proxy")
        self._members = members
        self._port = ReservedPort()

    def __repr__(self) -> str:
        """Show the endpoint and the state."""
        return f"<GrpcProxy {self.endpoint} {self.state}>"

    @property
    def endpoint(self) -> str:
        """Its address."""
        return f"127.0.0.1:{self._port.number}"

    def wait_ready(self, timeout: float = 10.0) -> None:
        """Wait until it passes on a linearizable read."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                with urllib.request.urlopen(f"http://{self.endpoint}/health", timeout=2):
                    return
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    def _command(self, temp: Path) -> tuple[list[str], dict[str, str]]:
        endpoints = ",".join(member.endpoint for member in self._members)
        command = [str(self._members[0].binary), "grpc-proxy", "start", f"--endpoints={endpoints}"]
        # Newer proxies connect to the address they advertise before they serve: by default that of nobody.
        addresses = (f"--listen-addr={self.endpoint}", f"--advertise-client-url={self.endpoint}")
        return [*command, *addresses, f"--data-dir={temp}/data"], child_environment()


@contextmanager
def grpc_proxy(*members: EtcdServer) -> Iterator[GrpcProxy]:
    """Run a proxy before members that are ready."""
    proxy = GrpcProxy(*members)
    try:
        proxy.start()
        proxy.wait_ready()
        yield proxy
    finally:
        proxy.close()
