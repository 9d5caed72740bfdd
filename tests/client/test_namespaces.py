"""What is said of the other spelling of a namespace, what that costs, and how namespaces are found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import pytest

from tests.support import connected
from tests.support import mock_backend as anyio_backend
from tideover import Unavailable
from tideover.client.namespaces import Passed, Tree
from tideover.coordinator.coordinator import Coordinator
from tideover.store.operations import Op, Put, Range
from tideover.testing import FaultyStore, MemoryStore
from tideover.types import HealthState

__all__ = ["anyio_backend"]

pytestmark = pytest.mark.anyio


async def fill(store: MemoryStore, *keys: str) -> None:
    """Write keys behind tideover's back."""
    for key in keys:
        await store.call(Put(key.encode(), b"1"), member=store.members[0], timeout=1)


def watched(store: MemoryStore, matches: Callable[[Range], bool]) -> tuple[FaultyStore, list[Range]]:
    """Return the store, and a list that gets each matching read."""
    faulty, seen = FaultyStore(store), []

    def note(op: Op[Any]) -> bool:
        if isinstance(op, Range) and matches(op):
            seen.append(op)
        return False

    faulty.inject("UNAVAILABLE", when=note)
    return faulty, seen


def to_the_other(op: Range) -> bool:
    """Whether a read is of `/shop`."""
    return op.key.startswith(b"/shop/")


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the warnings about a misspelled namespace."""
    return [r.getMessage() for r in caplog.records if "namespace.misspelled" in r.getMessage()]


# A service that finds nothing ----------------------------------------------------------------------------------


async def test_a_service_that_finds_nothing_names_the_other_spelling(caplog: pytest.LogCaptureFixture) -> None:
    """With no key under `shop` one read of one key is made, and a WARNING says what is under `/shop`."""
    store = MemoryStore()
    await fill(store, *(f"/shop/config/k{n}" for n in range(2000)))
    faulty, asked = watched(store, to_the_other)
    async with connected(faulty, namespace="shop") as tide:
        await anyio.sleep(1000)
        assert tide.status().config[0].keys == 0
    assert [(op.key, op.end, op.limit, op.keys_only) for op in asked] == [
        (b"/shop/config/", b"/shop/config0", 1, True)
    ]
    (line,) = told(caplog)
    assert "no key under 'shop/config/', but it has '/shop/config/k0': is namespace='/shop' meant?" in line
    assert {r.levelname for r in caplog.records if r.getMessage() == line} == {"WARNING"}


@pytest.mark.parametrize(
    ("namespace", "keys"), [("shop", ["shop/config/a", "/shop/config/a"]), ("shop", []), ("", ["/shop/config/a"])]
)
async def test_nothing_is_said_where_nothing_is_wrong(
    namespace: str, keys: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    """Who has found a key does not ask; where nobody has any, or there is no namespace, nothing is said."""
    store = MemoryStore()
    await fill(store, *keys)
    faulty, asked = watched(store, to_the_other)
    async with connected(faulty, namespace=namespace):
        await anyio.sleep(100)
    assert len(asked) == (not keys)
    assert told(caplog) == []


async def test_a_service_without_endpoints_under_one_spelling_is_named_under_the_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The same holds for the endpoints of a service that is followed; the question is about that service."""
    store = MemoryStore()
    await fill(store, "shop/config/a", "/shop/services/api/i/x", "/shop/services/zzz/i/x")
    faulty, asked = watched(store, to_the_other)
    async with connected(faulty, namespace="shop") as tide:
        for name in ("api", "billing"):
            await tide.discover(name).wait_for(0, timeout=5)
        await anyio.sleep(100)
    assert sorted(op.key for op in asked) == [b"/shop/services/api/", b"/shop/services/billing/"]
    (line,) = told(caplog)
    assert "'/shop/services/api/i/x'" in line


async def test_a_refusal_is_silent_and_asked_once(caplog: pytest.LogCaptureFixture) -> None:
    """A user who may not read the other spelling hears nothing of it, and is asked nothing again."""
    store = MemoryStore()
    await fill(store, "/shop/config/a")
    faulty = FaultyStore(store)
    refused = []

    def of_the_other(op: Op[Any]) -> bool:
        if isinstance(op, Range) and to_the_other(op):
            refused.append(op)
            return True
        return False

    faulty.inject("PERMISSION_DENIED", "etcdserver: permission denied", times=9, when=of_the_other)
    async with connected(faulty, namespace="shop") as tide:
        await anyio.sleep(1000)
        assert tide.health.state is HealthState.AVAILABLE
        assert "Config 'shop/config/' is live." in tide.status().sentence
    assert len(refused) == 1
    assert [r.getMessage() for r in caplog.records if r.levelname in ("WARNING", "ERROR")] == []


async def test_the_question_delays_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """With no answer to it the start takes no longer, changes arrive, and nothing is said."""
    store = MemoryStore()
    await fill(store, "/shop/config/a")
    faulty = FaultyStore(store)
    faulty.inject("", times=99, when=lambda op: isinstance(op, Range) and to_the_other(op))
    began = anyio.current_time()
    async with connected(faulty, namespace="shop", require="config", start_timeout=30.0) as tide:
        assert anyio.current_time() - began < 0.5
        await fill(store, "shop/config/late")
        with anyio.fail_after(0.5):
            while tide.config.get("late", default=None) is None:
                await anyio.sleep(0.01)
        await anyio.sleep(100)
        assert tide.health.state is HealthState.AVAILABLE
    assert told(caplog) == []


async def test_in_an_outage_nobody_asks(caplog: pytest.LogCaptureFixture) -> None:
    """A start in an outage asks when etcd is back and has been read, not before."""
    store = MemoryStore()
    await fill(store, "/shop/config/a")
    store.down = set(store.members)
    faulty, asked = watched(store, to_the_other)
    async with connected(faulty, namespace="shop") as tide:
        await anyio.sleep(100)
        assert (asked, await tide.namespaces.find_misspelled("config/"), asked) == ([], None, [])
        store.down = set()
        store.touch()
        await tide.health.wait_for(HealthState.AVAILABLE)
        await anyio.sleep(5)
    assert (len(asked), len(told(caplog))) == (1, 1)


async def test_without_a_quorum_nobody_asks_either(caplog: pytest.LogCaptureFixture) -> None:
    """A surviving member's word is no reason: it may have missed all keys."""
    store = MemoryStore()
    await fill(store, "/shop/config/a")
    store.down = set(store.members[:2])
    faulty, asked = watched(store, to_the_other)
    async with connected(faulty, namespace="shop") as tide:
        await anyio.sleep(100)
        assert tide.health.state is HealthState.DEGRADED
    assert (asked, told(caplog)) == ([], [])


# Walking from namespace to namespace ---------------------------------------------------------------------------


async def walk(tide: Coordinator, prefix: str = "") -> list[Tree | Passed]:
    """Return all that a walk finds."""
    return [each async for each in tide.namespaces.walk(prefix)]


async def test_a_walk_costs_a_read_of_one_key_for_each_tree() -> None:
    """3,000 keys in three namespaces, one within another's folder, are found by a read for each of their trees."""
    store = MemoryStore()
    for n in range(1000):
        await fill(store, f"/shop/config/k{n}", f"shop/config/k{n}", f"/shop/eu/services/api/{n}/x")
    await fill(store, "/shop/locks/orders/5f", "/shop/tideover/epoch", "/config/a")
    faulty, reads = watched(store, lambda op: op.limit == 1 and op.keys_only)
    async with connected(faulty, follow=(), bookkeeping=False) as tide:
        reads.clear()
        found = await walk(tide)
    assert found == [
        Tree("", "config"),
        Tree("/shop", "config"),
        Tree("/shop/eu", "services"),
        Tree("/shop", "locks"),
        Tree("/shop", "tideover"),
        Tree("shop", "config"),
    ]
    assert len([op for op in reads if op.end == b"\0"]) == 7


async def test_a_walk_below_a_prefix_stays_there() -> None:
    """A prefix bounds what is looked at, also where it ends within a tree."""
    store = MemoryStore()
    await fill(store, "/shop/config/a", "/shop/config/z", "/shopping/config/a", "/zoo/config/a")
    async with connected(store, follow=(), bookkeeping=False) as tide:
        assert await walk(tide, "/shop/") == [Tree("/shop", "config")]
        assert await walk(tide, "/shop/config/b") == []
        assert await walk(tide, "/shop/config/") == [Tree("/shop", "config")]


async def test_keys_of_others_are_passed_over_and_told() -> None:
    """Folders of other programs cost a few reads each, and are told; what is among them is found."""
    store = MemoryStore()
    await fill(
        store, *(f"/registry/pods/{n}/x" for n in range(100)), "/teams/a/b/c", "/teams/shop/config/x", "zed"
    )
    async with connected(store, follow=(), bookkeeping=False) as tide:
        found = await walk(tide)
    trees = [each for each in found if isinstance(each, Tree)]
    assert trees == [Tree("/teams/shop", "config")]
    assert Passed("/registry/") in found
    assert Passed("/teams/a/b/") in found
    assert len(found) < 15


async def test_a_namespace_in_which_others_have_keys_too_is_found() -> None:
    """Whatever stands before, between and behind its trees, each of them is found, and once."""
    store = MemoryStore()
    await fill(store, "/shop/app-version", "/shop/config/a", "/shop/kept/x", "/shop/locks/a/1", "/shop/zone")
    await fill(store, "/data/config/a", "/data/every", "/data/services/api/1/x")
    await fill(store, *(f"/many/{n:02}/x" for n in range(20)), "/many/tideover/epoch")
    async with connected(store, follow=(), bookkeeping=False) as tide:
        found = await walk(tide)
    assert [each for each in found if isinstance(each, Tree)] == [
        Tree("/data", "config"),
        Tree("/data", "services"),
        Tree("/many", "tideover"),
        Tree("/shop", "config"),
        Tree("/shop", "locks"),
    ]


async def test_a_walk_ends_among_too_many_keys_of_others() -> None:
    """However many keys of others there are, the reads are bounded, and it is said where the walk stopped."""
    store = MemoryStore()
    await fill(store, *(f"/{n:04}/x" for n in range(400)))
    faulty, reads = watched(store, lambda op: op.limit == 1)
    async with connected(faulty, follow=(), bookkeeping=False) as tide:
        reads.clear()
        found = await walk(tide)
    assert found[-1] == Passed("/0256/x", rest=True)
    assert len([op for op in reads if op.end == b"\0"]) == 257


async def test_in_an_outage_a_walk_raises() -> None:
    """An outage is no empty list."""
    store = MemoryStore()
    store.down = set(store.members)
    async with connected(store, follow=(), bookkeeping=False) as tide:
        with pytest.raises(Unavailable):
            await walk(tide)
