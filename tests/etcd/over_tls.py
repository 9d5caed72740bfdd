"""`pytest --over-tls`: every etcd of the tests serves its clients with TLS, unless a test says how it is served.

Clients in the test's process are given the CA for those members; what runs in processes of its own, or reaches
etcd through something in between, is not, so that a run names files of other tests.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.etcd.certificates import Authority
from tideover.etcd.channel import MemberChannel
from tideover.etcd.tls import TlsFiles
from tideover.policies import Tls, Transport
from tideover.store.endpoints import Address
from tideover.testing import EtcdServer


def install() -> Callable[[], None]:
    """Begin; return what ends it."""
    folder = tempfile.TemporaryDirectory()
    authority = Authority(Path(folder.name))
    signed = authority.sign("localhost")
    tls, trust = Tls(cert=signed.cert, key=signed.key), Tls(ca=authority.cert)
    ports: set[str] = set()
    serve, reach = EtcdServer.__init__, MemberChannel.__init__

    @functools.wraps(serve)
    def serving(self: EtcdServer, **options: Any) -> None:
        told = options.get("tls") is not None
        serve(self, **options if told else {**options, "tls": tls})
        if not told:
            ports.add(_port(self.endpoint))

    @functools.wraps(reach)
    def reaching(
        self: MemberChannel,
        address: Address,
        files: TlsFiles | None = None,
        transport: Transport | None = None,
    ) -> None:
        if files is None and _port(address.endpoint) in ports:
            files = TlsFiles(trust)
        reach(self, address, files, transport)

    EtcdServer.__init__ = serving  # type: ignore[method-assign]
    MemberChannel.__init__ = reaching  # type: ignore[method-assign]
    return folder.cleanup


def _port(endpoint: str) -> str:
    return endpoint.rpartition(":")[2]
