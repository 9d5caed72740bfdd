"""Asks instances over HTTP: bounded in time and size, without redirects.

Each is asked in a thread of its own, because `http.client` blocks, and a name that is looked up blocks in any
case; a question that takes too long is cut off and abandoned.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
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
_PORTS = {"http": 80, "https": 443}


class _Refused(Exception):
    """Raised when an answer is not that of `health`, with what it is."""


class Asker:
    """Asks instances for their health."""

    def __init__(self, path: str, headers: Mapping[str, str], context: ssl.SSLContext) -> None:
        self._path = path
        self._headers = {"Accept": "application/health+json, application/json", **headers}
        self._context = context

    async def ask(self, endpoint: Endpoint) -> Row:
        """Return an instance's answer, or why there is none."""
        trouble = "timed out"
        try:
            line = _Line(endpoint.url)
        except (ValueError, http.client.InvalidURL):
            return self._unknown(endpoint, "its address is none that can be asked over HTTP")
        with closing(line), anyio.move_on_after(TIMEOUT):
            try:
                raw = await in_daemon_thread(partial(self._get, line), name="tideover-fleet")
                return read(raw, endpoint.service, endpoint.url, registered=endpoint.process)
            except _Refused as exc:
                trouble = str(exc)
            except Malformed as exc:
                trouble = f"answers something else: {exc}"
            except (OSError, http.client.HTTPException, ValueError) as exc:
                trouble = f"no answer: {getattr(exc, 'strerror', None) or str(exc) or type(exc).__name__}"
        return self._unknown(endpoint, shown(trouble))

    @staticmethod
    def _unknown(endpoint: Endpoint, trouble: str) -> Row:
        return Row(endpoint.process or endpoint.instance or endpoint.url, endpoint.url, trouble)

    def _get(self, line: _Line) -> bytes:
        with closing(line.open(self._context)) as connection:
            connection.request("GET", self._path, headers=dict(self._headers))
            with connection.getresponse() as response:
                # A failing instance answers 503 with the same document.
                if response.status not in (200, 503):
                    raise _Refused(f"answers {response.status}")
                raw = response.read(MOST + 1)
        if len(raw) > MOST:
            raise _Refused(f"answers more than {MOST // 1024} KiB")
        return raw


class _Line:
    """A connection that one thread uses and another may cut at any time."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in _PORTS or not parts.hostname:
            raise ValueError(url)
        self._connection = http.client.HTTPConnection(parts.hostname, parts.port or _PORTS[parts.scheme])
        self._tls = parts.scheme == "https"
        self._lock = threading.Lock()
        self._closed = False
        self._handle: socket.socket | None = None

    def open(self, context: ssl.SSLContext) -> http.client.HTTPConnection:
        """Connect, if it has not been closed meanwhile."""
        host, port = self._connection.host, self._connection.port
        sock = socket.create_connection((host, port), timeout=TIMEOUT)
        with self._lock:
            if self._closed:
                sock.close()
                raise TimeoutError
            # A handle of its own: the reader may have closed, detached or wrapped the socket.
            self._handle = sock.dup()
        self._connection.sock = context.wrap_socket(sock, server_hostname=host) if self._tls else sock
        return self._connection

    def close(self) -> None:
        """Cut the connection, which wakes the thread that waits."""
        with self._lock:
            self._closed = True
            if self._handle is not None:
                with suppress(OSError):
                    self._handle.shutdown(socket.SHUT_RDWR)
                self._handle.close()
