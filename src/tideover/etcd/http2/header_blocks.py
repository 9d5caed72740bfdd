"""Header blocks of requests: HPACK (RFC 7541) without a dynamic table: each is a constant and some parts."""

from __future__ import annotations

from collections.abc import Iterable

# Names and pairs of HPACK's static table.
_AUTHORITY, _PATH, _CONTENT_TYPE, _USER_AGENT = 1, 4, 31, 58
_POST, _HTTP, _HTTPS = b"\x83", b"\x86", b"\x87"
# A literal that nobody on the way may index, with a name of its own.
_NEVER = 0x10

# gRPC's units for time-outs, of which there are eight digits at the most.
_MOST = 10**8
_UNITS = ((1_000_000, "u"), (1_000, "m"), (1, "S"))


def integer(value: int, bits: int, first: int = 0) -> bytes:
    """Return a number as HPACK writes it: with `bits` bits of the first byte, whose other bits are `first`."""
    most = (1 << bits) - 1
    if value < most:
        return bytes((first | value,))
    parts = bytearray((first | most,))
    value -= most
    while value >= 0x80:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def literal(name: int | bytes, value: bytes, *, first: int = 0) -> bytes:
    """Return a header that is not indexed; its name is a number of the static table, or text in small letters."""
    named = integer(name, 4, first) if isinstance(name, int) else bytes((first,)) + integer(len(name), 7) + name
    return named + integer(len(value), 7) + value


def request_start(path: str, *, authority: str, secure: bool, agent: str) -> bytes:
    """Return what all requests of a method have in common: pseudo-headers, which come first, and gRPC's own."""
    return b"".join(
        (
            _POST,
            _HTTPS if secure else _HTTP,
            literal(_PATH, path.encode()),
            literal(_AUTHORITY, authority.encode()),
            literal(b"te", b"trailers"),
            literal(_CONTENT_TYPE, b"application/grpc"),
            literal(_USER_AGENT, agent.encode()),
        )
    )


def metadata_block(metadata: Iterable[tuple[str, str]]) -> bytes:
    """Return metadata; nobody on the way may keep it in a table, because some of it is secret."""
    return b"".join(literal(name.encode(), value.encode(), first=_NEVER) for name, value in metadata)


_TIMEOUT = literal(b"grpc-timeout", b"")[:-1]


def timeout_block(seconds: float) -> bytes:
    """Return how long the server may take: never less than was asked for; nothing if that is years."""
    for per_second, unit in _UNITS:
        amount = int(seconds * per_second) + 1
        if amount < _MOST:
            value = f"{amount}{unit}".encode()
            return _TIMEOUT + bytes((len(value),)) + value
    return b""
