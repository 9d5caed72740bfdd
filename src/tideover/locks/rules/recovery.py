"""What becomes of a lock in an outage, and of a LOCAL one after the outage: pure.

A definite no is never answered with a LOCAL lock: a holder whose key is gone has lost the lock. And no LOCAL lock
outlives the outage: it turns DISTRIBUTED, or it is in conflict.
"""

from __future__ import annotations

from enum import StrEnum


class Fate(StrEnum):
    """What becomes of a DISTRIBUTED grant whose session may not be relied upon any more."""

    TURN_LOCAL = "turn_local"
    LOST = "lost"


def fate(*, definite: bool, may_be_local: bool, away: bool) -> Fate:
    """Decide what becomes of a DISTRIBUTED grant.

    Args:
        definite: Whether the key or the session is gone for good.
        may_be_local: Whether the holder asked for `on_outage="local"`, and has the host lock.
        away: Whether etcd was found to be away, be it declared or not yet; a leader change does not count. A
            deadline that passes without that means that this process or machine stood still, and others may have
            taken the lock in full order.
    """
    return Fate.TURN_LOCAL if may_be_local and away and not definite else Fate.LOST


class Verdict(StrEnum):
    """What becomes of a LOCAL grant after the outage.

    `KEPT`: the key is still there and first: DISTRIBUTED again, with the same token. `TAKEN`: a new key is first:
    DISTRIBUTED, with a new token. `CONFLICT`: another client has the lock.
    """

    KEPT = "kept"
    TAKEN = "taken"
    CONFLICT = "conflict"


def verdict(*, own: int, first: int, before: int | None) -> Verdict:
    """Decide what becomes of a LOCAL grant, once the lease of its key is proven.

    All are create revisions: `own` of our key in the queue now, `first` of the first key there, `before` of the
    key by which the lock was DISTRIBUTED before, None if it never was.
    """
    if first != own:
        return Verdict.CONFLICT
    return Verdict.KEPT if own == before else Verdict.TAKEN
