"""Channels over HTTP/2 of this package's own."""

from __future__ import annotations

from tideover.etcd.http2.channel import Channel
from tideover.etcd.http2.dialling import Target
from tideover.etcd.http2.options import BULK, URGENT
from tideover.etcd.tls import TlsFiles
from tideover.etcd.transports import certified_name
from tideover.store.endpoints import host_of


def open_channel(endpoint: str, files: TlsFiles | None, server_name: str | None, *, bulk: bool) -> Channel:
    """Open a channel; see `transports.load`."""
    host, port = host_of(endpoint), int(endpoint.rpartition(":")[2])
    target = Target(host, port)
    if files is not None:
        target = Target(host, port, files.material.context, certified_name(host, files, server_name))
    return Channel(target, authority=endpoint, options=BULK if bulk else URGENT)
