"""How long a follower of an election's record may take its holder for the leader.

The holder trusts its record from when a renewal was *sent*, for ttl minus margin. A follower knows when it has
*seen* that renewal: later, by what one attempt at a renewal may take. So a follower stops that much earlier: a
request after the holder's own deadline would reach a process that does not lead any more.
"""

from __future__ import annotations

import math
from typing import Protocol

from tideover.elections.rules.candidate import margin_of

# Seconds between a renewal that is sent and the same renewal seen: one attempt at one member.
_ON_ITS_WAY = 1.0


class Written(Protocol):
    """What a record says."""

    @property
    def holder(self) -> str:
        """Who holds it; empty if nobody ever has."""
        ...

    @property
    def vacant(self) -> bool:
        """Whether its holder has given it up."""
        ...

    @property
    def entered(self) -> bool:
        """Whether its holder is in office."""
        ...

    @property
    def policy(self) -> str:
        """What its holder does in an outage."""
        ...

    @property
    def ttl(self) -> float:
        """Seconds for which a renewal holds."""
        ...

    @property
    def limit(self) -> float:
        """Seconds for which its holder may be confirmed by others without a renewal; 0 if it never is."""
        ...


def led_until(written: Written | None, seen_at: float) -> float:
    """Return until when the holder of a record, first seen at `seen_at`, may be leading, on the same clock.

    Returns:
        Minus infinity if the record names no leader; infinity if only another record ends the term, as under
        `"stay"`.
    """
    if written is None or written.vacant or not written.holder or not written.entered:
        return -math.inf
    if written.policy == "stay":
        return math.inf
    renewed = written.ttl - margin_of(written.ttl) - _ON_ITS_WAY
    return seen_at + max(renewed, written.limit)
