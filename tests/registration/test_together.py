"""Keys of registrations that become due in the same moment are written in one transaction."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from tests.registration.support import published
from tests.registration.test_trouble import TTL, Rights, begin
from tests.support import connected
from tideover import Registration, RegistrationState, connect
from tideover.registration.rules import SPREAD
from tideover.store.operations import Delete, Op, Put, Result
from tideover.store.transactions import Txn
from tideover.testing import FaultyStore, MemoryStore

pytestmark = pytest.mark.anyio


def puts_of(op: Op[Result]) -> int:
    """Return how many keys of services a transaction puts."""
    steps = op.then if isinstance(op, Txn) else ()
    return sum(isinstance(step, Put) and step.key.startswith(b"/services/") for step in steps)


async def test_those_who_return_together_share_transactions() -> None:
    """Two hundred registrations return after their lease was taken away: one transaction in a tenth of a second
    at the most, each within etcd's 128 operations, none of them twice, and the last one within the spread."""
    store = FaultyStore(memory := MemoryStore())
    portions: list[int] = []

    def count(op: Op[Result]) -> bool:
        if found := puts_of(op):
            assert isinstance(op, Txn)
            assert max(len(op.compares), len(op.then)) <= 128
            portions.append(found)
        return False

    async with connected(store) as tide:
        found = await begin(tide, "api", 200)
        store.inject("UNAVAILABLE", when=count)
        memory.revoke(*memory.leases)
        await anyio.sleep(SPREAD + 0.5)
        assert [each.status.comebacks for each in found] == [1] * 200
        assert sum(portions) == len(published(memory)) == 200
        assert len(portions) <= SPREAD / 0.1 + 2
        await anyio.sleep(3 * TTL)
        assert all(each.registered for each in found)
        assert len(memory.leases) == 1


@pytest.mark.parametrize("applied", [True, False])
async def test_a_lost_reply_is_settled_for_each(applied: bool) -> None:
    """The reply to the write of many is lost: whether it was applied or not, each is there once, and stays;
    but one that was given up meanwhile, whose key is deleted."""
    store = FaultyStore(memory := MemoryStore())
    async with connected(store) as tide:
        await begin(tide, "web")
        store.inject(
            "UNAVAILABLE", "etcdserver: request timed out", when=lambda op: puts_of(op) > 1, applied=applied
        )
        handles = [
            tide._parts.registrations.start(Registration("api", f"http://10.0.0.7:{8000 + n}", ttl=TTL))
            for n in range(20)
        ]
        await anyio.lowlevel.checkpoint()
        handles[0].begin_deregistering()
        for each in handles[1:]:
            await each.wait_registered()
        await anyio.sleep(3 * TTL)
        assert sorted(each.url for each in published(memory)) == sorted(each.endpoint.url for each in handles[1:])
        assert all(each.registered and not each.status.comebacks for each in handles[1:])
        assert len(memory.leases) == 1


async def test_one_that_is_refused_costs_the_others_no_error(caplog: pytest.LogCaptureFixture) -> None:
    """One of thirty that begin together may not be written: it is refused, alone; the others are there at once."""
    caplog.set_level(logging.ERROR, "tideover")
    rights = Rights(memory := MemoryStore())
    rights.denied = b"/services/web/"
    async with connected(rights.store) as tide:
        culprit = tide._parts.registrations.start(Registration("web", "http://10.0.0.7:1", ttl=TTL))
        began = anyio.current_time()
        others = await begin(tide, "api", 29)
        assert anyio.current_time() - began < 0.1
        await anyio.sleep(0.1)
        assert culprit.status.state is RegistrationState.REFUSED
        assert all(each.status.error is None for each in others)
        assert len([record for record in caplog.records if "refused" in record.message]) == 1
        assert len(published(memory)) == 29


@pytest.mark.parametrize("after", [0.001, 0.003, 0.005, 0.007])
async def test_one_that_is_given_up_meanwhile_takes_no_other(after: float) -> None:
    """One of twenty is given up while all are being written: it is gone, and the others are there and stay."""
    memory = MemoryStore()
    memory.delay = 0.002
    async with connected(memory) as tide:
        handles = [
            tide._parts.registrations.start(Registration("api", f"http://10.0.0.7:{8000 + n}", ttl=TTL))
            for n in range(20)
        ]
        await anyio.sleep(after)
        await handles[7].deregister()
        for each in handles[:7] + handles[8:]:
            await each.wait_registered()
        assert len(published(memory)) == 19
        await anyio.sleep(2 * TTL)
        assert len(published(memory)) == 19
        assert not any(each.status.comebacks for each in handles)


async def test_keys_that_were_deleted_at_once_are_put_again_at_once() -> None:
    """An operator deletes the keys of a hundred registrations: all are back within 0.3 s, under the same lease."""
    store = FaultyStore(memory := MemoryStore())
    async with connected(store) as tide:
        found = await begin(tide, "api", 100)
        leases = memory.leases
        memory._apply([Delete(f"/{each.endpoint.key}".encode()) for each in found], memory.members[0])
        memory.touch()
        assert published(memory) == []
        await anyio.sleep(0.3)
        assert len(published(memory)) == 100
        assert memory.leases == leases
        assert [each.status.comebacks for each in found] == [1] * 100


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_given_up_in_a_callback_of_the_event_loop() -> None:
    """A callback, such as a server's handler of a signal, gives a registration up, though it can begin no task."""
    store = MemoryStore()
    async with connect(store=store, cache_dir=False) as tide, tide.register("api", "http://10.0.0.7:8000") as here:
        failed: list[dict[str, Any]] = []
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: failed.append(context))
        loop.call_soon(here.begin_deregistering, context=contextvars.Context())
        with anyio.fail_after(5):
            while published(store):
                await anyio.sleep(0.01)
        assert not failed
