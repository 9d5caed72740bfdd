"""What a namespace has in etcd, listed: in pages, from whoever can tell, and labelled so."""

from __future__ import annotations

import json

import pytest

from tests.support import connected
from tideover import InvalidRequest, Unavailable
from tideover.coordinator.coordinator import Coordinator
from tideover.fencing.token import fencing_token
from tideover.store.leases import LeaseGrant
from tideover.store.operations import Put, Range
from tideover.testing import MemoryStore
from tideover.types import HealthState, Source

pytestmark = pytest.mark.anyio


async def fill(store: MemoryStore, *keys: str, value: bytes = b"", lease: int = 0) -> None:
    """Write keys behind tideover's back."""
    for key in keys:
        put = Put(key.encode(errors="surrogateescape"), value, lease)
        await store.call(put, member=store.members[0], timeout=1)


def record(**more: object) -> bytes:
    """Return an election's record."""
    needed = {"needs": 1, "holder": "abc", "term": 1, "policy": "stay", "ttl": 5, "write": "w"}
    return json.dumps({**needed, **more}).encode()


async def lines(tide: Coordinator) -> dict[str, tuple[str, int]]:
    """Return the locks, each with its state and how many wait."""
    return {line.lock: (line.state, line.waiting) async for line in tide.catalog.locks()}


# Keys ----------------------------------------------------------------------------------------------------------


async def test_keys_are_read_in_pages_without_their_values() -> None:
    """2,500 keys are three reads of a thousand at the most, each once and in order; no value is asked for."""
    store = MemoryStore()
    names = sorted(f"k{number}" for number in range(2500))
    await fill(store, *(f"/shop/config/{name}" for name in names), "/shop/confiG/no", "/shop/config0")
    async with connected(store, namespace="/shop", follow=()) as tide:
        store.calls.clear()
        found = [each async for each in tide.catalog.config()]
        reads = [op for _, op in store.calls if isinstance(op, Range) and op.limit > 1]
    assert [each.key for each in found] == names
    assert {each.source for each in found} == {Source.QUORUM}
    assert [(op.limit, op.keys_only) for op in reads] == [(1000, True)] * 3


async def test_keys_begin_with_the_prefix_whatever_they_are_made_of() -> None:
    """A prefix is no folder; bytes that are no text come as `get` names them; a slash at the start is refused."""
    store = MemoryStore()
    await fill(store, "/config/pay", "/config/payments/a", "/config/pax", "/config/pay\udcff\n")
    async with connected(store, follow=()) as tide:
        assert [each.key async for each in tide.catalog.config("pay")] == ["pay", "payments/a", "pay\udcff\n"]
        with pytest.raises(InvalidRequest, match="write 'pay'"):
            _ = [each async for each in tide.catalog.config("/pay")]


async def test_without_a_quorum_a_member_goes_on_where_the_quorum_ended() -> None:
    """The quorum is lost between two pages: the rest is a surviving member's, labelled; without one it raises."""
    store = MemoryStore()
    await fill(store, *(f"/config/k{number:04}" for number in range(1500)))
    async with connected(store, follow=()) as tide:
        sources = []
        async for each in tide.catalog.config():
            sources.append(each.source)
            if len(sources) == 1000:
                store.down = set(store.members[:2])
                await tide.health.wait_for(HealthState.DEGRADED)
        assert sources == [Source.QUORUM] * 1000 + [Source.MEMBER] * 500
        store.down = set(store.members)
        await tide.health.wait_for(HealthState.UNAVAILABLE)
        with pytest.raises(Unavailable):
            _ = [each async for each in tide.catalog.config()]


# Elections -----------------------------------------------------------------------------------------------------


async def test_elections_have_their_own_tokens_however_names_sort() -> None:
    """`a-b` stands between `a` and its token; a token alone is no election; a foreign record says why."""
    store = MemoryStore()
    await fill(store, "/elections/a", "/elections/a-b", value=record())
    await fill(store, "/elections/a/token", "/elections/a-b/token", "/elections/gone/token")
    await fill(store, "/elections/odd", value=b"no record")
    async with connected(store, follow=()) as tide:
        found = {name: seen async for name, seen in tide.catalog.elections()}
    assert {name: seen.state for name, seen in found.items()} == {"a": "led", "a-b": "led", "odd": "corrupt"}
    assert [found[name].token - found[name].revision for name in ("a", "a-b")] == [2, 2]
    assert found["odd"].token == 0


async def test_elections_without_a_quorum_are_a_members() -> None:
    """Records and tokens come from a surviving member, and each says so; many are read in pages."""
    store = MemoryStore()
    names = [f"e{number:03}" for number in range(100)]
    await fill(store, *(f"/elections/{name}" for name in names), value=record())
    await fill(store, *(f"/elections/{name}/token" for name in names))
    async with connected(store, follow=()) as tide:
        store.down = set(store.members[:2])
        await tide.health.wait_for(HealthState.DEGRADED)
        found = {name: seen async for name, seen in tide.catalog.elections()}
    assert sorted(found) == names
    assert {(seen.source, seen.token - seen.revision) for seen in found.values()} == {(Source.MEMBER, 100)}


# Locks ---------------------------------------------------------------------------------------------------------


async def test_locks_are_told_apart_however_their_names_nest() -> None:
    """The keys of `a` stand before and behind those of `a/b` and `a/b/c`: each line has its own."""
    store = MemoryStore()
    await fill(store, "/locks/a/c1", value=b"host:1 since 2026-11-30T03:12:52Z")
    await fill(store, "/locks/a/b/3", "/locks/a/b/c/9", "/locks/a/1f", "/locks/a/b/1", "/locks/a-b/1", "/locks/x")
    async with connected(store, follow=()) as tide:
        assert await lines(tide) == {
            "a/b/c": ("held", 0),
            "a/b": ("held", 1),
            "a": ("held", 1),
            "a-b": ("held", 0),
        }
        (a,) = [line.first async for line in tide.catalog.locks() if line.lock == "a"]
        assert a is not None
        assert (a.name, a.held_by.name, a.held_by.since) == (b"c1", "host:1", "2026-11-30T03:12:52Z")


async def test_a_line_is_in_the_order_in_which_its_keys_were_made() -> None:
    """The oldest key has the lock; each says for how long its lease lasts, some clients leave no name."""
    store = MemoryStore()
    for lease, ttl in ((0x2A, 60), (0x1B, 10)):
        await store.call(LeaseGrant(ttl, lease), member=store.members[0], timeout=1)
    await fill(store, "/locks/a/2a", lease=0x2A, value=b"host:1 since 2026-11-30T03:12:52Z")
    await fill(store, "/locks/a/1b", lease=0x1B)
    await fill(store, "/locks/a/longer/1c")
    async with connected(store, follow=()) as tide:
        line = await tide.catalog.lock("a")
    assert line.first is not None
    (behind,) = line.behind
    assert (line.state, line.waiting, line.first.held_by.name, line.first.granted) == ("held", 1, "host:1", 60)
    assert (behind.name, behind.held_by.name, behind.granted) == (b"1b", "", 10)
    assert behind.ttl is not None
    assert 5 <= behind.ttl <= 10


async def test_a_line_begins_with_the_key_of_the_holder() -> None:
    """What is held here is told as its holder has it: name, and the token that fences."""
    async with connected(MemoryStore(), follow=()) as tide:
        async with tide.lock("a") as held:
            line = await tide.catalog.lock("a")
        assert line.first is not None
        assert fencing_token(line.first.revision, 0) == held.token
        assert line.first.held_by.name
        assert (await tide.catalog.lock("b")).state == "free"


async def test_a_key_that_is_nobodys_place_blocks_a_line() -> None:
    """A foreign key that is the oldest leaves the lock to nobody; behind others it only waits there."""
    store = MemoryStore()
    await fill(store, "/locks/a/foreign", "/locks/a/1b", "/locks/b/1b", "/locks/b/00")
    async with connected(store, follow=()) as tide:
        assert await lines(tide) == {"a": ("blocked", 1), "b": ("held", 1)}
        line = await tide.catalog.lock("b")
        assert [each.foreign for each in line.behind] == [True]
        with pytest.raises(ValueError, match="begin or end with a slash"):
            await tide.catalog.lock("a/")


async def test_a_line_without_a_quorum_knows_nothing_of_leases() -> None:
    """A surviving member's line is labelled; nobody says then how long leases last."""
    store = MemoryStore()
    await fill(store, "/locks/a/1b")
    async with connected(store, follow=()) as tide:
        store.down = set(store.members[:2])
        await tide.health.wait_for(HealthState.DEGRADED)
        line = await tide.catalog.lock("a")
        assert line.first is not None
        assert (line.source, line.first.ttl) == (Source.MEMBER, None)
        assert [each.source async for each in tide.catalog.locks()] == [Source.MEMBER]
