"""Hosts as people and servers write them: which are no address to connect to, and which are the same."""

from __future__ import annotations

import socket
from ipaddress import IPv4Address, IPv6Address, ip_address


def is_wildcard(host: str) -> bool:
    """Return whether a host means all addresses of whatever machine it is read on, however it is written.

    Args:
        host: Such as `"0.0.0.0"` or `"::"`, without brackets. Also `"0"`, `"0x0"` or `"::ffff:0.0.0.0"`, which
            resolvers take for the same (inet_aton(3); RFC 4291, 2.5.5.2), and `"*"`, which some servers do.
    """
    if host in ("", "*"):
        return True
    address = _address(host)
    return address is not None and address.is_unspecified


def same_host(host: str) -> str:
    """Return one way to write a host, for comparisons: clients and servers each write addresses in their own."""
    address = _address(host)
    return host if address is None else str(address)


def _address(host: str) -> IPv4Address | IPv6Address | None:
    """Return the address that a host is, however it is written; None if it is a name."""
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        try:
            return IPv4Address(socket.inet_aton(host))
        except (OSError, UnicodeError):
            return None
    mapped = None if address.version == 4 else address.ipv4_mapped
    return mapped or address
