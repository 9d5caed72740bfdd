"""From an endpoint to a connection whose server has said its SETTINGS: addresses, TCP, TLS, HTTP/2's beginning."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tideover.etcd.http2.addresses import connect_first, look_up, spelled
from tideover.etcd.http2.connection import Connection
from tideover.etcd.http2.status import StatusCode, never_sent

# Seconds for taking leave under TLS.
_TLS_LEAVE = 0.5
# Longer than anything is waited for: the patience is that of the whole attempt.
_NO_LIMIT = 3600.0
# OpenSSL's numbers for a certificate that bears another name, or another address.
_OTHER_NAME = (62, 64)


@dataclass(frozen=True, slots=True)
class Target:
    """Where a channel leads.

    `host` has no brackets; `context` is None for plain text; `server_name` is what the server's certificate must
    bear.
    """

    host: str
    port: int
    context: ssl.SSLContext | None = None
    server_name: str = ""


class CannotConnect(Exception):
    """Raised when there is no connection; `code` is the status of a call that needed it."""

    def __init__(self, code: StatusCode, details: str) -> None:
        super().__init__(details)
        self.code = code
        self.details = details


class Attempt:
    """One attempt to connect; `address` is the one that is tried, as gRPC writes it."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self.address = f"dns:{target.host}:{target.port}"
        self._silence = "address lookup timed out"

    async def connect(self, protocol: Callable[[], Connection], *, timeout: float) -> Connection:
        """Return a connection over which calls may be sent; raise `CannotConnect` if there is none."""
        connection: Connection | None = None
        try:
            async with asyncio.timeout(timeout):
                connection = await self._open(protocol)
                if not await connection.settled or not connection.ready:
                    raise self._failed(connection.why or connection.announced, StatusCode.UNAVAILABLE)
                return connection
        except TimeoutError:
            raise self._failed(self._silence) from None
        finally:
            if connection is not None and not connection.ready:
                connection.abort("the attempt to connect was given up")

    async def _open(self, protocol: Callable[[], Connection]) -> Connection:
        target, loop = self._target, asyncio.get_running_loop()
        try:
            infos = await look_up(target.host, target.port)
        except (OSError, UnicodeError) as exc:
            name, why = f"{target.host}:{target.port}", getattr(exc, "strerror", None) or str(exc)
            text = (
                f"errors resolving {name}: [field:hostname lookup error:address lookup failed for {name}: {why}]"
            )
            raise CannotConnect(StatusCode.UNAVAILABLE, text) from None
        self.address, self._silence = spelled(infos[0]), "Failed to connect to remote host: Timeout occurred"
        try:
            sock = await connect_first(infos)
        except OSError as exc:
            self.address = spelled(infos[-1])
            raise self._failed(f"Failed to connect to remote host: {_words(exc)}") from None
        self._silence = "connection attempt timed out before receiving SETTINGS frame"
        secure: dict[str, Any] = {}
        if target.context is not None:
            secure = {
                "ssl": target.context,
                "server_hostname": target.server_name,
                "ssl_handshake_timeout": _NO_LIMIT,
                "ssl_shutdown_timeout": _TLS_LEAVE,
            }
            self._silence = "Handshake read failed (Endpoint closing)"
        try:
            _, connection = await loop.create_connection(protocol, sock=sock, **secure)
        except ssl.SSLError as exc:
            raise self._failed(tls_words(exc)) from None
        except OSError:
            sock.close()
            raise self._failed("Handshake read failed (Socket closed)", StatusCode.UNAVAILABLE) from None
        self._silence = "connection attempt timed out before receiving SETTINGS frame"
        return connection

    def _failed(self, why: str, code: StatusCode = StatusCode.UNKNOWN) -> CannotConnect:
        return CannotConnect(*never_sent(self.address, why, code))


def tls_words(exc: ssl.SSLError) -> str:
    """Return what is said of a handshake that has failed: gRPC's words, without those of its layers."""
    if not isinstance(exc, ssl.SSLCertVerificationError):
        return f"Tls handshake failed {exc.reason or exc}"
    if exc.verify_code in _OTHER_NAME:
        return f"Hostname Verification Check failed: {exc.verify_message}"
    return f"Tls handshake failed CERTIFICATE_VERIFY_FAILED: {exc.verify_message}"


def _words(exc: OSError) -> str:
    return os.strerror(exc.errno) if exc.errno else str(exc)
