"""Flow control: how much may be sent, and when the peer is told that it may send more. RFC 9113, section 5.2."""

from __future__ import annotations

from tideover.etcd.http2.frames import MOST_WINDOW, Broken, ErrorCode

DEFAULT_WINDOW = 65_535
# What the peer may send of one call, and of all together, before it is told to go on.
STREAM_WINDOW = 1 << 20
CONNECTION_WINDOW = 1 << 22


def grown(window: int, increment: int) -> int:
    """Return a window for sending after WINDOW_UPDATE.

    Raises `Broken` if the window grows by nothing, or beyond what HTTP/2 allows.
    """
    if not increment:
        raise Broken("invalid window update bytes: 0")
    if window + increment > MOST_WINDOW:
        raise Broken("window overflow", ErrorCode.FLOW_CONTROL_ERROR)
    return window + increment


def shifted(window: int, before: int, after: int) -> int:
    """Return the window of an open stream after SETTINGS has changed what streams begin with: it may be negative.

    Raises `Broken` if the window grows beyond what HTTP/2 allows.
    """
    window += after - before
    if window > MOST_WINDOW:
        raise Broken("window overflow", ErrorCode.FLOW_CONTROL_ERROR)
    return window


class ReceiveWindow:
    """How much the peer may still send, as the peer knows; at most `size` is held and not given back."""

    __slots__ = ("_free", "_left", "_size")

    def __init__(self, size: int) -> None:
        self._size = self._left = size
        self._free = 0

    def take(self, amount: int) -> None:
        """Record what has arrived; raise `Broken` if the peer was not allowed to send so much."""
        self._left -= amount
        if self._left < 0:
            raise Broken("flow control window exceeded", ErrorCode.FLOW_CONTROL_ERROR)

    def give_back(self, amount: int) -> int:
        """Record what is held no more; return by how much to raise the peer's window now, mostly by nothing.

        The peer is told when half the window has gathered: one frame for thousands of small replies.
        """
        self._free += amount
        if self._free * 2 < self._size:
            return 0
        increment, self._free = self._free, 0
        self._left += increment
        return increment
