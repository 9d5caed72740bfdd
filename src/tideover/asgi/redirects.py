"""Redirects a client to the leader: only to the leader's advertised address, and never in a circle.

The address comes from the election's record, which any candidate writes, and the path from the client. Neither may
turn the two together into another place than the leader's.
"""

from __future__ import annotations

from contextlib import suppress
from urllib.parse import SplitResult, quote, urlsplit

from starlette.datastructures import Headers
from starlette.types import Scope

from tideover.addresses import is_wildcard, same_host

_LONGEST = 2000
_PORTS = {"http": 80, "https": 443}
# What may stand in a path and in a query: by RFC 3986, and the brackets that all send.
_PATH = "/:@!$&'()*+,;=~[]"
# Escapes that are there already stay.
_ESCAPED = _PATH + "%"


def location(address: str, scope: Scope) -> str | None:
    """Return the leader's address with the request's path and query.

    None if the address is empty, is no base of an `http` or `https` URL, or is where this request arrived.
    """
    base = _base(address)
    if base is None or _origin(base) in _own_origins(scope):
        return None
    # Without the slash the path would be a part of the host's name.
    whole = address.rstrip("/") + "/" + _path(scope).removeprefix("/")
    query = quote(scope.get("query_string", b""), safe=_ESCAPED + "?")
    return f"{whole}?{query}" if query else whole


def _path(scope: Scope) -> str:
    """Return a request's path as the client sent it, without the prefix that the server added.

    With `--root-path` uvicorn adds one, for proxies that strip it; the leader's server adds it again. What
    Starlette adds to `root_path` for its mounts is the client's, and `app_root_path` is the value before.
    """
    raw = scope.get("raw_path")
    path = quote(raw, safe=_ESCAPED) if raw else quote(scope["path"], safe=_PATH, errors="replace")
    root = quote(scope.get("app_root_path", scope.get("root_path", "")), safe=_PATH)
    return path[len(root) :] if path == root or path.startswith(f"{root}/") else path


def _base(address: str) -> SplitResult | None:
    """Return the parts of a base URL; None for anything else."""
    if len(address) > _LONGEST or any(not 32 < ord(c) < 127 or c == "\\" for c in address):
        return None
    try:
        parts = urlsplit(address)
        usable = parts.scheme in _PORTS and parts.hostname and not is_wildcard(parts.hostname) and parts.port != 0
    except ValueError:
        return None
    return parts if usable and "@" not in parts.netloc and not {"?", "#"} & set(address) else None


def _origin(parts: SplitResult) -> tuple[str, str]:
    return same_host(parts.hostname or ""), str(parts.port or _PORTS[parts.scheme])


def _own_origins(scope: Scope) -> set[tuple[str, str]]:
    """Return where a request arrived: by the client's `Host` and by the server's address."""
    found: set[tuple[str, str]] = set()
    server = scope.get("server")
    if server and server[1]:
        # Granian gives the port as a string.
        found.add((same_host(server[0].lower()), str(server[1])))
    with suppress(ValueError):
        parts = urlsplit(f"//{Headers(scope=scope).get('host', '')}")
        # Behind a proxy that ends TLS the server need not know whether it was http or https.
        ports = _PORTS.values() if parts.port is None else [parts.port]
        found.update((same_host(parts.hostname or ""), str(port)) for port in ports)
    return found
