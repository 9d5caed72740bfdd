"""Who leads, by name: in the record, and wherever people are told."""

from __future__ import annotations

import json
import os
import socket
from typing import Any

import anyio
import pytest

from tests.support import connected
from tideover import Leader, LeadershipLost
from tideover.elections.record_document import RecordDocument, decode
from tideover.holders import NOBODY, Holder
from tideover.store.operations import Put, Range
from tideover.testing import MemoryStore

pytestmark = pytest.mark.anyio

KEY = b"/elections/reaper"
ME = f"{socket.gethostname()}:{os.getpid()}"


async def record(store: MemoryStore) -> dict[str, Any]:
    """Return the record in etcd."""
    found = (await store.call(Range(KEY), member=store.members[0], timeout=1)).entries[KEY]
    return dict(json.loads(found.value))


async def write(store: MemoryStore, fields: dict[str, Any]) -> None:
    """Replace the record in etcd."""
    await store.call(Put(KEY, json.dumps(fields).encode()), member=store.members[0], timeout=1)


async def test_the_record_names_its_holder() -> None:
    """Name and since when, the same for the whole term; the address stays what was given; nothing once vacant."""
    store = MemoryStore()
    async with connected(store) as tide:
        async with tide.leader("reaper"):
            first = await record(store)
            assert first["held_by"]["name"] == ME
            assert first["held_by"]["holder"] == first["holder"]
            assert first["address"] == ""
            async with tide.register("api", "http://10.0.0.7:8000"):
                await anyio.sleep(60)
            later = await record(store)
            assert (later["held_by"], later["write"] != first["write"]) == (first["held_by"], True)
            leader = await tide.election("reaper").current()
            assert isinstance(leader, Leader)
            assert (leader.name, leader.since, leader.address) == (ME, first["held_by"]["since"], "")
            assert tide.status().elections[0].held_by == f"{ME} since {leader.since}"
        assert "held_by" not in await record(store)


async def test_a_registered_url_is_named() -> None:
    """With a registration its URL stands beside the process."""
    store = MemoryStore()
    async with connected(store) as tide, tide.register("api", "http://10.0.0.7:8000"), tide.leader("reaper"):
        assert (await record(store))["held_by"]["name"] == f"{ME} (http://10.0.0.7:8000)"


async def test_a_name_counts_only_with_its_holder() -> None:
    """An older version that took over writes back what it does not know: its predecessor's name is not its own."""
    store = MemoryStore()
    async with connected(store) as tide:
        async with tide.leader("reaper"):
            ours = await record(store)
        older = {**ours, "holder": "older", "vacant": False, "held_by": {"holder": "x", "name": ME, "since": ""}}
        await write(store, older)
        leader = await tide.election("reaper").current()
        assert leader is not None
        assert (leader.holder, leader.name, leader.since) == ("older", "", "")
        with anyio.move_on_after(1):
            async with tide.leader("reaper"):
                raise AssertionError
        with anyio.fail_after(30):
            async with tide.leader("reaper"):
                assert (await record(store))["held_by"]["name"] == ME


@pytest.mark.parametrize("held_by", [None, 5, "web", {"holder": "me"}, {"holder": "me", "name": 1, "since": ""}])
def test_a_name_that_is_none_spoils_nothing(held_by: object) -> None:
    """What is wrong about the name never makes a record useless."""
    fields = {"needs": 1, "holder": "me", "term": 1, "policy": "step_down", "ttl": 15, "write": "w"}
    found = decode(json.dumps({**fields, "held_by": held_by}).encode(), KEY)
    assert found.held_by == NOBODY
    assert found.holder_shown == "me"
    assert "held_by" not in json.loads(found.encode())


def test_a_document_comes_back() -> None:
    """Encoded and decoded, a document with a name is the same."""
    document = RecordDocument("me", 1, "stay", 15.0, "w", held_by=Holder("web-1:2", "2026-11-30T03:12:52Z"))
    assert decode(document.encode(), KEY) == document
    assert document.holder_shown == "web-1:2 since 2026-11-30T03:12:52Z"


async def test_a_loss_names_the_successor() -> None:
    """Who was overthrown hears by whom, escaped and cut, whatever stands in etcd."""
    store = MemoryStore()
    async with connected(store) as tide:
        with pytest.raises(LeadershipLost) as caught:
            async with tide.leader("reaper"):
                name = "\x1b[31mweb-2\n" + "x" * 500
                taken = {"holder": "other", "held_by": {"holder": "other", "name": name, "since": "2026"}}
                await write(store, {**await record(store), **taken})
                await anyio.sleep(60)
    assert r"\x1b[31mweb-2\nxxx" in str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


async def test_a_candidate_knows_who_leads() -> None:
    """While it waits, and afterwards, a leadership says who leads instead."""
    store = MemoryStore()
    async with connected(store) as tide, connected(store) as other, tide.leader("reaper"):
        waiting = other.leader("reaper")
        assert waiting.held_by == ""
        with anyio.move_on_after(1):
            async with waiting:
                raise AssertionError
        assert waiting.held_by.startswith(f"{ME} since ")
