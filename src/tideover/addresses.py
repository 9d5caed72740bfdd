"""Hosts that are none: what a server listens on, and nobody can connect to."""

from __future__ import annotations

import socket
from ipaddress import ip_address


def is_wildcard(host: str) -> bool:
    """Return whether a host means all addresses of whatever machine it is read on, however it is written.

    Args:
        host: Such as `"0.0.0.0"` or `"::"`, without brackets. Also `"0"`, `"0x0"` or `"::ffff:0.0.0.0"`, which
            resolvers take for the same (inet_aton(3); RFC 4291, 2.5.5.2), and `"*"`, which some servers do.
    """
    if host in ("", "*"):
        return True
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        try:
            return socket.inet_aton(host) == bytes(4)
        except (OSError, UnicodeError):
            return False
    mapped = None if address.version == 4 else address.ipv4_mapped
    return (mapped or address).is_unspecified
