"""Which transport calls take: gRPC's own library, or the HTTP/2 of this package; both under the same stubs."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, get_args

from tideover.policies import Transport
from tideover.shown import quoted

if TYPE_CHECKING:
    from tideover.etcd.tls import TlsFiles

VARIABLE = "TIDEOVER_TRANSPORT"
_DEFAULT: Transport = "grpc"
_MODULES: dict[Transport, str] = {
    "grpc": "tideover.etcd.grpc_channel",
    "http2": "tideover.etcd.http2.opening",
}


def chosen(given: Transport | None, environment: Mapping[str, str] = os.environ) -> Transport:
    """Return the transport that is used.

    Args:
        given: What the caller has chosen; None leaves it to the environment, also beside endpoints that are given:
            no secret is in it, and it says nothing of which etcd is meant.
        environment: The variables; an empty one counts as none.

    Raises:
        ValueError: There is no such transport.
    """
    if given is None:
        named = environment.get(VARIABLE) or _DEFAULT
        what = VARIABLE
    else:
        named, what = given, "transport"
    for known in get_args(Transport):
        if named == known:
            return known  # type: ignore[no-any-return] # one of the literals
    raise ValueError(f"{what} must be {' or '.join(map(repr, get_args(Transport)))}, not {quoted(str(named))}")


def load(transport: Transport | None) -> Callable[..., Any]:
    """Return what opens a channel of a transport; see `chosen`. gRPC takes a tenth of a second to import, once.

    What is returned takes the member's `host:port`, the files of TLS (None connects without it), the name that the
    member's certificate must bear (None means the host), and `bulk`: whether what is sent over it may be large.
    """
    opens: Callable[..., Any] = import_module(_MODULES[chosen(transport)]).open_channel
    return opens


def certified_name(endpoint_host: str, files: TlsFiles, server_name: str | None) -> str:
    """Return the name that a member's certificate must bear.

    The final dot of a name is the resolver's: no certificate bears it, nor may the SNI (RFC 6066).
    """
    return (files.tls.server_name or server_name or endpoint_host).removesuffix(".")
