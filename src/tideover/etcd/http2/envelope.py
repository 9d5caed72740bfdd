"""gRPC's messages within a stream of bytes: a flag, a length, the message."""

from __future__ import annotations

from struct import Struct

from tideover.etcd.http2.status import Failure, StatusCode

_PREFIX = Struct(">BI")
PREFIX = _PREFIX.size
# Larger ones are nonsense: protobuf has no such messages.
_MOST = 2**31 - 1


def wrapped(message: bytes) -> bytes:
    """Return a message as it is sent."""
    return _PREFIX.pack(0, len(message)) + message


class Unwrapper:
    """Finds the messages in what has arrived; `held` counts bytes of a message that is not complete yet."""

    __slots__ = ("_largest", "_parts", "_wanted", "held")

    def __init__(self, largest: int) -> None:
        self._largest = largest
        self._parts: list[bytes] = []
        self._wanted = PREFIX
        self.held = 0

    def feed(self, data: bytes) -> list[bytes]:
        """Return the messages that are complete now.

        Raises `Failure` if one is too large, or compressed, which this side never asks for.
        """
        self._parts.append(data)
        self.held += len(data)
        # Joined when there is something to find: a large message comes in hundreds of parts.
        if self.held < self._wanted:
            return []
        data = b"".join(self._parts)
        messages: list[bytes] = []
        begin = 0
        while True:
            self._wanted = _wanted(data, begin, self._largest)
            if len(data) - begin < self._wanted:
                break
            end = begin + self._wanted
            messages.append(data[begin + PREFIX : end])
            begin = end
        rest = data[begin:]
        self._parts, self.held = [rest], len(rest)
        return messages


def _wanted(data: bytes, begin: int, largest: int) -> int:
    """Return how many bytes the message that begins there has, prefix included, as far as that is known."""
    if len(data) - begin < PREFIX:
        return PREFIX
    compressed, size = _PREFIX.unpack_from(data, begin)
    if compressed:
        raise Failure(StatusCode.INTERNAL, "Compression bit set but no encoding configured")
    if size > _MOST:
        raise Failure(StatusCode.INTERNAL, f"Stream removed (a message of {size} bytes was announced)")
    if size > largest:
        raise Failure(
            StatusCode.RESOURCE_EXHAUSTED,
            f"CLIENT: Received message larger than max ({size} vs. {largest})",
        )
    return PREFIX + int(size)
