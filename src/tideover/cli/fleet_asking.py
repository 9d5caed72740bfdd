"""Asking instances over HTTP, whoever answers there: bounded in time and size, without redirects.

Each is asked in a thread of its own, because `http.client` blocks, and a name that is looked up blocks in any
case; what takes longer than it may is cut off and left behind.
"""

from __future__ import annotations

import http.client
import socket
import ssl
from collections.abc import Mapping
from contextlib import closing, suppress
from functools import partial
from urllib.parse import urlsplit

import anyio

from tideover.cli.fleet_rules import MOST, Row, read
from tideover.daemon_thread import in_daemon_thread
from tideover.discovery.endpoint import Endpoint
from tideover.foreign_bytes import Malformed
from tideover.shown import shown

# Seconds for one instance, whatever it does.
TIMEOUT = 2.0


class _Refused(Exception):
    """Raised when an answer is not that of `health`, with what it is."""


class Asker:
    """Asks instances how they are.

    Args:
        path: Where they answer.
        headers: More fields of the request.
        context: How those with https are believed.
    """

    def __init__(self, path: str, headers: Mapping[str, str], context: ssl.SSLContext) -> None:
        self._path = path
        self._headers = {"Accept": "application/health+json, application/json", **headers}
        self._context = context

    def __repr__(self) -> str:
        """Show where it asks; fields may be secrets."""
        return f"<Asker at {self._path}>"

    async def ask(self, endpoint: Endpoint) -> Row:
        """Return what an instance says, or why it is not known."""
        trouble = "timed out"
        try:
            connection = self._connection(endpoint.url)
        except (ValueError, http.client.InvalidURL):
            return self._unknown(endpoint, "its address is none that can be asked over HTTP")
        with anyio.move_on_after(TIMEOUT):
            try:
                raw = await in_daemon_thread(partial(self._get, connection), name="tideover-fleet")
                return read(raw, endpoint.service, endpoint.url, registered=endpoint.process)
            except _Refused as exc:
                trouble = str(exc)
            except Malformed as exc:
                trouble = f"answers something else: {exc}"
            except (OSError, http.client.HTTPException, ValueError) as exc:
                trouble = f"no answer: {getattr(exc, 'strerror', None) or str(exc) or type(exc).__name__}"
        _cut(connection)
        return self._unknown(endpoint, shown(trouble))

    @staticmethod
    def _unknown(endpoint: Endpoint, trouble: str) -> Row:
        return Row(endpoint.process or endpoint.instance or endpoint.url, endpoint.url, trouble)

    def _connection(self, url: str) -> http.client.HTTPConnection:
        parts = urlsplit(url)
        if parts.scheme == "http" and parts.hostname:
            return http.client.HTTPConnection(parts.hostname, parts.port or 80, timeout=TIMEOUT)
        if parts.scheme == "https" and parts.hostname:
            return http.client.HTTPSConnection(
                parts.hostname, parts.port or 443, timeout=TIMEOUT, context=self._context
            )
        raise ValueError(url)

    def _get(self, connection: http.client.HTTPConnection) -> bytes:
        with closing(connection):
            connection.request("GET", self._path, headers=dict(self._headers))
            with connection.getresponse() as response:
                # What fails says so with 503, and in the same document.
                if response.status not in (200, 503):
                    raise _Refused(f"answers {response.status}")
                raw = response.read(MOST + 1)
        if len(raw) > MOST:
            raise _Refused(f"answers more than {MOST // 1024} KiB")
        return raw


def _cut(connection: http.client.HTTPConnection) -> None:
    """Wake the thread that waits for it."""
    if isinstance(connection.sock, socket.socket):
        with suppress(OSError):
            connection.sock.shutdown(socket.SHUT_RDWR)
