"""TCP to a name or an address: looked up, and the first of its addresses that answers."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from functools import partial
from ipaddress import ip_address
from typing import Any

from tideover.daemon_thread import in_daemon_thread

# Seconds that an address has before the next one is tried beside it; RFC 8305 recommends it.
_NEXT_ADDRESS = 0.25
# What may wait in the kernel: the rest waits here, where what is urgent may still be put in front.
_MOST_UNSENT = 65_536

# A family and an address of it.
Info = tuple[int, Any]
_Attempt = asyncio.Task[socket.socket]


async def look_up(host: str, port: int) -> list[Info]:
    """Return the addresses of a host, in the order in which they are tried.

    Raises `OSError` if there are none or the look-up failed, `UnicodeError` if the name is none.
    """
    try:
        family = socket.AF_INET6 if ip_address(host).version == 6 else socket.AF_INET
    except ValueError:
        # In a thread that is never waited for: a resolver may hang.
        ask = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        found = await in_daemon_thread(ask, name=f"tideover-resolve-{host}")
        return interleaved([(info[0], info[4]) for info in found])
    return [(family, (host, port))]


def interleaved(infos: Sequence[Info]) -> list[Info]:
    """Return addresses so that the families take turns, beginning with the first; RFC 8305, section 4."""
    first = [info for info in infos if info[0] == infos[0][0]]
    others = [info for info in infos if info[0] != infos[0][0]]
    mixed: list[Info] = []
    while first or others:
        mixed += first[:1] + others[:1]
        first, others = first[1:], others[1:]
    return mixed


def spelled(info: Info) -> str:
    """Return an address as gRPC writes it."""
    family, (host, port, *_) = info
    return f"ipv6:[{host}]:{port}" if family == socket.AF_INET6 else f"ipv4:{host}:{port}"


async def connect_first(infos: Sequence[Info]) -> socket.socket:
    """Connect to the first address that answers: each has a moment before the next one is tried beside it.

    Raises the `OSError` of the last address if none answers.
    """
    if len(infos) == 1:
        return await _connect(infos[0])
    waiting = list(infos)
    attempts: set[_Attempt] = set()
    failure = OSError("no address")
    try:
        while waiting or attempts:
            if waiting:
                attempts.add(asyncio.create_task(_connect(waiting.pop(0))))
            done, attempts = await asyncio.wait(
                attempts,
                timeout=_NEXT_ADDRESS if waiting else None,
                return_when=asyncio.FIRST_COMPLETED,
            )
            good = [attempt for attempt in done if attempt.exception() is None]
            if good:
                attempts |= set(good[1:])
                return good[0].result()
            failure = next((exc for each in done if isinstance(exc := each.exception(), OSError)), failure)
        raise failure
    finally:
        for attempt in attempts:
            attempt.add_done_callback(_close_unused)
            attempt.cancel()


def _close_unused(attempt: _Attempt) -> None:
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result().close()


async def _connect(info: Info) -> socket.socket:
    family, address = info
    # With its protocol: else asyncio does not see that it is TCP, and lets small packets wait (TCP_NODELAY).
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        sock.setblocking(False)
        if hasattr(socket, "TCP_NOTSENT_LOWAT"):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _MOST_UNSENT)
        await asyncio.get_running_loop().sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock
