"""What is kept of keys that are not followed: so many answers, and those longest unused go first."""

from __future__ import annotations

from tideover.clock import Clock
from tideover.config.fetch_cache import OnDemandCache
from tideover.policies import CachePolicy
from tideover.types import Entry


def test_the_answer_that_was_used_longest_ago_goes() -> None:
    """Keeping and serving an answer both count as use."""
    clock = Clock()
    cache, now = OnDemandCache(CachePolicy(max_entries=2), clock=clock), clock.monotonic()
    entries = {name: Entry(name, 1, 1) for name in (b"a", b"b", b"c")}
    cache.keep(b"a", entries[b"a"], now)
    cache.keep(b"b", entries[b"b"], now)
    assert cache.last(b"a") is not None
    cache.keep(b"c", entries[b"c"], now)
    assert [cache.last(name) is not None for name in entries] == [True, False, True]


def test_an_older_answer_replaces_no_newer_one() -> None:
    """Of two answers that cross, the one asked for later stays."""
    clock = Clock()
    cache, now = OnDemandCache(CachePolicy(), clock=clock), clock.monotonic()
    cache.keep(b"a", None, now)
    cache.keep(b"a", Entry(b"old", 1, 1), now - 1.0)
    known = cache.last(b"a")
    assert known is not None
    assert known.entry is None
