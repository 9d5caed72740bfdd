"""The port for requests between candidates, and their addresses."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from typing import Protocol

from tideover.foreign_bytes import Malformed, decimal

_HOST = re.compile(r"[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.%a-z]+\]")

# Returns a status and a body, at once.
Handler = Callable[[bytes], tuple[int, bytes]]

# An address without a host (RFC 5737): packets to it would take the default route.
NOWHERE = "192.0.2.1"


class Silent(Exception):
    """Raised when a request got no answer, or an error."""

    def __init__(self, why: str, *, gone: bool = False) -> None:
        super().__init__(why)
        self.gone = gone  # whether the connection was refused, or another process answered


class Network(Protocol):
    """Carries requests to other processes."""

    async def listen(self, host: str, port: int) -> int:
        """Begin to accept connections, and return the port; 0 asks for any. Raises `OSError`: that cannot be."""

    async def serve(self, handler: Handler) -> None:
        """Answer requests until cancelled."""

    async def post(self, address: str, body: bytes, *, timeout: float) -> bytes:
        """Send a request and return the answer's body. Raises `Silent`: there is none."""

    async def aclose(self) -> None:
        """Accept nothing any more."""


def split_address(address: str) -> tuple[str, int]:
    """Return host and port of an address such as `"10.0.0.7:7000"` or `"[::1]:7000"`; raise `Silent` for none."""
    host, colon, port = address.rpartition(":")
    try:
        number = decimal(port, "the port", least=1, most=65_535)
    except Malformed:
        number = 0
    if not colon or not number or len(address) >= 300 or not _HOST.fullmatch(host):
        raise Silent("that is no address")
    return host.removeprefix("[").removesuffix("]"), number


def join_address(host: str, port: int) -> str:
    """Return an address; see `split_address`."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def local_host(towards: str, port: int) -> str:
    """Return this machine's address on the way to another one; `OSError` without a way. Sends nothing."""
    family = socket.AF_INET6 if ":" in towards else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect((towards, port))
        return str(probe.getsockname()[0])
