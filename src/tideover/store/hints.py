"""Where to look, from the words of an error: what its reader may not know of TLS, proxies and quotas."""

from __future__ import annotations

TLS_HINT = " (a TLS configuration error, here or at etcd: see ca, cert, key and server_name)"
HTTP_HINT = " (not etcd's answer: that of a proxy before it, or of another server)"
TOO_LARGE_HINT = " (not etcd's limit: that of a proxy before it, such as nginx with its client_max_body_size)"
NO_GRPC_HINT = " (what answers there speaks no gRPC: is it etcd's client port?)"

# (part of the message, what is added to it); the first match wins.
_HINTS: tuple[tuple[str, str], ...] = (
    # Silence until our own patience ended: no more a matter of TLS than any other.
    ("handshake read failed (endpoint closing)", ""),
    ("tls handshake failed", TLS_HINT),
    ("ssl handshake failed", TLS_HINT),
    # A server that hung up on the handshake: one that speaks no TLS.
    ("handshake read failed", TLS_HINT),
    # With TLS 1.3 a server refuses a client's certificate only after the handshake.
    ("unwrap failed (tsi_", TLS_HINT),
    ("verification check failed", TLS_HINT),
    ("does not match ssl server name", TLS_HINT),
    ("cannot check peer", TLS_HINT),
    ("http2 header with status: 413", TOO_LARGE_HINT),
    ("http2 header with status: ", HTTP_HINT),
    # A body without trailers: a page for people.
    ("data frame with end_stream flag received", HTTP_HINT),
    ("failed parsing http/2", NO_GRPC_HINT),
    ("database space exceeded", " (etcd's database quota is used up)"),
    ("corrupt cluster", " (etcd has found that its members' data differ)"),
)


def hint_of(message: str) -> str:
    """Return where to look, in brackets; empty where the message says it."""
    text = message.lower()
    return next((hint for part, hint in _HINTS if part in text), "")
