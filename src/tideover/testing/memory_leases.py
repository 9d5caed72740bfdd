"""The leases of a `MemoryStore`, as etcd's leader keeps them: docs/explanation/leases-and-deadlines.md."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

# etcd grants no less: one and a half election timeouts, rounded up.
_LEAST_TTL = 2


@dataclass(slots=True)
class MemoryLease:
    """One lease."""

    ttl: int
    expires_at: float
    keys: set[bytes] = field(default_factory=set)


class MemoryLeases:
    """Leases that end by the clock while there is a leader, and start over after an election."""

    def __init__(self) -> None:
        self.by_id: dict[int, MemoryLease] = {}
        self._by_key: dict[bytes, int] = {}
        self._frozen = False

    @property
    def next_expiry(self) -> float:
        """When the next lease ends unless renewed; infinite if none will."""
        return math.inf if self._frozen else min((le.expires_at for le in self.by_id.values()), default=math.inf)

    def grant(self, lease: int, ttl: int, now: float) -> int:
        """Make a lease; return the TTL it got."""
        ttl = max(ttl, _LEAST_TTL)
        self.by_id[lease] = MemoryLease(ttl, now + ttl)
        return ttl

    def renew(self, lease: int, now: float) -> int:
        """Renew a lease; return its TTL, or 0 if it is gone."""
        found = self.by_id.get(lease)
        if found is None:
            return 0
        found.expires_at = now + found.ttl
        return found.ttl

    def of(self, key: bytes) -> int:
        """Return the lease that a key is attached to; 0 for none."""
        return self._by_key.get(key, 0)

    def attach(self, key: bytes, lease: int) -> None:
        """Attach a key to a lease; 0 detaches it."""
        before = self.by_id.get(self._by_key.pop(key, 0))
        if before is not None:
            before.keys.discard(key)
        if lease:
            self.by_id[lease].keys.add(key)
            self._by_key[key] = lease

    def freeze(self) -> None:
        """Stop the clock until there is a leader again."""
        self._frozen = True

    def advance(self, now: float, *, has_leader: bool) -> list[int]:
        """Return the leases that have ended by `now`.

        Without a leader leases stand still; the next leader gives all of them their full time.
        """
        if not has_leader:
            self.freeze()
            return []
        if self._frozen:
            self._frozen = False
            for lease in self.by_id.values():
                lease.expires_at = now + lease.ttl
        return [lease for lease, found in self.by_id.items() if found.expires_at <= now]
