"""The lease ids of one coordinator: they begin alike, and so do the keys that are named after them.

Of 63 random bits 31 are drawn once, when the coordinator is entered, and a counter goes on from the others. So the
anchors of one coordinator stand next to each other in etcd, in the order in which their sessions were opened, and
are found by one prefix that no other coordinator has.
"""

from __future__ import annotations

import os
from collections.abc import Callable

# Of 16 hexadecimal digits, so that a prefix is one: the first is not 0, and etcd's ids are positive.
_DIGITS = 8
_LEAST, _MANY = 0x1000_0000, 0x7000_0000


class LeaseIds:
    """Draws lease ids; `random` returns so many random bytes."""

    __slots__ = ("_next", "_owner", "prefix")

    def __init__(self, random: Callable[[int], bytes] = os.urandom) -> None:
        self._owner = _LEAST + int.from_bytes(random(4)) % _MANY
        self._next = int.from_bytes(random(4))
        self.prefix = f"{self._owner:0{_DIGITS}x}"  # the hexadecimal digits that all ids begin with

    def draw(self) -> int:
        """Return an id that was not drawn before."""
        drawn = self._owner << 32 | self._next
        self._next = (self._next + 1) & 0xFFFF_FFFF
        return drawn
