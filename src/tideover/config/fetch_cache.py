"""The last known values of keys that are not followed: a bounded cache whose entries grow stale, not void."""

from __future__ import annotations

from typing import NamedTuple

from cachetools import LRUCache

from tideover.clock import Clock
from tideover.policies import CachePolicy
from tideover.types import Entry


class Known(NamedTuple):
    """The last answer about a key: `entry` is None if the key was absent.

    `synced_at` is when the answer was proven in sync, in monotonic seconds.
    """

    entry: Entry | None
    synced_at: float


class OnDemandCache:
    """Answers about single keys."""

    def __init__(self, policy: CachePolicy, *, clock: Clock) -> None:
        self._policy = policy
        self._clock = clock
        # Without a timer: each read checks the age of its entry, and old entries are evicted like others.
        # cachetools' own timers take longer than all the rest of a fetch that shares its call.
        self._known: LRUCache[bytes, Known] = LRUCache(policy.max_entries)

    def fresh(self, key: bytes) -> Known | None:
        """Return the last answer about a key, if it is fresh enough not to ask again."""
        return self._younger_than(self._policy.ttl, key) if self._policy.ttl else None

    def last(self, key: bytes) -> Known | None:
        """Return the last answer about a key that may be served while etcd is away."""
        return self._younger_than(self._policy.stale_if_error, key)

    def _younger_than(self, limit: float, key: bytes) -> Known | None:
        known = self._known.get(key)
        return None if known is None or self._clock.monotonic() - known.synced_at >= limit else known

    def keep(self, key: bytes, entry: Entry | None, synced_at: float) -> None:
        """Keep an answer, unless a newer one is known."""
        known = self._known.get(key)
        if known is None or known.synced_at <= synced_at:
            self._known[key] = Known(entry, synced_at)

    def forget(self, key: bytes) -> None:
        """Drop a key: this process has changed it."""
        self._known.pop(key, None)

    def clear(self) -> None:
        """Drop everything."""
        self._known.clear()
