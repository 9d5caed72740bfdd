"""Which transport calls take: gRPC's own library, or the HTTP/2 of this package; both under the same stubs."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, get_args

from tideover.etcd.http_proxy import proxy_for
from tideover.policies import Transport
from tideover.shown import quoted

if TYPE_CHECKING:
    from tideover.etcd.tls import TlsFiles

VARIABLE = "TIDEOVER_TRANSPORT"
_DEFAULT: Transport = "http2"
# The one that goes through a proxy of the environment's.
_PROXIED: Transport = "grpc"
_MODULES: dict[Transport, str] = {
    "grpc": "tideover.etcd.grpc_channel",
    "http2": "tideover.etcd.http2.opening",
}


def named(given: Transport | None, environment: Mapping[str, str] = os.environ) -> Transport | None:
    """Return the transport that the caller or the environment has named; None if neither has.

    None as `given` leaves the choice to `environment`, also beside endpoints that are given: no secret is there,
    and no word of which etcd is meant. An empty variable counts as none. Raises `ValueError` for an unknown name.
    """
    name, what = (environment.get(VARIABLE) or None, VARIABLE) if given is None else (given, "transport")
    for known in get_args(Transport):
        if name == known:
            return known  # type: ignore[no-any-return] # one of the literals
    if name is None:
        return None
    raise ValueError(f"{what} must be {' or '.join(map(repr, get_args(Transport)))}, not {quoted(str(name))}")


def chosen(given: Transport | None, endpoint: str) -> Transport:
    """Return the transport to an endpoint: the one that was named, or else the one that gets there."""
    return named(given) or (_PROXIED if proxy_for(endpoint) else _DEFAULT)


def load(transport: Transport) -> Callable[..., Any]:
    """Return what opens a channel of a transport. gRPC takes a tenth of a second to import, once.

    What is returned takes the member's `host:port`, the files of TLS (None connects without it), the name that the
    member's certificate must bear (None means the host), and `bulk`: whether what is sent over it may be large.
    """
    opens: Callable[..., Any] = import_module(_MODULES[transport]).open_channel
    return opens


def certified_name(endpoint_host: str, files: TlsFiles, server_name: str | None) -> str:
    """Return the name that a member's certificate must bear.

    The final dot of a name is the resolver's: no certificate bears it, nor may the SNI (RFC 6066).
    """
    return (files.tls.server_name or server_name or endpoint_host).removesuffix(".")
