"""What becomes of a lock in an outage, and of a local one after it: pure.

A definite no is never answered with a local lock: whoever's key is gone has lost. A lock that is LOCAL does not
outlive the outage either: it becomes DISTRIBUTED, or it is in conflict.
"""

from __future__ import annotations

from enum import StrEnum


class Fate(StrEnum):
    """What becomes of a distributed grant that its session does not vouch for any more.

    Attributes:
        TURN_LOCAL: It goes on as LOCAL.
        LOST: It is over.
    """

    TURN_LOCAL = "turn_local"
    LOST = "lost"


def fate(*, definite: bool, may_be_local: bool, away: bool) -> Fate:
    """Say what becomes of a distributed grant at the end of its trust.

    Args:
        definite: Whether that is for good: the key or the session is gone.
        may_be_local: Whether the holder asked for `on_outage="local"`.
        away: Whether etcd was found to be away, be it declared or not yet; a leader change does not count. A
            deadline that passes without that means that this process or machine stood still, and others may have
            taken the lock in full order.
    """
    return Fate.TURN_LOCAL if may_be_local and away and not definite else Fate.LOST


class Verdict(StrEnum):
    """What becomes of a local grant after the outage.

    Attributes:
        KEPT: The key is still there and first: DISTRIBUTED again, with the same token.
        TAKEN: A new key is first: DISTRIBUTED, with a new token.
        CONFLICT: Somebody else has it.
    """

    KEPT = "kept"
    TAKEN = "taken"
    CONFLICT = "conflict"


def verdict(*, own: int, first: int, before: int | None) -> Verdict:
    """Say what becomes of a local grant, once the lease of its key is proven.

    Args:
        own: The create revision of our key in the queue now.
        first: The create revision of the first key there.
        before: The create revision under which the lock was DISTRIBUTED before; None if it never was.
    """
    if first != own:
        return Verdict.CONFLICT
    return Verdict.KEPT if own == before else Verdict.TAKEN
