"""Which keys there are: a page at a time, by name, and never a value."""

from __future__ import annotations

import json

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import connected
from tideover import StalenessLimit
from tideover.config.keys import Keys
from tideover.config.listing import Listing
from tideover.prefixes.rules import Freshness
from tideover.prefixes.view import View
from tideover.testing import MemoryStore
from tideover.types import Entry, Source

pytestmark = pytest.mark.anyio

CANARY = "s3cret-canary"


async def test_a_page_of_keys() -> None:
    """The keys are in their order, some are skipped, and all that match are counted, as are all there are."""
    store = MemoryStore()
    store.rebuild({f"/shop/config/k/{n:04}".encode(): CANARY.encode() for n in range(1200)}, revision=2000)
    async with connected(store, namespace="/shop") as tide:
        page = tide.config_keys("k/07", skip=98, limit=5)
        assert [key.key for key in page.keys] == ["k/0798", "k/0799"]
        assert (page.skipped, page.matching, page.total) == (98, 100, 1200)
        first = page.keys[0]
        assert (first.etcd_key, first.prefix, first.source) == ("/shop/config/k/0798", "", Source.LIVE)
        assert len(tide.config_keys().keys) == 100
        assert len(tide.config_keys(limit=1000).keys) == 1000
        beyond = tide.config_keys(skip=5000)
        assert (beyond.keys, beyond.skipped) == ((), 1200)
        assert CANARY not in json.dumps(page.to_dict()) + repr(page)
        for skip, limit in ((-1, 1), (0, 0), (0, 1001)):
            with pytest.raises(ValueError, match="need skip >= 0 and limit from 1 to 1000"):
                tide.config_keys(skip=skip, limit=limit)


async def test_a_key_says_how_it_stands() -> None:
    """Its revision, source and age; what is refused, why, and what is served instead; and that it is too old."""
    store = MemoryStore()
    async with connected(store, namespace="/shop", limits={"a/": StalenessLimit(60.0, "raise")}) as tide:
        written = await tide.config.put("a/rate", 5)
        await tide.config.put("b", 1)
        tide.config.get("a/rate", int)
        refused = await tide.config.put("a/rate", CANARY)
        rate, b = tide.config_keys().keys
        assert (rate.revision, rate.refused, rate.reason) == (written.revision, refused.revision, "not an integer")
        assert (b.refused, b.reason, b.over) == (None, None, False)
        (rejected,) = tide.status().rejected
        assert (rejected.key, rejected.etcd_key) == ("a/rate", "/shop/config/a/rate")
        assert rejected.served == written.revision
        assert CANARY not in json.dumps(tide.status().to_dict())
        store.down = set(store.members)
        store.touch()
        await anyio.sleep(90)
        rate, b = tide.config_keys().keys
        assert (rate.source, rate.over, b.over) == (Source.MEMORY, True, False)
        assert rate.age > 80
        (over,) = tide.status().limits
        assert (over.prefix, over.over, over.keys, over.then) == ("a/", True, 1, "raises TooStale")
        assert (tide.status().keys, tide.status().keys_served) == (2, 1)


async def test_the_list_follows_what_changes() -> None:
    """A key that comes or goes is there, or not, on the next page."""
    store = MemoryStore()
    async with connected(store, follow=("b/", "a/")) as tide:
        assert tide.config_keys().keys == ()
        await tide.config.put("b/1", "x")
        await tide.config.put("a/1", "x")
        assert [(key.prefix, key.key) for key in tide.config_keys().keys] == [("a/", "a/1"), ("b/", "b/1")]
        await tide.config.delete("b/1")
        assert [key.key for key in tide.config_keys().keys] == ["a/1"]


NAMES = st.text(st.sampled_from("ab/\U0010ffff\udc80"), max_size=4)


@given(
    names=st.frozensets(NAMES.filter(bool), max_size=12),
    limits=st.frozensets(NAMES, max_size=4),
)
def test_keys_are_counted_by_their_limits(names: frozenset[str], limits: frozenset[str]) -> None:
    """Each key counts for the longest prefix that has a limit, and for no other, whatever its characters."""
    entries = {f"/config/{name}".encode(errors="surrogateescape"): Entry(b"", 1, 1) for name in names}
    view = View.__new__(View)
    view.entries, view.freshness = entries, Freshness(7)
    given_limits = {prefix: StalenessLimit(60.0) for prefix in limits}
    listing = Listing(Keys("/config/", [view]), {"": view}, limits=given_limits)
    for prefix in limits:
        mine = [name for name in names if listing.limit_of(name) == prefix]
        assert listing.count(prefix) == len(mine)
