"""Loopback ports that stay ours while the server behind them is down."""

from __future__ import annotations

import errno
import random
import socket
from pathlib import Path

_HOST = "127.0.0.1"
_LOWEST = 10_000
_RANDOM = random.SystemRandom()  # parallel test runs often share the seed of `random`


class ReservedPort:
    """One TCP port of 127.0.0.1, held from construction to `release()`.

    Guarantee: no other ReservedPort on this machine, in any process, has the number meanwhile,
    also while nothing listens on it. The claim is a bound UDP socket of the same number: TCP does
    not see it, and the kernel drops it with the process, so no lock file can be left behind.

    The number lies below the range from which the kernel takes ports for outgoing connections.
    A client that keeps dialling a dead server in that range can be given the server's own port,
    connect to itself, and keep the server from coming back.

    No guarantee: programs that do not use this class may still take the port.
    """

    def __init__(self) -> None:
        self._claim, self.number = _claim_any()

    def release(self) -> None:
        """Give the port up; again is a no-op."""
        self._claim.close()

    def __del__(self) -> None:
        if hasattr(self, "_claim"):
            self._claim.close()


def _claim_any(attempts: int = 200) -> tuple[socket.socket, int]:
    highest = _ephemeral_floor()
    for _ in range(attempts):
        number = _RANDOM.randrange(_LOWEST, highest)
        claim = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            claim.bind((_HOST, number))
            _listen_once(number)
        except OSError as exc:
            claim.close()
            if exc.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
        else:
            return claim, number
    raise RuntimeError(f"no free port between {_LOWEST} and {highest} in {attempts} attempts")


def _listen_once(number: int) -> None:
    """Raise OSError unless a server that sets SO_REUSEADDR, as Go does, could listen here."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((_HOST, number))
        probe.listen(1)


def _ephemeral_floor() -> int:
    try:
        text = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text()
        floor = int(text.split()[0])
    except (OSError, ValueError, IndexError):
        floor = 32_768  # Linux's default; macOS and the IANA range begin higher
    # A machine that gives nearly every port to clients leaves no better choice than Linux's default
    return floor if floor >= _LOWEST + 2_000 else 32_768
