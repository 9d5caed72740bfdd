"""The HTTP proxy that gRPC uses: taken from the environment, and named in no error.

As grpc 1.85 does it: the first of three variables that is set, in small letters, is the proxy, if it is an
`http://` URL. `no_proxy` lists hosts, domains and networks that are spared; neither `*` nor ports mean anything
there.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit

from tideover.shown import shown
from tideover.store.endpoints import host_of

_PROXY = ("grpc_proxy", "https_proxy", "http_proxy")
_SPARED = ("no_grpc_proxy", "no_proxy")


def proxy_for(endpoint: str, environment: Mapping[str, str] = os.environ) -> str:
    """Return the proxy that a member is reached through and the variable that names it; empty without a proxy.

    Such as `"by way of the proxy 10.0.0.9:3128, see http_proxy and no_proxy"`.
    """
    variable = next((name for name in _PROXY if name in environment), "")
    try:
        proxy = urlsplit(environment.get(variable, ""))
        where = f"{proxy.hostname}:{proxy.port or 443}"
    except ValueError:
        return ""
    if proxy.scheme != "http" or not proxy.hostname:
        return ""
    spared = next((environment[name] for name in _SPARED if name in environment), "")
    if any(_is_spared(host_of(endpoint), entry.strip()) for entry in spared.split(",")):
        return ""
    return f"by way of the proxy {shown(where)}, see {variable} and no_proxy"


def _is_spared(host: str, entry: str) -> bool:
    if "/" in entry:
        try:
            return ip_address(host) in ip_network(entry, strict=False)
        except ValueError:
            return False
    domain = entry.lower().lstrip(".")
    return bool(domain) and f".{host.lower()}".endswith(f".{domain}")
